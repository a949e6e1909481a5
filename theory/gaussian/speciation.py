r"""When a diffusion decides: speciation of classes in Gaussian mixtures, and the curves around it.

Times are Ornstein-Uhlenbeck (OU): x_t = e^-t x_0 + (1 - e^-2t)^(1/2) z. Two clusters at +-m with variance s^2 within
have at time t the signal

    S(t) = |m|^2 e^-2t / (s^2 e^-2t + 1 - e^-2t) = |m|^2 / (s^2 + e^2t - 1),                                       (1)

on which everything about their classes depends: projected on m, in units of its spread, x_t is a scalar mixture at
+-S^(1/2) of variance 1, whose class posterior is (1 +- tanh(S^(1/2) x)) / 2.

**Speciation times** of the literature differ by numbers of order 1, so each is returned with its criterion's name:

    signal       S = 1, where the curvature of ln p_t at 0 changes sign           1/2 ln(|m|^2 + 1 - s^2)
    covariance   the data's largest variance, shrunk by e^-2t, is the noise's 1   1/2 ln(|m|^2 + s^2)
    potential    the potential of the reverse equation bends over at 0            1/2 ln(|m|^2 + hypot(|m|^2, s^2 - 1))

(Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491, for the second; Raya & Ambrogioni, arXiv:2305.19693, for the
third.) **Retention** of the class by a forward-backward, which is the agreement of two clones of one x_t:

    E sum_k r_k(x_t)^2                                    exact reverse SDE, any mixture                            (2)
    phi(S) = (1 + E_z tanh^2(S + S^(1/2) z)) / 2          the same for two symmetric clusters                       (3)
    Phi(S^(1/2))                                          probability-flow ODE, two symmetric clusters              (4)

since the SDE draws the class anew from its posterior and the ODE keeps the side that x_t is on: the sampler is part of
the prediction.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num
from scipy import optimize, special

from diffusion.measure import Estimate, mean_estimate
from hierarchical import GaussianMixture, TreeMixture

from ..domain import Number, between, count, grid, not_negative, positive


class CriticalTime(NamedTuple):
    """A time and what it is defined by."""

    time: float
    """OU units; NaN where no time t >= 0 fulfils the criterion."""
    criterion: str


def signal(squared_norm: Number, variance: Number, t: Number | Num[np.ndarray, "*grid"]) -> float | np.ndarray:
    """S(t), equation (1), for t >= 0; infinite for clusters of variance 0 at t = 0.

    Raises:
      ValueError: as all functions of this file, if |m|^2, s^2 or a signal is negative, a time is, or any is not finite.
    """
    squared_norm, variance = not_negative("squared_norm", squared_norm), not_negative("variance", variance)
    t = np.asarray(t, float)
    if not (np.isfinite(t).all() and (t >= 0).all()):
        raise ValueError(f"t = {t[~(t >= 0) | np.isinf(t)].ravel()[0]}: give finite times t >= 0")
    shrinkage = np.exp(-2 * t)
    spread = variance * shrinkage - np.expm1(-2 * t)
    with np.errstate(divide="ignore"):
        value = squared_norm * shrinkage / np.where((spread > 0) | (squared_norm > 0), spread, 1)  # S = 0 if |m| = 0
    return value if np.ndim(value) else float(value)


def time_of_signal(squared_norm: Number, variance: Number, value: Number) -> float:
    """The time at which S(t) = `value` > 0; NaN if S is below it from the start."""
    squared_norm, variance = not_negative("squared_norm", squared_norm), not_negative("variance", variance)
    return _half_log(squared_norm / positive("value", value) + 1 - variance)


def speciation_time(squared_norm: Number, variance: Number) -> CriticalTime:
    """S = 1, for clusters at +-m of variance s^2 per coordinate; `squared_norm` is |m|^2."""
    return CriticalTime(time_of_signal(squared_norm, variance, 1.0), "signal")


def covariance_speciation_time(squared_norm: Number, variance: Number) -> CriticalTime:
    """1/2 ln of the largest eigenvalue of the data's covariance.

    Source: Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491.
    """
    squared_norm, variance = not_negative("squared_norm", squared_norm), not_negative("variance", variance)
    return CriticalTime(_half_log(squared_norm + variance), "covariance")


def potential_speciation_time(squared_norm: Number, variance: Number) -> CriticalTime:
    """Where the symmetric point of the reverse equation's potential becomes unstable.

    Source: Raya & Ambrogioni, arXiv:2305.19693.
    """
    squared_norm, variance = not_negative("squared_norm", squared_norm), not_negative("variance", variance)
    return CriticalTime(_half_log(squared_norm + math.hypot(squared_norm, variance - 1)), "potential")


def variance_speciation_time(dimension: int, first: Number, second: Number) -> CriticalTime:
    """Two centred classes that differ in their variances alone, in many dimensions: 1/4 ln(d (v_a - v_b)^2 / 8)."""
    dimension = count("dimension", dimension, 1)
    apart = abs(not_negative("first", first) - not_negative("second", second))
    return CriticalTime(_half_log(math.sqrt(dimension / 8) * apart), "variance")


def clone_probability(value: Number) -> float:
    """phi(S) of equation (3), two symmetric clusters, exact reverse SDE; from 1/2 at S = 0 to 1.

    As 1 - E sech^2 / 2, by the trapezoidal rule: the integrand is analytic in a strip of half-width pi / (2 S^(1/2)).
    """
    value = not_negative("value", value)
    z = np.linspace(-10, 10, 4001)
    weights = np.exp(-(z**2) / 2)
    decay = np.exp(-2 * abs(value + math.sqrt(value) * z))
    return float(1 - 2 * (weights / weights.sum()) @ (decay / (1 + decay) ** 2))


def ode_clone_probability(value: Number) -> float:
    """Equation (4): class retention under the probability-flow ODE."""
    return float(special.ndtr(math.sqrt(not_negative("value", value))))


def signal_of_clone_probability(probability: Number) -> float:
    """S at which phi(S) = `probability`, 1/2 < probability < 1."""
    probability = between("probability", probability, 0.5, 1.0)

    def excess(log_signal: float) -> float:
        return clone_probability(math.exp(log_signal)) - probability

    return math.exp(optimize.root_scalar(excess, bracket=(-40, 5), xtol=1e-13).root)


def mixture_retention(
    key: Key[Array, ""],
    mixture: GaussianMixture | TreeMixture,
    t: Number | Float[Array, ""],
    num_draws: int,
    level: int | None = None,
) -> Estimate:
    """Equation (2) of any mixture on the OU path, by Monte Carlo.

    Args:
      t: at least 0; inside jit a time below 0 gives NaN.
      num_draws: at least 2, for an error.
      level: of a tree, whose nodes count as classes; None: the components.

    Raises:
      ValueError: if an argument is out of range, or a level is given for a mixture without levels.
    """
    num_draws = count("num_draws", num_draws, 2)
    if level is not None and not isinstance(mixture, TreeMixture):
        raise ValueError(f"level = {level}: a mixture without a tree has no levels, give a TreeMixture or level = None")
    if level is not None and isinstance(mixture, TreeMixture):
        level = count("level", level, 0, len(mixture.branching))
    law = mixture.mixture if isinstance(mixture, TreeMixture) else mixture
    return _retention(key, mixture, grid("t", t, 0.0, math.inf, law.means.dtype), num_draws, level)


@eqx.filter_jit
def _retention(
    key: Key[Array, ""],
    mixture: GaussianMixture | TreeMixture,
    t: Float[Array, ""],
    num_draws: int,
    level: int | None,
) -> Estimate:
    law = mixture.mixture if isinstance(mixture, TreeMixture) else mixture
    noised = law.noised(jnp.exp(-t), jnp.sqrt(-jnp.expm1(-2 * t)))

    def one(key):
        posterior = noised.component_posterior(noised.sample(key).x)
        if isinstance(mixture, TreeMixture) and level is not None:
            posterior = mixture.node_posterior(posterior, level)
        return jnp.sum(posterior**2)

    return mean_estimate(jax.vmap(one)(jax.random.split(key, num_draws)))


def _half_log(number: Number) -> float:
    """ln(number) / 2 where that is a time."""
    return math.log(number) / 2 if number >= 1 else math.nan
