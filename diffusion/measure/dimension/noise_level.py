r"""Dimension against the noise level, and the choice of a level where it means something.

The dimension that a denoiser shows depends on the noise s: below the distance of training points, or below the noise
that a network was trained on, it is that of points or of errors; above R / k^(1/2), R the radius of curvature, that of
a curved set seen as a whole. In between it is constant: on a *plateau*. `automatic` takes the level at which

    cost^2 = ((dk / d ln s)^2 + gap^2 + stderr^2) / (1 + k)^2                                                     (1)

is least: the slope of k (the larger of those to the levels on both sides), the error of the score (`dsm` minus `trace`)
and that of the draws, all of the mean over the points that are given. Levels are s_0 / 2^(j/2), so that those next to
each other extrapolate each other (equation (4) of `pointwise`), and have the same draws, so that the slope is known
better than k itself. Derived here.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole

from ...noise.gaussian import log_ratio, time_of_log_ratio
from ..estimate import Estimate, mean_estimate
from ..field.local import LocalField, local_field
from .pointwise import CURVED, Dimension, antithetic, over_batch, trace

Estimator = Callable[[AnyKey, AbstractDenoiser, Given, Given], Dimension]
Levels = Float[np.ndarray, " levels"]


class Automatic(Dimension):
    """Dimensions at a noise that was chosen, the curve that it was chosen on, and why."""

    time: Float[Array, ""]
    """The noise time."""
    times: Float[Array, " levels"]
    """Those among which it was chosen, decreasing."""
    curve: Estimate
    """The mean over the points at each of them; its error is that of the draws."""
    reason: str = eqx.field(static=True)


class _Curve(NamedTuple):
    """Extrapolated terms of `trace` for each draw and point, and their means, at each level."""

    terms: Float[np.ndarray, "levels draws points"]
    plain: Float[np.ndarray, "levels points"]
    value: Levels
    stderr: Levels
    gap: Levels
    slope: Levels

    @property
    def cost(self) -> Levels:
        """Equation (1); infinite where the data are points, k < 1/2."""
        cost = np.sqrt(self.slope**2 + self.gap**2 + self.stderr**2) / (1 + np.abs(self.value))
        return np.where(self.value < 0.5, np.inf, cost)


def curve(key: AnyKey, denoiser: AbstractDenoiser, x: Given, times: Given, estimator: Estimator = trace) -> Dimension:
    """An estimate at several noise times, (times, *axes of x), with the same draws at all of them.

    Args:
      times: noise times (times,).
      estimator: one of this room; `functools.partial` sets its options.

    Raises:
      ValueError: if `times` has another shape; and as the estimator.
    """
    found = as_numbers(times)
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"times have shape {found.shape}: give a row of noise times")
    each = [estimator(jax.random.clone(as_key(key)), denoiser, x, t) for t in found]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


def automatic(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    x: Given,
    between: Sequence[float] | None = None,
    *,
    num_draws: Whole = 64,
) -> Automatic:
    """The dimension at each point, extrapolated `trace`, at the noise of least cost (1); not inside `jax.jit`.

    Args:
      x: clean data (..., *denoiser.shape), several: the level is chosen for all of them together.
      between: the first and the last noise time to choose among; default: from 1/300 of the spread of x, or the
        smallest time that the denoiser was trained at, to the spread.
      num_draws: pairs of scores for each point and level.

    Flags: "memorised": at the smallest noise the value is below 1/2 and the mean stays at the datum, which is then a
    point, whatever the chosen level says; "below data resolution" as of `flipd`; "curvature-limited": extrapolation
    changes the value by more than a quarter of 1 + k, the mean over points; "score error suspected", "no plateau": at
    all points, if `dsm` minus `trace`, or the slope, is above that.

    Raises:
      ValueError: as `local_field`; if the data are a single point, or all equal, and `between` is not given; or it is
        no range of positive times over which s grows by 4.
    """
    field = local_field(denoiser, x, 1.0)
    times = _levels(_range(denoiser, np.asarray(field.points)) if between is None else tuple(between))
    found = _curve(as_key(key), field, times, as_whole("num_draws", num_draws, 2))
    best = int(np.argmin(found.cost)) if np.isfinite(found.cost).any() else int(np.argmin(found.value))
    return _chosen(field, times, found, best)


def _range(denoiser: AbstractDenoiser, points: Float[np.ndarray, "points d"]) -> tuple[float, float]:
    """Noise times of the spread of the points / 300, or of where training begins, and of the spread."""
    spread = float(np.sqrt(np.mean(np.sum((points - points.mean(0)) ** 2, 1))))
    if len(points) < 2 or not 0 < spread < math.inf:
        raise ValueError(f"{len(points)} points of spread {spread}: give several finite, different data, or `between`")
    first, last = (float(time_of_log_ratio(-jnp.log(spread * share))) for share in (1 / 300, 1.0))
    return max(first, denoiser.min_time), min(last, denoiser.max_time)


def _levels(between: tuple[float, ...]) -> Levels:
    """Times of s_0 / 2^(j/2), from the last time down to the first or just above it."""
    if len(between) != 2 or not 0 < between[0] < between[1] < math.inf:
        raise ValueError(f"between = {between}: give two positive noise times, the smaller first")
    first, last = (float(-log_ratio(jnp.asarray(t))) for t in between)  # ln s
    count = math.floor(2 * (last - first) / math.log(2)) + 1
    if count < 5:
        raise ValueError(f"between = {between}: the noise s must grow by 4 or more, from {math.exp(first):.3g}")
    return np.asarray(time_of_log_ratio(jnp.arange(count, dtype=float) * (math.log(2) / 2) - last), float)


def _curve(key: Array, field: LocalField, times: Levels, num_draws: int) -> _Curve:
    norms, traces = [], []
    for t in times:
        drawn = antithetic(jax.random.clone(key), field.at(jnp.full_like(field.t, t)), num_draws)
        norms.append(np.asarray(drawn[0], float))
        traces.append(np.asarray(drawn[1], float))
    plain, gaps = np.stack(traces), np.stack(norms) - np.stack(traces)
    terms = 2 * plain[1:] - plain[:-1]  # the last level only extrapolates the one before
    means = [mean_estimate(jnp.asarray(level.mean(-1))) for level in terms]
    value, error = (np.array([float(getattr(m, part)) for m in means]) for part in ("value", "stderr"))
    steps = np.diff(value) / (-math.log(2) / 2)
    before, after = np.append(np.inf, steps), np.append(steps, np.inf)  # a plateau has two sides
    slope = np.where(np.abs(before) > np.abs(after), before, after)
    return _Curve(terms, plain[:-1].mean(1), value, error, gaps[:-1].mean((1, 2)), slope)


def _chosen(field: LocalField, times: Levels, found: _Curve, best: int) -> Automatic:
    at, below = (field.at(jnp.full_like(field.t, times[j])) for j in (best, -2))
    point = mean_estimate(jnp.asarray(found.terms[best], field.points.dtype))
    everywhere = jnp.ones(point.value.shape, bool)
    limit = CURVED * (1 + abs(found.value[best])) if np.isfinite(found.cost[best]) else math.inf
    flags = {
        "memorised": jnp.asarray(found.terms[-1].mean(0) < 0.5) & (_shift(below) < 1),
        "below data resolution": _shift(at) > 1 + point.value,
        "curvature-limited": jnp.asarray(abs(found.plain[best] - found.terms[best].mean(0)) > limit),
        "score error suspected": everywhere & bool(abs(found.gap[best]) > limit),
        "no plateau": everywhere & bool(abs(found.slope[best]) > limit),
    }
    values = over_batch(field, point.value, point.stderr, flags)
    mean = Estimate(jnp.asarray(found.value), jnp.asarray(found.stderr))
    chosen = jnp.asarray(times[:-1])
    return Automatic(values.value, values.stderr, values.flags, chosen[best], chosen, mean, _reason(found, at, best))


@eqx.filter_jit
def _shift(field: LocalField) -> Float[Array, " points"]:
    return field.shift()


def _reason(found: _Curve, at: LocalField, best: int) -> str:
    noise, cost = float(at.noise[0, 0]), found.cost
    if not np.isfinite(cost[best]):
        return f"the data are points at every noise: dimension {found.value[best]:.2g} at s = {noise:.3g}"
    near = cost < 2 * cost[best] + 0.01
    first, last = best, best
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(near) and near[last + 1]:
        last += 1
    ends = (noise * 2 ** ((best - j) / 2) for j in (last, first))
    return (
        "plateau from s = {:.3g} to {:.3g}; ".format(*ends)
        + f"at s = {noise:.3g} k = {found.value[best]:.4g} changes least: dk / d ln s = {found.slope[best]:+.2g}, "
        f"error of the score {found.gap[best]:+.2g}, of the draws {found.stderr[best]:.2g}"
    )
