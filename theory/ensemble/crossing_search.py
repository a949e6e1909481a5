"""Where falling curves of overlap against noise cross 1/2: one curve for each independent population.

A population's random numbers are frozen, so its curve is smooth, and its crossing is located by refining the grid. The
estimate over populations is the mean of their crossings.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Curve = Callable[[Float[Array, " times"]], Float[Array, " times"]]


class Crossings(NamedTuple):
    """The crossing of every population, their mean, and the curves where they were computed.

    `stderr` is the standard error of the mean, from the spread and from the width of the last cell, `resolution`, over
    the square root of 12, which all crossings may share.
    """

    value: Float[Array, ""]
    stderr: Float[Array, ""]
    crossings: Float[Array, " replicas"]
    noise_times: Float[Array, "replicas points"]
    overlaps: Float[Array, "replicas points"]
    resolution: float


def check_search(replicas: int, points: int, refinements: int) -> None:
    """Refuse a search that cannot give a crossing with an error.

    Raises:
      ValueError: if one of the numbers is too small.
    """
    if min(replicas - 1, points, refinements) < 1:
        raise ValueError(
            f"replicas, points, refinements = {replicas, points, refinements}: need at least 2 replicas for a standard "
            "error, 1 point and 1 refinement"
        )


def search_crossings(
    keys: Key[Array, " replicas"],
    curve_of: Callable[[Key[Array, ""]], Curve],
    max_time: float,
    points: int,
    refinements: int,
) -> Crossings:
    """The crossings of the curves that `curve_of` makes of the keys, each to max_time / (points + 1)^refinements."""
    searches = [_refined(curve_of(key), max_time, points, refinements) for key in keys]
    crossings, times, overlaps = map(jnp.stack, zip(*searches, strict=True))
    resolution = max_time / (points + 1) ** refinements
    stderr = jnp.sqrt(crossings.var(ddof=1) / len(searches) + resolution**2 / 12)
    return Crossings(crossings.mean(), stderr, crossings, times, overlaps, resolution)


def _refined(curve: Curve, max_time: float, points: int, refinements: int) -> tuple[Array, Array, Array]:
    """Where one curve crosses 1/2, and its values at all times tried, in order."""
    low, high = 0.0, max_time
    times, overlaps = [], []
    for _ in range(refinements):
        edges = jnp.linspace(low, high, points + 2)
        times.append(edges[1:-1])
        overlaps.append(curve(times[-1]))
        kept = int(jnp.argmin(jnp.append(overlaps[-1] > 0.5, False)))  # how many points lie before the first loss
        low, high = float(edges[kept]), float(edges[kept + 1])
    tried, overlap_there = jnp.concatenate(times), jnp.concatenate(overlaps)
    order = jnp.argsort(tried)
    return jnp.asarray((low + high) / 2), tried[order], overlap_there[order]
