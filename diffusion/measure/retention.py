r"""Retention: which part of the tree of a datum is still there after noising and denoising.

Strings are parsed strictly: a wrong leaf makes every node above it invalid, and an invalid node counts as lost. So the
retention of a network mixes two things, strings outside the grammar and strings of another tree. `is_valid` counts the
former; retention among valid strings is the ratio of means E[v k]/E[v] over v = valid, k = kept, which `among_valid`
writes as rows that any function of a mean over rows takes:

    r_i = R + v_i (k_i - R) / mean(v),    R = sum v k / sum v:                                                     (1)

their mean is R, and their spread that of R to first order (the delta method).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hierarchical import RandomHierarchyModel


def level_retention(
    rhm: RandomHierarchyModel, before: Int[Array, "*batch leaves"], after: Int[Array, "*batch leaves"]
) -> Float[Array, "*batch levels"]:
    """Fraction of the nodes of each level, root first, whose symbol both strings share, in [0, 1].

    Both strings are parsed. A node that no rule explains, in either, counts as lost. NaN where there is nothing to
    compare: at a level without nodes, and at the root of a filtered grammar, whose class no string determines.

    Raises:
      ValueError: if the strings are of shapes that do not go together.
    """
    try:
        np.broadcast_shapes(np.shape(before), np.shape(after))
    except ValueError as error:
        raise ValueError(f"before has shape {np.shape(before)}, after {np.shape(after)}: give pairs") from error
    old, new = rhm.parse(before).levels, rhm.parse(after).levels
    kept = [jnp.mean((x == y) & (x >= 0), -1, dtype=jnp.float32) for x, y in zip(old, new, strict=True)]
    if rhm.filter_level:
        kept[0] = jnp.full_like(kept[0], jnp.nan)
    return jnp.stack(kept, -1)


def is_valid(rhm: RandomHierarchyModel, strings: Int[Array, "*batch leaves"]) -> Bool[Array, "*batch"]:
    """Whether a string belongs to the language of the grammar."""
    return rhm.parse(strings).valid[0][..., 0]


def among_valid(kept: Float[Array, "rows *shape"], valid: Bool[Array, "rows *shape"]) -> Float[Array, "rows *shape"]:
    """Rows (1): their mean is that of `kept` over the valid rows; NaN where no row is valid."""
    weight = valid.astype(kept.dtype)
    share = jnp.mean(weight, 0, keepdims=True)
    ratio = jnp.mean(weight * kept, 0, keepdims=True) / share
    return ratio + weight * (kept - ratio) / share
