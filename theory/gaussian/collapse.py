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

F_seed the same for |z|^2. With M_seed = |z|^2 / 2 - G and M the least of the other n - 1, -ln w_seed has the mean of
M_seed - min(M_seed, M), since both minima have that of the logarithm of their sum of weights less Euler's constant:

    -E ln w_seed = E int (1 - F_seed(y)) (1 - (1 - F(y))^(n-1)) dy.                                                (5)

D and |z|^2 given |x_t| are noncentral chi-squared, so (4) and (5) are exact, up to quadrature (our derivation). The
quadrature has positive terms alone, so no digits of a small F are lost: with r^2 such a variable and c its scale,

    F(y) = int p(r) (1 - e^-u) dr,   1 - F_seed(y) = int p(r) e^-u dr,   u = e^(y - c r^2 / 2).                    (6)

They are analytic and bounded for |Im y| < pi / 2, so sums over y at steps of 1/2 err by some e^-(2 pi^2) = 3e-9.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import linalg, optimize, special

from diffusion.measure import Estimate, mean_estimate
from hierarchical import GaussianMixture

Number = float | int

LONGEST = 20.0  # OU units; no number of points is distinguished by so little
SHORTEST = 1e-12

MOST_POINTS = 1e100
MOST_DIMENSIONS = 2000
SNR_RANGE = 1e12
X_NODES = 16  # in |x_t|^2
STEP = 0.5  # in y
REACH = 7.0  # widths of a Gaussian
PANEL_NODES, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(16)  # on 6 units of energy or 2 widths of a Gaussian
FAR = 1e6  # arguments of a Bessel function


def isotropic_collapse_time(num_points: Number, dimension: int, variance: Number = 1.0) -> float:
    """t_C = 1/2 ln(1 + s^2 / (n^(2/d) - 1)) of one isotropic cluster.

    Raises:
      ValueError: unless n > 1, d >= 1, s^2 > 0, all finite.
    """
    _check_points(num_points)
    _check_cluster(dimension, variance)
    log_ratio = 2 * math.log(num_points) / dimension
    return math.log1p(variance * math.exp(-log_ratio) / -math.expm1(-log_ratio)) / 2


def spectrum_collapse_time(num_points: Number, variances: Float[np.ndarray, " d"]) -> float:
    """The root of equation (2), OU units.

    Raises:
      ValueError: if a variance is negative or not finite, none is positive, n <= 1, or t_C leaves [1e-12, 20].
    """
    _check_points(num_points)
    if not (np.min(variances) >= 0 and 0 < np.max(variances) < math.inf):
        raise ValueError(
            f"variances from {np.min(variances)} to {np.max(variances)}: none negative, one above 0, all finite"
        )
    return _root(lambda t: float(np.sum(np.log1p(variances / np.expm1(2 * t)))) / 2 - math.log(num_points))


class SeedWeight(NamedTuple):
    """What a noised point of a finite set still says of itself, on average."""

    mean: float
    """E w_seed, from 1/n at large t to 1."""
    excess_entropy: float
    """f = -E ln w_seed / d, nats, from ln n / d to 0."""


