r"""The largest eigenvalue of the samples' part in the spectrum of random features, at finite n, p and d.

In U of `theory.random_features` the terms of all Hermite orders k have the same data and the same features,

    U = sum_k (1/p) Phi_k [w_k^2 C_k + r_k] Phi_k^T / N_k,     N_k = C(d+k-1, k) - C(d+k-3, k-2),                  (1)

with N_k the number of harmonics of degree k in d dimensions, C_k their sample covariance over n data and Phi_k
(p x N_k) of independent unit numbers. Let x_mu and a_j be the shares of datum mu and feature j, mean 1. For sizes that
grow together the resolvent of U has a deterministic limit with two unknowns, m of the data and q of the features
(Silverstein's equation, applied twice). With e_k = w_k^2 m + r_k they lie on the curve

    eta = (1/n) sum_k w_k^2 / (e_k / N_k - zeta),                m = E_x x / (1 + x eta),                          (2)
    kappa = (1/p) sum_k e_k / (e_k / N_k - zeta),                1 = E_a a / (q + a kappa),    lambda = zeta q,    (3)

whose parameter is eta, and edges of the spectrum are the extrema of lambda on it. Between the linear order, which lies
above zeta, and all others the right side of eta grows with zeta from -oo to oo, so each eta has its one zeta there.

The shares scatter because norms do: x is w^2 at a signal of |x|^2 / d times the mean, chi-squared of d degrees of
freedom over d, and a is w^2 + r at |w|^2 / d times signal and noise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import interpolate, optimize, special, stats

from .moments import Feature, FeatureMoments, moments_at

MOST_NODES = 1000
ETA_NODES = 100


class _Orders(NamedTuple):
    """The terms of equation (1): the linear one first, unless mu = 0; last the sum of those above order 8."""

    sizes: Float[np.ndarray, " k"]
    """N_k; infinite for the last."""
    sample: Float[np.ndarray, " k"]
    """w_k^2."""
    rest: Float[np.ndarray, " k"]
    """r_k."""


class _Curve(NamedTuple):
    """Equations (2) and (3), for zeta above all orders but the linear one."""

    orders: _Orders
    linear: bool
    num_points: int
    num_features: int
    x: Float[np.ndarray, " nodes"]
    a: Float[np.ndarray, " nodes"]

    def height(self, eta: float) -> float:
        """lambda at a value of eta."""
        orders = self.orders
        e = orders.sample * float(np.mean(self.x / (1 + self.x * eta))) + orders.rest
        poles = e / orders.sizes
        low = float(poles[1:].max()) if self.linear else float(poles.max())
        far = 1e16 * float(orders.sample.sum() * self.x.max()) / self.num_points
        width = float(poles[0]) - low if self.linear else far
        if not width > 0:
            return -math.inf

        def excess(s: float) -> float:
            return float(np.sum(orders.sample / (poles - low - width * special.expit(s)))) / self.num_points - eta

        zeta = low + width * special.expit(optimize.brentq(excess, -90, 35, xtol=1e-13))
        kappa = float(np.sum(e / (poles - zeta))) / self.num_features
        shares = self.a * kappa
        last, above = int(np.argmin(shares)), shares - shares.min()

        def excess_of_features(q: float) -> float:
            return float(np.mean(self.a / (q + above))) - 1

        q = optimize.brentq(excess_of_features, self.a[last] / (2 * len(self.a)), 1.0) - shares.min()
        return float(zeta * q)


def samples_edge(
    feature: Feature,
    moments: FeatureMoments,
    num_features: int,
    num_points: int,
    dimension: int,
    signal: float,
    noise: float,
) -> float:
    """The minimum of lambda on the curve (2), (3) below the population's part; arguments as `spectrum_edges` checks.

    Raises:
      ValueError: if there is no minimum: the two parts are not apart.
    """
    x, a = _scatter(feature, signal, noise, dimension, num_points, num_features)
    curve = _Curve(_orders(moments, dimension, signal, noise), moments.slope != 0, num_points, num_features, x, a)
    grid = _parameters(-1 / float(x.max()), curve.linear)
    heights = np.array([curve.height(eta) for eta in grid])
    rises = heights[1:] > heights[:-1]
    if not rises.any():
        raise ValueError(
            f"num_features = {num_features}, num_points = {num_points}, dimension = {dimension}: the eigenvalues of "
            f"population and samples are not apart, raise both numbers or lower the dimension"
        )
    last = int(np.flatnonzero(rises)[-1])  # of the last ascent, which ends at the population
    start = last - int(np.argmin(rises[last::-1])) + 1 if not rises[: last + 1].all() else 0
    low, high = grid[max(start - 1, 0)], grid[start + 1]

    def height(share: float) -> float:
        return curve.height(low + (high - low) * share)

    lowest = optimize.minimize_scalar(height, bounds=(0.0, 1.0), method="bounded")
    return float(lowest.fun)


def _parameters(least: float, linear: bool) -> Float[np.ndarray, " grid"]:
    """Values of eta above `least`, where 1 + x eta is 0, in steps that are fine beside it and beside 0."""
    steps = np.geomspace(1e-14, 0.5, ETA_NODES)
    below = np.concatenate([least * (1 - steps[steps > 1e-4]), least * steps[-2::-1]])
    return np.concatenate([below, np.geomspace(1e-14, 1e4, ETA_NODES)]) if linear else below


def _orders(moments: FeatureMoments, dimension: int, signal: float, noise: float) -> _Orders:
    k, d = np.arange(2, len(moments.orders) + 2), dimension
    sizes = np.array([math.comb(d + i - 1, i) - math.comb(d + i - 3, i - 2) for i in k.tolist()], float)
    share = (signal / (signal + noise)) ** k
    sample, rest = np.array(moments.orders) * share, np.array(moments.orders) * (1 - share)
    kept = sample > 1e-13 * moments.sample  # the others join the last term
    sizes, sample, rest = sizes[kept], sample[kept], rest[kept]
    linear = (d, moments.slope**2 * signal, moments.slope**2 * noise)
    last = (math.inf, max(moments.sample - sample.sum(), 0.0), max(moments.rest - rest.sum(), 0.0))
    terms = [*([linear] if moments.slope else []), *zip(sizes, sample, rest, strict=True), last]
    return _Orders(*np.array(terms).T)


def _scatter(
    feature: Feature, signal: float, noise: float, dimension: int, num_points: int, num_features: int
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " features"]]:
    """x and a of equations (2), (3), mean 1: a datum's norm scales the signal in h, a feature's norm the noise too."""

    def shares(size: int, moment: Callable[[float], float]) -> Float[np.ndarray, " size"]:
        nodes = min(size, MOST_NODES)
        norms = stats.chi2.ppf((np.arange(nodes) + 0.5) / nodes, dimension) / dimension
        grid = np.geomspace(norms[0], norms[-1], 8)
        log_moments = np.log([moment(float(square)) for square in grid])
        found = np.exp(interpolate.CubicSpline(np.log(grid), log_moments)(np.log(norms)))
        return found / found.mean()

    def of_feature(square: float) -> float:
        moments = moments_at(feature, signal * square, noise * square)
        return moments.sample + moments.rest

    x = shares(num_points, lambda square: moments_at(feature, signal * square, noise).sample)
    return x, shares(num_features, of_feature)
