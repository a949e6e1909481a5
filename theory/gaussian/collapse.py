r"""When the exact score of a finite training set falls onto a training point: collapse times.

The empirical law of n points, noised, is the mixture of n Gaussians at e^-t x_i. Undoing noise with its score is
decided among training points once the noised cloud around the seed no longer overlaps the others': when the noised
datum says as much about x_0 as it takes to single out one of n,

    I(x_0; x_t) = ln n,       I = h(x_t) - d/2 ln(2 pi e s^2) in nats,  s^2 = 1 - e^-2t.                           (1)

(Biroli et al., arXiv:2402.18491, derive the isotropic case as a random-energy model; (1) is its general form: the
partition function of the other n - 1 points is self-averaging above, dominated by the seed below.) With the signal-to-
noise ratio q = 1 / (e^2t - 1) this reads

    Gaussian, variances lambda_i    1/2 sum_i ln(1 + lambda_i q) = ln n                                            (2)
    hypercube {-1, 1}^d             d (q - E_z ln cosh(q + q^(1/2) z)) = ln n                                      (3)

The excess entropy per dimension, f(t) = -E ln w_seed / d with w_seed the softmax weight of the point that was noised,
falls to 0 at the collapse as d -> infinity at fixed ln n / d; `theory.seed_weight` has both at finite n and d.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num
from scipy import optimize

from diffusion.measure import Estimate, mean_estimate
from hierarchical import GaussianMixture

from ..domain import Number, between, count, grid, not_negative, points, positive

LONGEST = 20.0  # OU units; no number of points is distinguished by so little
SHORTEST = 1e-12


def isotropic_collapse_time(num_points: Number, dimension: int, variance: Number = 1.0) -> float:
    """t_C = 1/2 ln(1 + s^2 / (n^(2/d) - 1)) of one isotropic cluster.

    Raises:
      ValueError: unless n > 1, s^2 > 0, both finite, and d is a whole number of at least 1.

    Source: Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491.
    """
    num_points, variance = points("num_points", num_points), positive("variance", variance)
    log_ratio = 2 * math.log(num_points) / count("dimension", dimension, 1)
    return math.log1p(variance * math.exp(-log_ratio) / -math.expm1(-log_ratio)) / 2


def spectrum_collapse_time(num_points: Number, variances: Num[np.ndarray, " d"] | Num[Array, " d"]) -> float:
    """The root of equation (2), OU units.

    Raises:
      ValueError: if a variance is negative or not finite, none is positive, n <= 1, or t_C leaves [1e-12, 20].
    """
    num_points, variances = points("num_points", num_points), np.asarray(variances, float)
    if variances.ndim != 1 or not len(variances):
        raise ValueError(f"variances has shape {variances.shape}: give a list of at least 1 number")
    if not (np.isfinite(variances).all() and variances.min() >= 0 and variances.max() > 0):
        raise ValueError(f"variances = {variances}: give finite numbers, none negative and at least one above 0")
    return _root(lambda t: float(np.sum(np.log1p(variances / np.expm1(2 * t)))) / 2 - math.log(num_points))


def hypercube_information(snr: Number) -> float:
    """i(q) of equation (3), nats per coordinate: what a noisy sign says of the sign, from 0 to ln 2.

    With u = q + q^(1/2) z it is E(ln 2 - ln(1 + e^-2u)), as E u = q; one logarithm loses no digits to large q.

    Raises:
      ValueError: if q is negative or not finite.
    """
    snr = not_negative("snr", snr)
    z, step = np.linspace(-12, 12, 8001, retstep=True)
    weights = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * step
    return float(-weights @ np.log1p(np.expm1(-2 * (snr + math.sqrt(snr) * z)) / 2))


def hypercube_collapse_time(log_points_per_dimension: Number) -> float:
    """The root of equation (3) at ln n / d.

    Raises:
      ValueError: unless 0 < ln n / d < ln 2: beyond that all corners are in the set.
    """
    target = between("log_points_per_dimension", log_points_per_dimension, 0, math.log(2))
    return _root(lambda t: hypercube_information(1 / math.expm1(2 * t)) - target)


def mixture_information(
    key: Key[Array, ""], mixture: GaussianMixture, t: Number | Float[Array, ""], num_draws: int
) -> Estimate:
    """I(x_0; x_t) of equation (1), nats, by Monte Carlo; t > 0, inside jit another t gives NaN.

    What is averaged is ln N(x_t; e^-t x_0, s^2) - ln p_t(x_t), so that the noise that was drawn is in both terms.

    Raises:
      ValueError: if t is not positive and finite, or num_draws is below 2.
    """
    t = grid("t", t, SHORTEST, math.inf, mixture.means.dtype)
    return _information(*_draws(key, mixture, count("num_draws", num_draws, 2)), mixture, t)


def mixture_collapse_time(
    key: Key[Array, ""], num_points: Number, mixture: GaussianMixture, num_draws: int = 4096
) -> Estimate:
    """The root of equation (1) for any mixture; the same draws at every time, so that the curve is smooth.

    The error is that of the information at the root, divided by the curve's slope there.

    Raises:
      ValueError: unless n > 1, finite, and num_draws >= 2; if t_C leaves [1e-12, 20].
    """
    num_points, num_draws = points("num_points", num_points), count("num_draws", num_draws, 2)
    x0, z = _draws(key, mixture, num_draws)

    def information(t: float) -> Estimate:
        return _information(x0, z, mixture, jnp.asarray(t, x0.dtype))

    root = _root(lambda t: float(information(t).value) - math.log(num_points))
    step = 1e-3 * root
    slope = (float(information(root + step).value) - float(information(root - step).value)) / (2 * step)
    return Estimate(jnp.asarray(root), jnp.asarray(float(information(root).stderr) / abs(slope)))


@eqx.filter_jit
def _draws(
    key: Key[Array, ""], mixture: GaussianMixture, num_draws: int
) -> tuple[Float[Array, "draws d"], Float[Array, "draws d"]]:
    """Data and noise."""
    data_key, noise_key = jax.random.split(key)
    x0 = mixture.sample(data_key, (num_draws,)).x
    return x0, jax.random.normal(noise_key, x0.shape, x0.dtype)


@eqx.filter_jit
def _information(
    x0: Float[Array, "draws d"], z: Float[Array, "draws d"], mixture: GaussianMixture, t: Float[Array, ""]
) -> Estimate:
    alpha, sigma = jnp.exp(-t), jnp.sqrt(-jnp.expm1(-2 * t))
    log_noise = -jnp.sum(z**2, 1) / 2 - mixture.dimension * jnp.log(2 * math.pi * sigma**2) / 2
    return mean_estimate(log_noise - jax.vmap(mixture.noised(alpha, sigma).log_prob)(alpha * x0 + sigma * z))


def _root(excess: Callable[[float], float]) -> float:
    """Where a function that falls with t is 0, bisected in ln t."""
    for t, sign, what in ((SHORTEST, 1, "fewer points"), (LONGEST, -1, "more points")):
        if not sign * excess(t) > 0:
            raise ValueError(
                f"at t = {t} the information differs from ln n by {excess(t):.3g} nats: there is no collapse between "
                f"t = {SHORTEST} and {LONGEST}, ask for {what}"
            )
    bracket = (math.log(SHORTEST), math.log(LONGEST))
    return math.exp(optimize.root_scalar(lambda u: excess(math.exp(u)), bracket=bracket, xtol=1e-13).root)
