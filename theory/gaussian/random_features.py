r"""When a diffusion model generalises and when it memorises: training times of a score linear in random features.

The score at one noise time t is A phi(x_t) / p^(1/2), with p features phi_j(x) = f(w_j . x / d^(1/2)), frozen
Gaussian w_j of unit variance, and A trained by gradient flow on n data x_t = e^-t x + s z, all noise z of every datum
seen. The loss is quadratic: along each eigenvector of the features' covariance over the training set,

    U = (1/p) mean over data of E_z phi(x_t) phi(x_t)^T,          A_k(tau) = A_k(oo) (1 - e^(-lambda_k tau)),      (1)

so 1 / lambda_k is the time at which direction k is learned, tau in units in which the rate of descent is 1. For data
N(0, v), d and p large, h ~ N(0, G) with G = e^-2t v + s^2 the variance of w . x_t / d^(1/2), and m(u) = E_z f(u + s z)
the feature averaged over the noise, expand f and m in Hermite polynomials of G and of e^-2t v. To leading order U is

    U = (1/p) [ mu^2 W C W^T / d + w^2 Q Q^T / n + r ],                                                            (2)
        mu = E f'(h),     w^2 = Var m - mu^2 e^-2t v,     r = Var f(h) - Var m - mu^2 s^2,

with C = e^-2t (sample covariance of the data) + s^2 the covariance of x_t, and Q (p x n) of independent unit numbers:
the part of the averaged features that is not linear in the datum and tells data apart. Its spectrum has three parts
that separate when p >> n >> d:

    population     d values around          mu^2 G / d                   learned first, at a time free of n        (3)
    samples        up to n values around    w^2 / n + r / p              learned at a time that grows with n       (4)
    the rest       r / p                                                 does not change what is generated

(Bonnaire, Urfin, Biroli & Mezard, arXiv:2505.17638, have the spectrum from replicas; (2) is our derivation of the same
structure; `spectrum_edges` has the edges of (3) and (4). A feature whose second Hermite coefficient is not 0, one that
is not odd, adds a few isolated eigenvalues of the data's norm.) The ratio of the two times is n mu^2 G / (d w^2):
memory is paid for in proportion to n. A score linear in x itself has w = r = 0: it learns the covariance and stops.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import interpolate, optimize

MOST_PANELS = 10_000  # of those that are halved at once
Number = float | int
Feature = Callable[[Float[np.ndarray, "*h"]], Float[np.ndarray, "*h"]]


class FeatureMoments(NamedTuple):
    """What equation (2) needs to know of a nonlinearity, at one noise time."""

    slope: float
    """mu."""
    sample: float
    """w^2: of a datum's averaged features, beyond what is linear in it."""
    rest: float
    """r: of the features' change with the noise, beyond what is linear in it."""


class TrainingTimes(NamedTuple):
    """In units of 1 / rate of the gradient flow; infinite for what is never learned."""

    generalisation: float
    """When the slowest direction of the population is learned."""
    memorisation: float
    """When the fastest direction that tells samples apart is learned."""


