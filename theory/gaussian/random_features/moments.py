r"""What a nonlinearity contributes to the spectrum of random features: its Hermite expansion, by quadrature.

With h ~ N(0, G), G = e^-2t v + s^2 the variance of a feature's argument and rho = e^-2t v / G the share of the data in
it, expand f(h) = sum_k f_k He_k(h / G^(1/2)) / (k!)^(1/2). The feature averaged over the noise, m(u) = E_z f(u + s z),
has the expansion f_k rho^(k/2) in u ~ N(0, e^-2t v) (Mehler), so that

    mu^2 G = f_1^2,      w^2 = Var m - mu^2 e^-2t v = sum_{k > 1} f_k^2 rho^k,                                     (1)
    r = Var f - Var m - mu^2 s^2 = sum_{k > 1} f_k^2 (1 - rho^k).                                                  (2)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import interpolate

from ...domain import Number, positive

MOST_PANELS = 10_000  # of those that are halved at once
MOST_ORDERS = 8
Feature = Callable[[Float[np.ndarray, "*h"]], Float[np.ndarray, "*h"]]


class FeatureMoments(NamedTuple):
    """What the spectrum depends on of a nonlinearity, at one noise time."""

    slope: float
    """mu."""
    sample: float
    """w^2: of a datum's averaged features, beyond what is linear in it."""
    rest: float
    """r: of the features' change with the noise, beyond what is linear in it."""
    orders: tuple[float, ...]
    """f_k^2 at k = 2, 3, .. 8."""


def feature_moments(feature: Feature, t: Number, variance: Number = 1.0) -> FeatureMoments:
    """mu, w^2, r and f_k^2 of a nonlinearity on NumPy arrays, by quadrature; t > 0 in OU units, data N(0, variance).

    Panels of h are halved until the feature is a polynomial on each, so kinks and jumps are resolved wherever they
    are. w^2 is the mean square of the averaged feature after its linear part is subtracted, so no digits cancel.

    Accuracy, against the arcsine and arc-cosine laws (sign, a step at .3, relu, erf(b h) for b = 1, 20, 3000; t from
    1e-7 to 8, variance .3 to 10): mu within 3e-14 of itself, w^2 and r within 2e-14 of Var f, and w^2 for t <= 3 within
    2e-11 of itself. A moment below 1e-24 of E f(h)^2 (for mu: its share mu^2 G) is rounding and becomes 0: the moments
    of linear or even features, and w^2 at times when almost nothing is left of the data. A bump narrower than
    G^(1/2) / 50 between smooth pieces can be missed. A call takes milliseconds, below t = .001 in proportion to
    t^(-1/2): 2 s at 1e-7.

    Raises:
      ValueError: if t or the variance is not positive and finite; if the noise is narrower than 1e-4 of h; if the
        feature is not finite, has a variance that |h| > 11 G^(1/2) decides, or is not smooth in pieces, in float64.
    """
    t, variance = positive("t", t), positive("variance", variance)
    return moments_at(feature, math.exp(-2 * t) * variance, -math.expm1(-2 * t))


def moments_at(feature: Feature, signal: float, noise: float) -> FeatureMoments:
    """The moments where the variance of h is `signal` from the data and `noise` from the noise."""
    total = signal + noise
    if noise < 1e-8 * total:
        raise ValueError(f"signal = {signal}, noise = {noise}: noise narrower than 1e-4 of h is not resolved, raise t")
    h, values, lengths = _resolved(feature, math.sqrt(total), math.sqrt(noise))
    weights = lengths * _normal(h, math.sqrt(total))
    slope = float(weights @ (values * h)) / total  # E f'(h), by parts
    beyond = values - weights @ values - slope * h
    square, far = float(weights @ beyond**2), abs(h) > 11 * math.sqrt(total)
    if weights[far] @ beyond[far] ** 2 > 1e-12 * square:
        raise ValueError(f"{feature} grows so fast that |h| > 11 G^(1/2) decides its variance, if it has one")
    sample = _square_of_mean(h, lengths * beyond, math.sqrt(signal), math.sqrt(noise))
    level = 1e-24 * float(weights @ values**2)
    orders = _hermite_squares(h / math.sqrt(total), weights * beyond)
    return FeatureMoments(
        slope if slope**2 * total > level else 0.0,
        sample if sample > level else 0.0,
        square - sample if square - sample > level else 0.0,
        tuple(float(order) if order > level else 0.0 for order in orders),
    )


def _hermite_squares(u: Float[np.ndarray, " k"], masses: Float[np.ndarray, " k"]) -> Float[np.ndarray, " orders"]:
    """f_k^2 at k = 2 .. MOST_ORDERS, by the recurrence of normalised Hermite polynomials."""
    before, here, squares = np.ones_like(u), u, []
    for k in range(2, MOST_ORDERS + 1):
        before, here = here, (u * here - math.sqrt(k - 1) * before) / math.sqrt(k)
        squares.append((masses @ here) ** 2)
    return np.array(squares)


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
