"""The peak of a curve on a grid of noise levels, and whether it is one."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierarchical.arguments import AnyKey, Given, as_key

from ..changes.correlation import susceptibility
from ..estimate import Estimate, as_rows, bootstrap
from .crossing import increasing_times


class Peak(eqx.Module):
    """Where a curve is largest, and by how much it stands above both its ends."""

    time: Estimate
    """The noise level of the largest value; its error is the spread over resampled data."""
    above_first: Estimate
    above_last: Estimate

    @property
    def significance(self) -> Float[Array, ""]:
        """The smaller of the two excesses, in standard errors; 0 if the largest value is at an end."""
        return jnp.minimum(_in_errors(self.above_first), _in_errors(self.above_last))


def locate_peak(
    key: AnyKey,
    noise_times: Given,
    sums: Given,
    statistic: Callable[[Float[Array, "times *parts"]], Float[Array, " times"]] = susceptibility,
) -> Peak:
    """The peak of chi, or of another function of the sums, on a grid of noise levels.

    The largest of several noisy values is too large on average. So the data are halved: one half chooses the noise
    level of the peak, the other measures its height above both ends, and vice versa. The two heights are averaged and
    their errors taken as independent: on flat curves the scatter is 1.1 times the reported error.

    Args:
      noise_times: (times,), increasing.
      sums: (data, times, *parts), a row for each independent datum or grammar.
      statistic: of the mean sums, (times, *parts), at every noise level; NaN is never the largest.

    Raises:
      ValueError: if there are fewer than 4 data, another number of columns than noise times, or noise times that are
        known do not increase or are not finite.
    """
    sums, times = as_rows(sums), increasing_times("noise_times", noise_times)
    if len(sums) < 4:
        raise ValueError(f"half of the data choose the peak, half measure it: {len(sums)} are too few, give at least 4")
    if sums.ndim < 2 or sums.shape[1] != len(times):
        raise ValueError(f"{len(times)} noise times, sums have shape {sums.shape}: give (data, times, ...)")
    times = times.astype(sums.dtype)
    where_key, *keys = jax.random.split(as_key(key), 3)
    place = bootstrap(where_key, sums, lambda mean: times[_top(statistic(mean))])
    halves = [sums[0::2], sums[1::2]]
    excesses = []
    for k, chooser, judge in zip(keys, halves, reversed(halves), strict=True):
        top = _top(statistic(jnp.mean(chooser, 0)))

        def above_ends(mean, top=top):
            curve = statistic(mean)
            return curve[top] - curve[np.array([0, -1])]

        excesses.append(bootstrap(k, judge, above_ends))
    value = (excesses[0].value + excesses[1].value) / 2
    stderr = jnp.hypot(excesses[0].stderr, excesses[1].stderr) / 2
    return Peak(place, Estimate(value[0], stderr[0]), Estimate(value[1], stderr[1]))


def _top(curve: Float[Array, " times"]) -> Int[Array, ""]:
    """The index of the largest value; NaN, where nothing changed, is never the largest."""
    return jnp.argmax(jnp.where(jnp.isnan(curve), -jnp.inf, curve))


def _in_errors(excess: Estimate) -> Float[Array, ""]:
    """The excess in standard errors; 0 for 0 +- 0, a level compared with itself."""
    is_zero = excess.value == 0
    return jnp.where(is_zero, 0, excess.value / jnp.where(is_zero, 1, excess.stderr))