def feature_moments(feature: Feature, t: Number, variance: Number = 1.0) -> FeatureMoments:
    """mu, w^2 and r of a nonlinearity on NumPy arrays, by quadrature; t > 0 in OU units, data N(0, variance).

    Panels of h are halved until the feature is a polynomial on each, so that kinks and jumps are found wherever they
    are. w^2 is the mean square of the averaged feature, what is linear in h taken off before: nothing cancels.

    Against the arcsine and arc-cosine laws (sign, a step at .3, relu, erf(b h) for b = 1, 20, 3000; t from 1e-7 to 8,
    variance .3 to 10) mu was met to 3e-14 of itself, w^2 and r to 2e-14 of Var f, and w^2 for t <= 3 to 2e-11 of
    itself. A moment below 1e-24 of E f(h)^2 (of mu: its share mu^2 G) is rounding, and returned as 0: that of what is
    linear, or even, and w^2 at times when next to nothing is left of the data. A bump narrower than G^(1/2) / 50
    between smooth pieces can be missed. Takes milliseconds, in proportion to t^(-1/2) below t = .001: 2 s at 1e-7.

    Raises:
      ValueError: if t or the variance is out of range; if the noise is narrower than 1e-4 of h; if the feature is not
        finite, has a variance that |h| > 11 G^(1/2) decides, or is not smooth in pieces, in float64.
    """
    if not (t > 0 and 0 < variance < math.inf):
        raise ValueError(f"t = {t}, variance = {variance}: both must be positive, the variance finite")
    signal, noise = math.exp(-2 * t) * variance, -math.expm1(-2 * t)
    total = signal + noise
    if noise < 1e-8 * total:
        raise ValueError(f"t = {t}, variance = {variance}: noise narrower than 1e-4 of h is not resolved, raise t")
    h, values, lengths = _resolved(feature, math.sqrt(total), math.sqrt(noise))
    weights = lengths * _normal(h, math.sqrt(total))
    slope = float(weights @ (values * h)) / total  # E f'(h), by parts
    beyond = values - weights @ values - slope * h
    square, far = float(weights @ beyond**2), abs(h) > 11 * math.sqrt(total)
    if weights[far] @ beyond[far] ** 2 > 1e-12 * square:
        raise ValueError(f"{feature} grows so fast that |h| > 11 G^(1/2) decides its variance, if it has one")
    sample = _square_of_mean(h, lengths * beyond, math.sqrt(signal), math.sqrt(noise))
    level = 1e-24 * float(weights @ values**2)
    return FeatureMoments(
        slope if slope**2 * total > level else 0.0,
        sample if sample > level else 0.0,
        square - sample if square - sample > level else 0.0,
    )


