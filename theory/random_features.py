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
from scipy import optimize

Number = float | int


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


def feature_moments(
    feature: Callable[[Float[np.ndarray, "*h"]], Float[np.ndarray, "*h"]], t: Number, variance: Number = 1.0
) -> FeatureMoments:
    """mu, w^2 and r of a nonlinearity on NumPy arrays, by quadrature; t > 0 in OU units, data N(0, variance)."""
    if not (t > 0 and variance > 0):
        raise ValueError(f"t = {t}, variance = {variance}: both must be positive")
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    signal, noise = math.exp(-2 * t) * variance, -math.expm1(-2 * t)
    total = signal + noise
    h = math.sqrt(total) * nodes
    slope = float(weights @ (feature(h) * h)) / total  # E f'(h), by parts
    variance_of_feature = float(weights @ feature(h) ** 2 - (weights @ feature(h)) ** 2)
    averaged = feature(math.sqrt(signal) * nodes[:, None] + math.sqrt(noise) * nodes[None]) @ weights
    variance_of_average = float(weights @ averaged**2 - (weights @ averaged) ** 2)
    sample = variance_of_average - slope**2 * signal
    return FeatureMoments(slope, sample, variance_of_feature - variance_of_average - slope**2 * noise)


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
    """One over the inner edges of the spectrum: where the population ends, and where the samples begin."""
    population, samples = spectrum_edges(moments, num_features, num_points, dimension, t, variance)
    return TrainingTimes(1 / population[0], 1 / samples[1] if samples[1] > 0 else math.inf)
