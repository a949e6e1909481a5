"""Moments of features against their laws, derivatives and sums."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from theory.gaussian.random_features import feature_moments


def test_a_linear_feature_has_nothing_to_memorise_with():
    slope, sample, rest, _ = feature_moments(lambda h: 2 * h, 0.3, 0.7)
    np.testing.assert_allclose([slope, sample, rest], [2, 0, 0], atol=1e-12)


def relu_moments(signal, total):
    """E relu(h) relu(h') = G (sin a + (pi - a) cos a) / 2 pi, a the angle of h and h' (Cho & Saul 2009)."""
    angle = math.acos(signal / total)
    kernel = total * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
    return 0.5, kernel - total / (2 * math.pi), total / 2 - total / (2 * math.pi)


def erf_moments(signal, total, b):
    """E erf(b h) erf(b h') = 2 / pi asin(2 b^2 E h h' / (1 + 2 b^2 G)) (Williams 1997); b infinite: sign."""
    half = 1 / (2 * b**2)
    kernel, square = (2 / math.pi * math.asin(common / (half + total)) for common in (signal, total))
    return math.sqrt(2 / (math.pi * (half + total))), kernel, square


def step_moments(signal, total, edge):
    """P(h > c, h' > c) - P(h > c)^2: the integral over the correlation of the density at (c, c) (Plackett 1954)."""
    at = edge / total**0.5
    kernel, _ = integrate.quad(
        lambda angle: math.exp(-(at**2) / (1 + math.sin(angle))) / (2 * math.pi), 0, math.asin(signal / total)
    )
    return stats.norm.pdf(at) / total**0.5, kernel, stats.norm.cdf(at) * stats.norm.sf(at)


LAWS = {
    "relu": (lambda h: np.maximum(h, 0.0), relu_moments),
    "sign": (np.sign, lambda signal, total: erf_moments(signal, total, math.inf)),
    "erf": (special.erf, lambda signal, total: erf_moments(signal, total, 1)),
    "steep": (lambda h: special.erf(20 * h), lambda signal, total: erf_moments(signal, total, 20)),
    "rare": (lambda h: np.heaviside(h - 2, 0.5), lambda signal, total: step_moments(signal, total, 2)),
    "step": (lambda h: np.heaviside(h - 0.3, 0.5), lambda signal, total: step_moments(signal, total, 0.3)),
}


@pytest.mark.parametrize(("feature", "law"), LAWS.values(), ids=LAWS)
@pytest.mark.parametrize(("t", "v"), [(1e-4, 1.0), (0.01, 0.5), (0.3, 3.0), (1.0, 1.0), (3.0, 1.0)])
def test_moments_of_kinks_and_jumps_follow_their_laws(feature, law, t, v):
    signal, noise = math.exp(-2 * t) * v, -math.expm1(-2 * t)
    slope, of_mean, of_feature = law(signal, signal + noise)
    want = slope, of_mean - slope**2 * signal, of_feature - of_mean - slope**2 * noise
    np.testing.assert_allclose(feature_moments(feature, t, v)[:3], want, rtol=1e-13, atol=2e-14 * max(1, v))


def test_features_that_cannot_be_integrated_are_refused():
    with pytest.raises(ValueError, match="noise narrower than 1e-4 of h is not resolved, raise t"):
        feature_moments(np.tanh, 1e-9)
    with pytest.raises(ValueError, match=r"is not finite everywhere in \|h\| <= 12, 12 times its spread"):
        feature_moments(lambda h: np.where(h > 1, np.nan, h), 0.3)
    with pytest.raises(ValueError, match=r"grows so fast that \|h\| > 11 G\^\(1/2\) decides its variance"):
        feature_moments(lambda h: np.exp(h**2 / 4), 0.3)
    for rough in (lambda h: np.sin(1e7 * h), lambda h: np.tanh(h.astype(np.float32))):
        with pytest.raises(ValueError, match="is not smooth in pieces, in float64: 10000 panels did not resolve it"):
            feature_moments(rough, 0.3)


def test_moments_of_a_cubic_and_of_tanh():
    """Of h^3 by the moments of a Gaussian; of tanh by adaptive integration of E f' and of the averaged feature."""
    t, v = 0.4, 1.3
    signal, noise = math.exp(-2 * t) * v, -math.expm1(-2 * t)
    total = signal + noise
    got = feature_moments(lambda h: h**3, t, v)
    # m(u) = u^3 + 3 noise u; its variance 15 signal^3 + 18 noise signal^2 + 9 noise^2 signal, mu = 3 total
    of_mean = 15 * signal**3 + 18 * noise * signal**2 + 9 * noise**2 * signal
    want = 3 * total, of_mean - 9 * total**2 * signal, 15 * total**3 - of_mean - 9 * total**2 * noise
    np.testing.assert_allclose(got[:3], want, rtol=1e-10)
    np.testing.assert_allclose(got.orders, (0, 6 * total**3, 0, 0, 0, 0, 0), rtol=1e-10)  # h^3 = He_3 + 3 He_1
    got = feature_moments(np.tanh, t, v)
    normal = stats.norm.pdf
    slope, _ = integrate.quad(lambda z: normal(z) / np.cosh(total**0.5 * z) ** 2, -12, 12)

    def averaged(u):
        return integrate.quad(lambda z: normal(z) * np.tanh(u + noise**0.5 * z), -12, 12)[0]

    square, _ = integrate.quad(lambda z: normal(z) * averaged(signal**0.5 * z) ** 2, -12, 12)
    np.testing.assert_allclose(got[:2], (slope, square - slope**2 * signal), rtol=1e-6)


@pytest.mark.parametrize("feature", [np.tanh, np.exp, lambda h: np.cos(3 * h)])
def test_orders_sum_to_the_moments(feature):
    """Equation (1) at a time when little is left of order 9."""
    moments = feature_moments(feature, 1.5, 0.8)
    share = math.exp(-3) * 0.8 / (math.exp(-3) * 0.8 - math.expm1(-3))
    np.testing.assert_allclose(sum(f * share**k for k, f in enumerate(moments.orders, 2)), moments.sample, rtol=1e-6)
