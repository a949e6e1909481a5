r"""The scale of memorisation: the largest noise at which a model treats training and held-out data differently.

At large noise a datum of the training set and another of the same law look alike. Below the noise at which a model has
memorised, the dimension F of its field (`flipd`) is 0 at its training points and more at others: d_NN^2 / s^2 for the
exact denoiser of the training set, d_NN the distance to the nearest point. So at each time

    gap = mean F of others - mean F of members,      split where gap > num_errors * standard error of the gap,     (1)

and the scale is the largest time that splits. It grows slowly with the number of data, as errors shrink; times are one
draw of data, not independent. With T times and 3 errors a split where there is none has a probability below T / 740.

Derived here.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hierarchical.arguments import AnyKey, Given, Whole

from ...denoise.denoiser import AbstractDenoiser
from ..dimension.pointwise import flipd
from ..estimate import Estimate, mean_estimate
from ..locate.crossing import increasing_times
from .detectors import both_sets


class Split(eqx.Module):
    """Where members and others differ, on a grid of noise times."""

    time: Float[Array, ""]
    """The largest time that splits; NaN if none does. It is known up to the spacing of the grid."""
    times: Float[Array, " times"]
    gap: Estimate
    """Mean dimension of others minus that of members, at each time."""
    splits: Bool[Array, " times"]


def split_scale(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    members: Given,
    others: Given,
    times: Given,
    *,
    num_probes: Whole | None = None,
    num_errors: float | int = 3,
) -> Split:
    """The largest of the noise times at which the mean FLIPD of others exceeds that of members, equation (1).

    Args:
      members, others: training and held-out data of one law, (n, *denoiser.shape) and (m, *denoiser.shape).
      times: increasing noise times in (0, max_time], at least 2.
      num_probes: as of `flipd`.
      num_errors: how many standard errors make a difference.

    Raises:
      ValueError: as `flipd`; if a set holds fewer than two data, times do not increase, or `num_errors` is not
        positive.
    """
    both, count = both_sets(denoiser, members, others)
    grid = increasing_times("times", times).astype(both.dtype)
    if not num_errors > 0:
        raise ValueError(f"num_errors = {num_errors}: give a positive number of standard errors")
    at_all = jnp.broadcast_to(both, (len(grid), *both.shape))
    values = flipd(key, denoiser, at_all, grid, num_probes=num_probes).value.T  # (data, times)
    low, high = mean_estimate(values[:count]), mean_estimate(values[count:])
    gap = Estimate(high.value - low.value, jnp.hypot(low.stderr, high.stderr))
    splits = gap.value > num_errors * gap.stderr
    time = jnp.max(jnp.where(splits, grid, -jnp.inf))
    return Split(jnp.where(jnp.any(splits), time, jnp.nan), grid, gap, splits)
