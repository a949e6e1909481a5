r"""When a diffusion model generalises and when it memorises: training times of a score linear in random features.

The score at one noise time t is A phi(x_t) / p^(1/2), with p features phi_j(x) = f(w_j . x / d^(1/2)), frozen
Gaussian w_j of unit variance, and A trained by gradient flow on n data x_t = e^-t x + s z, all noise z of every datum
seen. The loss is quadratic: along each eigenvector of the features' covariance over the training set,

    U = (1/p) mean over data of E_z phi(x_t) phi(x_t)^T,          A_k(tau) = A_k(oo) (1 - e^(-lambda_k tau)),      (1)

so 1 / lambda_k is the time at which direction k is learned, tau in units in which the rate of descent is 1. For data
N(0, v) expand f in Hermite polynomials of h, with coefficients f_k and the share rho of the data in h
(`feature_moments`). Order k is a law of N_k independent directions, the harmonics of degree k in d dimensions, and
adds to U the term

    (1/p) Phi_k [w_k^2 C_k + r_k] Phi_k^T / N_k,      w_k^2 = f_k^2 rho^k,     r_k = f_k^2 (1 - rho^k),             (2)

C_k the sample covariance of n data in these directions, Phi_k (p x N_k) of independent unit numbers. Order 1 is the
linear part of the features, N_1 = d and f_1^2 = mu^2 G; the orders above 1 sum to w^2 and r. If p >> n >> d and n is
small beside all N_k, k > 1, the spectrum has three separate parts:

    population     d values around          mu^2 G / d                   learned first, at a time free of n        (3)
    samples        up to n values around    w^2 / n + r / p              learned at a time that grows with n       (4)
    the rest       r / p                                                 does not change what is generated

The ratio of the two times is n mu^2 G / (d w^2): memory is paid for in proportion to n. A score linear in x itself has
w = r = 0: it learns the covariance and stops. An even part of the feature adds a few isolated eigenvalues, of the
data's norm.

Edges: of the population, Marchenko-Pastur twice, for the covariance of n data and for p features; of the samples, with
all orders of (2) and the scatter of norms, `samples_edge`. Equation (2) is our derivation; (3) and (4) agree with the
replica calculation of Bonnaire, Urfin, Biroli & Mezard, arXiv:2505.17638.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize

from ...domain import Number, count, positive
from .moments import Feature, FeatureMoments, feature_moments
from .samples_edge import samples_edge

LEAST_DIMENSION = 20


class SpectrumEdges(NamedTuple):
    """Eigenvalues of U at which its parts end."""

    population: tuple[float, float]
    """Smallest and largest of the population's d eigenvalues, equation (3)."""
    samples: float
    """Largest of the samples', equation (4)."""


class TrainingTimes(NamedTuple):
    """In units of 1 / rate of the gradient flow; infinite for what is never learned."""

    generalisation: float
    """When the slowest direction of the population is learned."""
    memorisation: float
    """When the fastest direction that tells samples apart is learned."""


def spectrum_edges(
    feature: Feature, num_features: int, num_points: int, dimension: int, t: Number, variance: Number = 1.0
) -> SpectrumEdges:
    """Ends of the population's part and of the samples', equations (3) and (4) at finite sizes.

    Range and error, from the eigenvalues of 27 simulated U (tanh, erf(2h), h Phi(h); d from 20 to 150, d/n from .025 to
    .8, n/d^2 from .01 to 2, p/n from 1.6 to 8, t from .02 to 1.2): the samples' edge is met within 4 / d of itself by
    the mean of two draws in all, most often from above: 10% at d = 30, 3% at d = 100. A single draw scatters more: six
    at (p, n, d) = (600, 300, 60) lie 3.1 to 9.9% below, 5.3% on average (4 / d: 6.7%). The largest eigenvalue of the
    population is 1 to 11% below its edge, the smallest 1% below to 19% above, as edges of few eigenvalues are. The
    leading order (4) with its Marchenko-Pastur edge is off by factors of .5 (d/n = .8) to 4 (n/d^2 = .3, even features)
    on the same U; with n - d and p - d for n and p, of 1.01 to 4.1. An even part of the feature adds isolated
    eigenvalues that no edge contains. A call takes .3 s, most of it 24 calls of `feature_moments`.

    Raises:
      ValueError: as in `feature_moments`; unless p > n > d >= 20; if the two parts are not apart; if 0 < w^2 < 1e-12 r.

    Source: our derivation, at the top of this file, with Silverstein & Choi, J. Multivariate Anal. 54, 295 (1995).
    """
    d = count("dimension", dimension, LEAST_DIMENSION)
    n = count("num_points", num_points, d + 1)
    p = count("num_features", num_features, n + 1)
    t, variance = positive("t", t), positive("variance", variance)
    signal, noise = math.exp(-2 * t) * variance, -math.expm1(-2 * t)
    moments = feature_moments(feature, t, variance)
    population = _population_edges(moments, p, n, d, signal, noise)
    if not moments.sample:
        return SpectrumEdges(population, moments.rest / p)
    if moments.sample < 1e-12 * moments.rest:
        raise ValueError(f"t = {t}: w^2 is below 1e-12 of r, nothing is left of the data; lower t")
    return SpectrumEdges(population, samples_edge(feature, moments, p, n, d, signal, noise))


def training_times(
    feature: Feature, num_features: int, num_points: int, dimension: int, t: Number, variance: Number = 1.0
) -> TrainingTimes:
    """One over the inner edges of the spectrum: where the population ends, and where the samples begin.

    Returns:
      `inf` to generalise if mu is 0, and to memorise if w^2 is: `feature_moments` separates 0 from rounding.
    Raises:
      ValueError: as in `spectrum_edges`, whose errors these are.

    Source: Bonnaire, Urfin, Biroli & Mezard, arXiv:2505.17638, for the two times.
    """
    moments = feature_moments(feature, t, variance)
    edges = spectrum_edges(feature, num_features, num_points, dimension, t, variance)
    return TrainingTimes(
        1 / edges.population[0] if moments.slope else math.inf, 1 / edges.samples if moments.sample else math.inf
    )


def _population_edges(
    moments: FeatureMoments, num_features: int, num_points: int, dimension: int, signal: float, noise: float
) -> tuple[float, float]:
    """Marchenko-Pastur twice: the covariance of n data, seen through p features."""
    ratio = dimension / num_points
    angles = (np.arange(400) + 0.5) * math.pi / 400
    values = 1 + ratio - 2 * math.sqrt(ratio) * np.cos(angles)
    weights = np.sin(angles) ** 2 / values
    ends = _sample_edges(signal * values + noise, weights / weights.sum(), dimension / num_features)
    floor = (moments.sample + moments.rest) / num_features  # what the other orders add in these directions
    return moments.slope**2 * ends[0] / dimension + floor, moments.slope**2 * ends[1] / dimension + floor


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
