"""Memorisation: which generated data are copies of the training set.

A datum is a copy if it is much nearer to one training point than to any other (three times, by default): a sample of
the law is about as far from its two nearest points, a sample that an overfitted model falls back to is not.

Source: Yoon, Choi, Kwon & Ryu (ICML 2023 workshop), "Diffusion probabilistic models generalize when they fail to
memorize", with the factor 1/3.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from hierarchical.arguments import Given, as_widest

from ...noise.process import batch_axes


def is_copy(generated: Given, data: Given, ratio: float = 1 / 3) -> Bool[Array, "*batch"]:
    """Whether the nearest of the training points is nearer than `ratio` times the second nearest.

    Args:
      generated: data to judge, (..., *datum).
      data: the training points, (n, *datum), a datum of any shape.

    Returns:
      Inside `jax.jit`, where numbers are not known, what holds NaN or infinity is no copy, and nothing is a copy where
      the training points hold them.
    Raises:
      ValueError: if there are fewer than two training points, the shapes of a datum differ, a number is known and not
        finite, or `ratio` is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio = {ratio}: give a ratio in (0, 1]")
    nearest, second = nearest_two(generated, data)
    return nearest < ratio * second


def nearest_two(generated: Given, data: Given) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Distances to the nearest and to the second nearest of the training points; NaN where numbers are not finite.

    Arguments and errors as of `is_copy`.
    """
    given, points = as_widest(generated, data)
    _refuse_infinite(generated=given, data=points)
    count = len(points) if points.ndim else 0
    if count < 2:
        raise ValueError(f"{count} training points: give at least 2")
    datum = points.shape[1:]
    batch = batch_axes(given, datum, "generated")
    rows = given.reshape(*batch, 1, math.prod(datum))
    against = points.reshape(*(1,) * len(batch), len(points), math.prod(datum))
    nearest = -jax.lax.top_k(-jnp.linalg.norm(rows - against, axis=-1), 2)[0]
    known = jnp.all(jnp.isfinite(rows), (-2, -1)) & jnp.all(jnp.isfinite(points))
    nearest = jnp.where(known[..., None], nearest, jnp.nan)
    return nearest[..., 0], nearest[..., 1]


def _refuse_infinite(**arrays: Float[Array, "..."]) -> None:
    for name, numbers in arrays.items():
        if not isinstance(numbers, Tracer):
            host = np.asarray(numbers)
            if not np.isfinite(host).all():
                raise ValueError(f"{name} holds {host[~np.isfinite(host)][0]}: give finite numbers")
