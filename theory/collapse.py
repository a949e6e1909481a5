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
falls to 0 at the collapse as d -> infinity at fixed ln n / d.

At finite n and d both are integrals, for isotropic data. A softmax weight is the chance that its point has the least
energy once independent standard Gumbel variables G are taken off (the Gumbel-max rule). With energies D_i / 2,
D_i = |x_t - e^-t x_i|^2 / s^2, the seed's |z|^2 / 2 among them, and given |x_t|, all points are independent:

    E w_seed = E int dF_seed(y) (1 - F(y))^(n-1),       F(y) = P(D/2 - G < y | x_t),                               (4)

F_seed the same for |z|^2. ln w_seed is the energy of the seed with its minus sign plus ln sum e^(-D_i/2), whose mean
is that of -min_i(D_i / 2 - G_i), less Euler's constant c:

    E ln w_seed = E[min over all points of (D_i/2 - G_i)] - E|z|^2 / 2 + c.                                        (5)

D and |z|^2 given |x_t| are noncentral chi-squared, so (4) and (5) are exact, up to quadrature (our derivation).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import optimize, special, stats
from scipy.signal import fftconvolve

from diffusion.measure import Estimate, mean_estimate
from hierarchical import GaussianMixture

Number = float | int

LONGEST = 20.0  # OU units; no number of points is distinguished by so little
SHORTEST = 1e-12


def isotropic_collapse_time(num_points: Number, dimension: int, variance: Number = 1.0) -> float:
    """t_C = 1/2 ln(1 + s^2 / (n^(2/d) - 1)) of one isotropic cluster; n > 1."""
    _check_points(num_points)
    return math.log1p(variance / math.expm1(2 * math.log(num_points) / dimension)) / 2


def spectrum_collapse_time(num_points: Number, variances: Float[np.ndarray, " d"]) -> float:
    """The root of equation (2), OU units.

    Raises:
      ValueError: if a variance is negative, or n <= 1.
    """
    _check_points(num_points)
    if np.min(variances) < 0 or np.max(variances) <= 0:
        raise ValueError(f"variances from {np.min(variances)} to {np.max(variances)}: none negative, one above 0")
    return _root(lambda t: float(np.sum(np.log1p(variances / np.expm1(2 * t)))) / 2 - math.log(num_points))


class SeedWeight(NamedTuple):
    """What a noised point of a finite set still says of itself, on average."""

    mean: float
    """E w_seed, from 1/n at large t to 1."""
    excess_entropy: float
    """f = -E ln w_seed / d, nats, from ln n / d to 0."""


def isotropic_seed_weight(num_points: int, dimension: int, t: Number, variance: Number = 1.0) -> SeedWeight:
    """Equations (4) and (5), for n points drawn from N(0, s^2) in d dimensions.

    Quadrature leaves errors of 1e-5, and of 1e-4 where energies hardly differ (large t, one dimension).

    Raises:
      ValueError: if an argument is out of range.
    """
    _check_points(num_points)
    if dimension < 1 or not (t > 0 and variance > 0):
        raise ValueError(f"dimension = {dimension}, t = {t}, variance = {variance}: need d >= 1, the others positive")
    signal, noise = math.exp(-2 * t) * variance, -math.expm1(-2 * t)
    total = signal + noise
    # |x_t|^2 / (2 total) has the law for which Gauss-Laguerre is made
    nodes, weights = special.roots_genlaguerre(24, dimension / 2 - 1)
    means = np.zeros(2)
    for square, weight in zip(2 * total * nodes, weights / weights.sum(), strict=True):
        means += weight * _race(num_points, dimension, square, signal, noise)
    return SeedWeight(float(means[0]), float((dimension / 2 - np.euler_gamma - means[1]) / dimension))


def _race(num_points: int, dimension: int, square: float, signal: float, noise: float) -> np.ndarray:
    """Given |x_t|^2: the chance that the seed's energy less a Gumbel is the least, and the mean of the least.

    Energies are in the units of equation (4); a sum of independent variables is the convolution of one's density with
    the other's distribution, on a grid.
    """
    total = signal + noise
    # z given x_t is N(noise^(1/2) x_t / total, signal / total); x_t - e^-t x' given x_t is N(x_t, signal)
    seed = signal / total, noise * square / total**2
    other = signal / noise, square / noise
    step, reach = 0.025, 40.0
    top = float(seed[0] / 2 * stats.ncx2.ppf(1 - 1e-12, dimension, seed[1] / seed[0]))  # beyond, all is decided
    grid = np.arange(-reach, top + 4.0, step)
    gumbel = np.arange(-4.0, reach, step)  # G; below -4 its density is e^(4 - e^4)
    density = np.exp(-gumbel - np.exp(-gumbel)) * step

    def distribution(scale: float, shift: float) -> np.ndarray:
        """P(energy - G < y) = int P(energy < y + G) dG."""
        fine = np.arange(grid[0] + gumbel[0], grid[-1] + gumbel[-1] + step / 2, step)
        below = stats.ncx2.cdf(np.maximum(2 * fine / scale, 0), dimension, shift / scale)
        return fftconvolve(below, density[::-1], mode="valid")[: len(grid)]

    first, survives = distribution(*seed), np.clip(1 - distribution(*other), 0, 1) ** (num_points - 1)
    won = np.sum(np.diff(first) * (survives[1:] + survives[:-1]) / 2)
    none_below = (1 - first) * survives
    least = grid[0] + step * (np.sum(none_below) - (none_below[0] + none_below[-1]) / 2)
    return np.array([won, least])


def hypercube_information(snr: float) -> float:
    """i(q) of equation (3), nats per coordinate: what a noisy sign says of the sign, from 0 to ln 2."""
    z = np.linspace(-12, 12, 8001)
    weights = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    field = np.abs(snr + math.sqrt(snr) * z)
    return float(snr - weights @ (field + np.log1p(np.exp(-2 * field)) - math.log(2)))


def hypercube_collapse_time(log_points_per_dimension: float) -> float:
    """The root of equation (3) at ln n / d.

    Raises:
      ValueError: unless 0 < ln n / d < ln 2: beyond that all corners are in the set.
    """
    if not 0 < log_points_per_dimension < math.log(2):
        raise ValueError(f"ln n / d = {log_points_per_dimension}: must lie between 0 and ln 2 = {math.log(2):.4f}")
    return _root(lambda t: hypercube_information(1 / math.expm1(2 * t)) - log_points_per_dimension)


def mixture_information(key: Key[Array, ""], mixture: GaussianMixture, t: Float[Array, ""], num_draws: int) -> Estimate:
    """I(x_0; x_t) of equation (1), nats, by Monte Carlo.

    What is averaged is ln N(x_t; e^-t x_0, s^2) - ln p_t(x_t), so that the noise that was drawn is in both terms.
    """
    return _information(*_draws(key, mixture, num_draws), mixture, t)


def mixture_collapse_time(
    key: Key[Array, ""], num_points: Number, mixture: GaussianMixture, num_draws: int = 4096
) -> Estimate:
    """The root of equation (1) for any mixture; the same draws at every time, so that the curve is smooth.

    The error is that of the information at the root, divided by the curve's slope there.
    """
    _check_points(num_points)
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
    x0, _ = jax.vmap(mixture.sample)(jax.random.split(data_key, num_draws))
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


def _check_points(num_points: Number) -> None:
    if not num_points > 1:
        raise ValueError(f"num_points = {num_points}: a collapse needs at least 2 points to choose from")
