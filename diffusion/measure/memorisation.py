"""Memorisation: which generated data are copies of the training set.

A datum is a copy if it is much nearer to one training point than to any other (three times, by default): a sample of
the law is about as far from its two nearest points, a sample that an overfitted model falls back to is not.

Source: Yoon, Choi, Kwon & Ryu (ICML 2023 workshop), "Diffusion probabilistic models generalize when they fail to
memorize", with the factor 1/3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def is_copy(
    generated: Float[Array, "*batch d"], data: Float[Array, "n d"], ratio: float = 1 / 3
) -> Bool[Array, "*batch"]:
    """Whether the nearest of the training points is nearer than `ratio` times the second nearest.

    Raises:
      ValueError: if there are fewer than two training points, or `ratio` is not in (0, 1].
    """
    if len(data) < 2 or not 0 < ratio <= 1:
        raise ValueError(f"{len(data)} training points, ratio = {ratio}: give at least 2, and a ratio in (0, 1]")
    distances = jnp.linalg.norm(generated[..., None, :] - _against(data, generated.ndim), axis=-1)
    nearest = -jax.lax.top_k(-distances, 2)[0]
    return nearest[..., 0] < ratio * nearest[..., 1]


def _against(data: Float[Array, "n d"], ndim: int) -> Array:
    return data.reshape((1,) * (ndim - 1) + data.shape)