def isotropic_seed_weight(num_points: int, dimension: int, t: Number, variance: Number = 1.0) -> SeedWeight:
    """Equations (4) and (5), for n points drawn from N(0, s^2) in d dimensions.

    Range: n to 1e100, d to 2000, signal-to-noise ratios s^2 / (e^2t - 1) from 1e-12 to 1e12. Errors of mean and f,
    measured by refining every quadrature at 400 random points: 5e-6 in fewer than 30 dimensions at ratios above 1,
    2e-7 elsewhere. A call takes 2 to 15 ms near the collapse up to d = 140; far before it (mean 1) 30 ms at
    d = 50, 60 ms at d = 140, 0.1 s at d = 300 and 1 s at d = 2000.

    Raises:
      ValueError: if n, d or s^2 is out of range, or t is not finite or leaves s^2 / (e^2t - 1) outside [1e-12, 1e12].
    """
    _check_points(num_points)
    _check_cluster(dimension, variance)
    if num_points > MOST_POINTS or dimension > MOST_DIMENSIONS:
        raise ValueError(
            f"num_points = e^{math.log(num_points):.1f}, dimension = {dimension}: quadrature was measured up to "
            f"{MOST_POINTS:.0e} points and {MOST_DIMENSIONS} dimensions, ask for fewer"
        )
    signal, noise = (math.exp(-2 * t) * variance, -math.expm1(-2 * t)) if 0 < t < math.inf else (0.0, 1.0)
    if not 1 / SNR_RANGE <= signal / noise <= SNR_RANGE:
        raise ValueError(
            f"t = {t} with variance {variance}: the signal-to-noise ratio s^2 / (e^2t - 1) must lie between "
            f"{1 / SNR_RANGE:.0e} and {SNR_RANGE:.0e}, take t nearer to the collapse time"
        )
    total = signal + noise
    means = np.zeros(2)
    for node, weight in zip(*_gamma_quadrature(dimension / 2), strict=True):
        square = 2 * total * node  # |x_t|^2 / (2 total) has the gamma law of shape d / 2
        # z given x_t is N(noise^(1/2) x_t / total, signal / total); x_t - e^-t x' given x_t is N(x_t, signal)
        seed = _Energy(dimension, signal / total, noise * square / total**2)
        other = _Energy(dimension, signal / noise, square / noise)
        means += weight * _race(num_points, seed, other)
    return SeedWeight(float(means[0]), float(means[1] / dimension))


