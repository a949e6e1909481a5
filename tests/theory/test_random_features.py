"""Moments of features against derivatives and sums; edges of the spectrum against the features themselves."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from theory.random_features import FeatureMoments, feature_moments, spectrum_edges, training_times


def spectrum(rng, features, points, dimension, t, draws):
    """Eigenvalues of U, equation (1), largest first, of tanh features; the mean over the noise by draws."""
    weights, data = rng.normal(size=(features, dimension)), rng.normal(size=(points, dimension))
    covariance = np.zeros((features, features))
    for _ in range(draws):
        noised = math.exp(-t) * data + math.sqrt(-math.expm1(-2 * t)) * rng.normal(size=data.shape)
        values = np.tanh(noised @ weights.T / math.sqrt(dimension))
        covariance += values.T @ values / (draws * points * features)
    return np.linalg.eigvalsh(covariance)[::-1]


def test_a_linear_feature_has_nothing_to_memorise_with():
    slope, sample, rest = feature_moments(lambda h: 2 * h, 0.3, 0.7)
    np.testing.assert_allclose([slope, sample, rest], [2, 0, 0], atol=1e-12)
    assert training_times(FeatureMoments(2.0, 0.0, 0.0), 400, 200, 20, 0.3).memorisation == math.inf


def test_moments_of_a_cubic_and_of_tanh():
    """Of h^3 by the moments of a Gaussian; of tanh by adaptive integration of E f' and of the averaged feature."""
    t, v = 0.4, 1.3
    signal, noise = math.exp(-2 * t) * v, -math.expm1(-2 * t)
    total = signal + noise
    got = feature_moments(lambda h: h**3, t, v)
    # m(u) = u^3 + 3 noise u; its variance 15 signal^3 + 18 noise signal^2 + 9 noise^2 signal, mu = 3 total
    of_mean = 15 * signal**3 + 18 * noise * signal**2 + 9 * noise**2 * signal
    want = 3 * total, of_mean - 9 * total**2 * signal, 15 * total**3 - of_mean - 9 * total**2 * noise
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = feature_moments(np.tanh, t, v)
    normal = stats.norm.pdf
    slope, _ = integrate.quad(lambda z: normal(z) / np.cosh(total**0.5 * z) ** 2, -12, 12)

    def averaged(u):
        return integrate.quad(lambda z: normal(z) * np.tanh(u + noise**0.5 * z), -12, 12)[0]

    square, _ = integrate.quad(lambda z: normal(z) * averaged(signal**0.5 * z) ** 2, -12, 12)
    np.testing.assert_allclose(got[:2], (slope, square - slope**2 * signal), rtol=1e-6)


def test_the_spectrum_of_features_has_the_predicted_parts():
    """Ends of the population and the samples' upper end, 8% off at most at d = 100; over a gap between them."""
    p, n, d, t = 1600, 400, 100, 0.1
    values = spectrum(np.random.default_rng(0), p, n, d, t, 60)
    population, samples = spectrum_edges(feature_moments(np.tanh, t), p, n, d, t)
    np.testing.assert_allclose((values[d - 1], values[0]), population, rtol=0.08)
    np.testing.assert_allclose(values[d], samples[1], rtol=0.08)
    assert population[0] > 5 * samples[1]


def test_memory_is_paid_for_in_proportion_to_the_data_and_generalisation_is_not():
    moments, sizes = feature_moments(np.tanh, 0.1), 100 * np.array([200, 400, 800])
    times = [training_times(moments, 10**12, n, 100, 0.1) for n in sizes.tolist()]
    slopes = [np.polyfit(np.log(sizes), np.log(part), 1)[0] for part in zip(*times, strict=True)]
    np.testing.assert_allclose(slopes, (0, 1), atol=0.05)
    for time, n in zip(times, sizes, strict=True):
        ratio = n * moments.slope**2 * 1.0 / (100 * moments.sample)
        np.testing.assert_allclose(time.memorisation / time.generalisation, ratio, rtol=0.15)


def test_what_has_no_such_spectrum_is_told():
    with pytest.raises(ValueError, match=r"p = 100 features, n = 200 points, d = 20: .* p > n > d"):
        spectrum_edges(FeatureMoments(1.0, 0.1, 0.1), 100, 200, 20, 0.1)
    with pytest.raises(ValueError, match=r"t = 0, variance = 1\.0: both must be positive"):
        feature_moments(np.tanh, 0)