def _resolved(
    feature: Feature, spread: float, noise: float
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Nodes h within 12 times their spread, in order, the feature there, and the lengths they stand for.

    A panel is halved until the polynomial through its nodes meets the feature at its ends and at the nodes of its
    halves: width times difference times the root of the density below 1e-13 of the root mean square of f. Panels are no
    wider than twice the noise, over which f is averaged later.
    """
    nodes, lengths = np.polynomial.legendre.leggauss(16)
    nodes, lengths = (nodes + 1) / 2, lengths / 2
    checks = np.concatenate([[0, 1], nodes / 2, nodes / 2 + 0.5])
    through = interpolate.BarycentricInterpolator(nodes, np.eye(16))(checks)  # (checks, nodes)
    count = math.ceil(24 * spread / min(spread / 4, 2 * noise))
    left, width = np.linspace(-12 * spread, 12 * spread, count, endpoint=False), 24 * spread / count
    done, scale = [], 0.0
    while len(left):
        h, tried = left[:, None] + width * nodes, left[:, None] + width * checks
        values, wanted = feature(h), feature(tried)
        if not (np.isfinite(values).all() and np.isfinite(wanted).all()):
            raise ValueError(f"{feature} is not finite everywhere in |h| <= {12 * spread:.3g}, 12 times its spread")
        scale = max(scale, math.sqrt(np.sum(width * lengths * _normal(h, spread) * values**2)))  # root mean square
        missed = width * np.max(abs(values @ through.T - wanted) * _normal(tried, math.sqrt(2) * spread), 1)
        rough = missed > 1e-13 * scale
        done.append(np.stack([h, values, np.broadcast_to(width * lengths, h.shape)])[:, ~rough].reshape(3, -1))
        left, width = np.concatenate([left[rough], left[rough] + width / 2]), width / 2
        if len(left) > MOST_PANELS:
            raise ValueError(f"{feature} is not smooth in pieces, in float64: {MOST_PANELS} panels did not resolve it")
    h, values, lengths = np.concatenate(done, 1)
    order = np.argsort(h)
    return h[order], values[order], lengths[order]


def _square_of_mean(
    h: Float[np.ndarray, " k"], integrand: Float[np.ndarray, " k"], signal: float, noise: float
) -> float:
    """E m(u)^2 over u ~ N(0, signal^2), m(u) the sum of `integrand` times N(h; u, noise^2).

    By the trapezoid rule: m^2 times the density has a Fourier transform of spread (2 / noise^2 + 1 / signal^2)^(1/2) at
    most, and steps of .73 / spread leave out what is beyond 8.6 spreads of it, 1e-16.
    """
    step = 0.73 * noise / math.hypot(noise, math.sqrt(2) * signal)  # of u / signal
    units = step * np.arange(-math.ceil(12 / step), math.ceil(12 / step) + 1)
    total = 0.0
    for part in np.array_split(units, math.ceil(len(units) / 256)):
        first, last = np.searchsorted(h, [signal * part[0] - 10 * noise, signal * part[-1] + 10 * noise])
        means = _normal(signal * part[:, None] - h[None, first:last], noise) @ integrand[first:last]
        total += float(_normal(part, 1.0) @ means**2) * step
    return total


def _normal(x: Float[np.ndarray, "*n"], spread: float) -> Float[np.ndarray, "*n"]:
    """The density of N(0, spread^2)."""
    return np.exp(-((x / spread) ** 2) / 2) / (math.sqrt(2 * math.pi) * spread)


def spectrum_edges(
    moments: FeatureMoments, num_features: int, num_points: int, dimension: int, t: Number, variance: Number = 1.0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest and largest eigenvalue of the population's part and of the samples', equations (3) and (4).

    Raises:
      ValueError: unless p > n > d, where the parts are apart.
    """
    p, n, d = num_features, num_points, dimension
    if not p > n > d:
        raise ValueError(f"p = {p} features, n = {n} points, d = {d}: the spectrum has these parts for p > n > d")
    signal, noise = math.exp(-2 * t) * variance, -math.expm1(-2 * t)
    # Marchenko-Pastur twice: the covariance of n data, seen through p features
    angles = (np.arange(400) + 0.5) * math.pi / 400
    ratio, edge = d / n, math.sqrt(d / n)
    values = 1 + ratio - 2 * edge * np.cos(angles)
    weights = np.sin(angles) ** 2 / values
    found = _sample_edges(signal * values + noise, weights / weights.sum(), d / p)
    floor = (moments.sample + moments.rest) / p  # what Q and r add in the directions of the population
    population = [moments.slope**2 * value / d + floor for value in found]
    samples = [moments.sample * (1 + side * math.sqrt(n / p)) ** 2 / n + moments.rest / p for side in (-1, 1)]
    return (population[0], population[1]), (samples[0], samples[1])


def _sample_edges(
    values: Float[np.ndarray, " k"], weights: Float[np.ndarray, " k"], ratio: float
) -> tuple[float, float]:
    """Ends of the spectrum of a sample covariance whose population has these eigenvalues; `ratio` dimensions a sample.

    Silverstein & Choi (1995): ends are the extrema, outside the poles, of z(m) = -1/m + ratio E[v / (1 + v m)].
    """

    def end(pole: float, outwards: int) -> float:
        """The extremum at m = -1/(pole r^(+-1)), 0 < r < 1."""

        def slope(r: float) -> float:
            shifted = values * r ** float(-outwards) / pole  # -v m
            return float(ratio * (weights @ (shifted / (1 - shifted)) ** 2) - 1)

        r = optimize.root_scalar(slope, bracket=(1e-9, 1 - 1e-9)).root
        m = -(r ** float(-outwards)) / pole
        return float(-1 / m + ratio * (weights @ (values / (1 + values * m))))

    return end(float(values.min()), 1), end(float(values.max()), -1)


def training_times(
    moments: FeatureMoments, num_features: int, num_points: int, dimension: int, t: Number, variance: Number = 1.0
) -> TrainingTimes:
    """One over the inner edges of the spectrum: where the population ends, and where the samples begin.

    Returns:
      `inf` to generalise if mu is 0, and to memorise if w^2 is: as `feature_moments` tells 0 from rounding.
    Raises:
      ValueError: unless p > n > d.
    """
    population, samples = spectrum_edges(moments, num_features, num_points, dimension, t, variance)
    return TrainingTimes(
        1 / population[0] if moments.slope else math.inf, 1 / samples[1] if moments.sample > 0 else math.inf
    )