def _gamma_quadrature(shape: float) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Gauss-Laguerre nodes, and weights of sum 1, from the Jacobi matrix: the gamma function overflows at shape 172."""
    k = np.arange(X_NODES)
    nodes, vectors = linalg.eigh_tridiagonal(2 * k + shape, np.sqrt(k[1:] * (k[1:] + shape - 1)))
    return nodes, vectors[0] ** 2


class _Energy(NamedTuple):
    """An energy D / 2 given |x_t|: D = c r^2, r^2 noncentral chi-squared of d degrees of freedom."""

    dimension: int
    scale: float
    """c."""
    shift: float
    """c times the noncentrality."""

    @property
    def log_boltzmann(self) -> float:
        """ln E e^(-D/2): F(y) is below e^y times this mean, and tends to it at low y."""
        return -self.dimension / 2 * math.log1p(self.scale) - self.shift / (2 * (1 + self.scale))

    def quadrature(self, lowest: float, highest: float) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
        """Energies and their masses, for the integrals (6) at y in [lowest, highest].

        r is the length of a Gaussian vector of unit variance, so it strays by u with chance below 2 e^(-u^2/2); under
        p e^(-D/2) it is that of a vector of variance 1 / (1 + c). The integrands are like p below y, like the other
        above it, so their mass lies within REACH of the one, of the other, or of y between the two.
        """
        center = self.shift / self.scale  # noncentrality
        plain, width = math.sqrt(self.dimension + center), 1 / math.sqrt(1 + self.scale)
        tilted = width * math.sqrt(self.dimension + center * width**2)
        bottom, top = (math.sqrt(2 * max(y, 0.0) / self.scale) for y in (lowest, highest))
        low = max(0.0, tilted - REACH * width, min(bottom, plain) - REACH)
        high = min(plain + REACH, max(tilted + REACH * width, top + REACH * width))
        panels = math.ceil(max(self.scale * (high**2 - low**2) / 12, (high - low) / (2 * width)))
        half = (high - low) / (2 * panels)
        r = (low + half * (2 * np.arange(panels)[:, None] + 1 + PANEL_NODES)).ravel()
        return self.scale * r**2 / 2, half * np.tile(PANEL_WEIGHTS, panels) * np.exp(self._log_density(r, center))

    def _log_density(self, r: Float[np.ndarray, " r"], noncentrality: float) -> Float[np.ndarray, " r"]:
        order, mean = self.dimension / 2 - 1, math.sqrt(noncentrality)
        return np.log(r) + order * np.log(r / mean) - (r - mean) ** 2 / 2 + _log_scaled_bessel(order, r * mean)


def _log_scaled_bessel(order: float, x: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
    """ln(e^-x I_order(x)) for x > 0 and order >= -1/2, to 3e-8.

    Source: DLMF 10.40.1 for large x, 10.41.3 and 10.41.10 for large orders.
    """
    if order > 30:  # scipy's can underflow
        root = np.hypot(1, x / order)
        p = 1 / root
        series = (
            1
            + p * (3 - 5 * p**2) / (24 * order)
            + p**2 * (81 - 462 * p**2 + 385 * p**4) / (1152 * order**2)
            + p**3 * (30375 - 369603 * p**2 + 765765 * p**4 - 425425 * p**6) / (414720 * order**3)
        )
        exponent = order * (1 / (root + x / order) + np.log(x / order / (1 + root)))
        return exponent - np.log(2 * math.pi * order * root) / 2 + np.log(series)
    far = (4 * order**2 - 1) / (8 * x) * (1 - (4 * order**2 - 9) / (16 * x))
    near = np.log(special.ive(order, np.minimum(x, FAR)))  # scipy's is NaN from 1e9 on
    return np.where(x < FAR, near, np.log1p(-np.where(x < FAR, 0, far)) - np.log(2 * math.pi * x) / 2)


def _race(num_points: int, seed: _Energy, other: _Energy) -> Float[np.ndarray, "2"]:
    """Given |x_t|: the integrals over y in (4) and (5)."""
    plain = math.sqrt(seed.dimension + seed.shift / seed.scale)
    low, high = (seed.scale * max(plain + reach, 0.0) ** 2 / 2 for reach in (-REACH, REACH))
    first = min(max(-seed.log_boltzmann, low), -other.log_boltzmann - math.log(num_points))
    y = np.arange(first - 24.0, high + 3.5, STEP)  # e^-24 of the seeds, or of (5), lie below, e^(-e^3.5) above

    energies, masses = seed.quadrature(y[0], y[-1])
    u = np.exp(np.minimum(y[:, None] - energies, 40.0))  # e^-u is 0 long before 40
    survives = np.exp(-u)
    density, seed_left = (u * survives) @ masses, survives @ masses

    energies, masses = other.quadrature(y[0], y[-1])
    below = -np.expm1(-np.exp(np.minimum(y[:, None] - energies, 40.0))) @ masses
    log_left = (num_points - 1) * np.log1p(-np.minimum(below, np.nextafter(1, 0)))  # rounding may lead above 1
    return STEP * np.array([density @ np.exp(log_left), seed_left @ -np.expm1(log_left)])


def hypercube_information(snr: float) -> float:
    """i(q) of equation (3), nats per coordinate: what a noisy sign says of the sign, from 0 to ln 2.

    With u = q + q^(1/2) z it is E(ln 2 - ln(1 + e^-2u)), as E u = q; one logarithm loses no digits to large q.

    Raises:
      ValueError: if q is negative or not finite.
    """
    if not 0 <= snr < math.inf:
        raise ValueError(f"snr = {snr}: must be finite and not negative")
    z, step = np.linspace(-12, 12, 8001, retstep=True)
    weights = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * step
    return float(-weights @ np.log1p(np.expm1(-2 * (snr + math.sqrt(snr) * z)) / 2))


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


def _check_points(num_points: Number) -> None:
    if not 1 < num_points < math.inf:
        raise ValueError(
            f"num_points = {num_points}: a collapse needs at least 2 points to choose from, and finitely many"
        )


def _check_cluster(dimension: int, variance: Number) -> None:
    if dimension < 1 or not 0 < variance < math.inf:
        raise ValueError(f"dimension = {dimension}, variance = {variance}: give d >= 1, a positive finite variance")
