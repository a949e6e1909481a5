r"""The probability flow of one-dimensional mixtures in closed form: where it takes a point, and how steep it is there.

On a line the flow keeps the order of its points, so it keeps their ranks: it takes x of a law with distribution
function F to the point y of the law G with

    G(y) = F(x),            dy/dx = F'(x) / G'(y),                                                                 (1)

whatever the path. From pure noise N(0, 1) to two modes +-mu of width w, equally likely, x = 0 goes to y = 0 with

    dy/dx = w exp(mu^2 / 2 w^2),                                                                                   (2)

the steepest place of the map: a neighbourhood of the origin of size exp(-mu^2 / 2 w^2) becomes all that lies between
the modes. There a small error of a denoiser is amplified most.

Ranks are compared in logarithms, from the nearer end, so that tails are as exact as the middle. The quantile of a
mixture lies between the smallest and the largest of its components' quantiles at the same rank, which brackets the
root. Where the slope is above 1e15, in a gap that hardly holds any rank, y is no longer resolved. Derived here.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

from hierarchical import GaussianMixture
from hierarchical.arguments import Given

from ..domain import Number, not_negative, positive

HALVINGS = 200  # of the bracket, until its ends are neighbouring numbers
Points = Float[np.ndarray, "*points"]
Parts = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"], Float[np.ndarray, " _"]]


def flow_map(source: GaussianMixture, target: GaussianMixture, x: Given) -> Points:
    """y of equation (1), for mixtures in one dimension.

    Args:
      source: the law of x; `GaussianMixture([1], [[0]], 1)` is pure noise, `target.noised(alpha, sigma)` noised data.
      target: the law of y.

    Raises:
      ValueError: if a law has more dimensions or a component without width, or x is not finite.
    """
    x, source_parts, target_parts = _checked(source, target, x)
    lower = _log_tails(source_parts, x)
    rank = np.where(lower[0] < lower[1], 0, 1)  # 0: counted from the left end
    wanted = np.where(rank == 0, *lower)
    _, means, widths = target_parts
    sign = np.where(rank == 0, 1, -1)
    ends = means + widths * (sign * special.ndtri_exp(wanted))[..., None]
    low, high = ends.min(-1), ends.max(-1)
    for _ in range(HALVINGS):
        middle = np.asarray((low + high) / 2)
        tails = _log_tails(target_parts, middle)
        below = np.where(rank == 0, tails[0] < wanted, tails[1] > wanted)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def flow_slope(source: GaussianMixture, target: GaussianMixture, x: Given) -> Points:
    """dy/dx of equation (1). Arguments and errors as of `flow_map`."""
    x, source_parts, target_parts = _checked(source, target, x)
    y = flow_map(source, target, x)
    return np.asarray(np.exp(_log_density(source_parts, x) - _log_density(target_parts, y)))


def two_mode_slope(offset: Number, width: Number) -> float:
    """Equation (2), the slope at the origin for modes +-mu; `offset` is mu, `width` w.

    Raises:
      ValueError: if mu is negative, or w is not positive.
    """
    offset, width = not_negative("offset", offset), positive("width", width)
    return float(width * np.exp(offset**2 / (2 * width**2)))


def _checked(source: GaussianMixture, target: GaussianMixture, x: Given) -> tuple[Points, Parts, Parts]:
    places = np.asarray(x, float)
    if not np.isfinite(places).all():
        raise ValueError(f"x = {places[~np.isfinite(places)][0]}: give finite points")
    return places, _parts("source", source), _parts("target", target)


def _parts(name: str, law: GaussianMixture) -> Parts:
    """ln of the weights, means and widths of the components."""
    if law.dimension != 1:
        raise ValueError(f"{name} has dimension {law.dimension}: the flow has a closed form in one dimension alone")
    weights, means, variances = (
        np.asarray(part, float).reshape(-1) for part in (law.weights, law.means, law.variances)
    )
    if not (variances > 0).all():
        raise ValueError(f"{name} has a component of variance {variances.min():g}: give positive ones")
    kept = weights > 0
    return np.log(weights[kept]), means[kept], np.sqrt(variances[kept])


def _log_tails(law: Parts, x: Points) -> tuple[Points, Points]:
    """ln of the probabilities below and above x."""
    log_weights, means, widths = law
    z = (x[..., None] - means) / widths
    lower, upper = (_log_sum(log_weights + special.log_ndtr(side * z)) for side in (1, -1))
    return lower, upper


def _log_density(law: Parts, x: Points) -> Points:
    log_weights, means, widths = law
    z = (x[..., None] - means) / widths
    return _log_sum(log_weights - z**2 / 2 - np.log(widths) - np.log(2 * np.pi) / 2)


def _log_sum(terms: Float[np.ndarray, "*points _"]) -> Points:
    return np.asarray(special.logsumexp(terms, axis=-1))
