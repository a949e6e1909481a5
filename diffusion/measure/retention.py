"""Retention: which part of the tree of a datum is still there after noising and denoising."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import RandomHierarchyModel


def level_retention(
    rhm: RandomHierarchyModel, before: Int[Array, "batch leaves"], after: Int[Array, "batch leaves"]
) -> Float[Array, "batch levels"]:
    """Fraction of the nodes of each level, root first, whose symbol both strings share, in [0, 1].

    Both strings are parsed. A node of `after` that no rule explains counts as lost, a level without nodes is NaN.
    """
    parse = jax.vmap(rhm.parse)
    old, new = parse(before).levels, parse(after).levels
    return jnp.stack([jnp.mean(x == y, -1, dtype=jnp.float32) for x, y in zip(old, new, strict=True)], -1)
