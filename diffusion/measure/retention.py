"""Retention: which part of the tree of a datum is still there after noising and denoising."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import RandomHierarchyModel


def level_retention(
    rhm: RandomHierarchyModel, before: Int[Array, "batch leaves"], after: Int[Array, "batch leaves"]
) -> Float[Array, "batch levels"]:
    """Fraction of the nodes of each level, root first, whose symbol both strings share, in [0, 1].

    Both strings are parsed. A node that no rule explains, in either, counts as lost. NaN where there is nothing to
    compare: at a level without nodes, and at the root of a filtered grammar, whose class no string determines.
    """
    parse = jax.vmap(rhm.parse)
    old, new = parse(before).levels, parse(after).levels
    kept = [jnp.mean((x == y) & (x >= 0), -1, dtype=jnp.float32) for x, y in zip(old, new, strict=True)]
    if rhm.filter_level:
        kept[0] = jnp.full_like(kept[0], jnp.nan)
    return jnp.stack(kept, -1)
