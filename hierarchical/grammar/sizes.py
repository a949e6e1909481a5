"""The sizes of a grammar as a user gives them: one number for all levels, or one for each."""

from collections.abc import Sequence

import numpy as np

LARGEST = 2**31 - 1
"""Nodes of a level, at most: more have no place in an array."""


def resolve_depth(depth, *sizes) -> int:
    """The number of levels, given or read off sizes that are sequences."""
    lengths = {len(size) for size in sizes if isinstance(size, Sequence)}
    if depth is None:
        if len(lengths) != 1:
            raise ValueError(f"depth is not given and the per-level sizes have lengths {sorted(lengths)}: pass depth")
        depth = lengths.pop()
    if not isinstance(depth, int | np.integer) or depth < 1:
        raise ValueError(f"depth = {depth}: a hierarchy needs at least one level of rules, a whole number of them")
    return int(depth)


def per_level(name: str, value, depth: int) -> tuple:
    """A size for each level."""
    if not isinstance(value, Sequence):
        return (value,) * depth
    if len(value) != depth:
        raise ValueError(f"{name} = {value} has {len(value)} entries for depth = {depth}: give one per level")
    return tuple(value)


def check_filter_level(filter_level: int, depth: int) -> int:
    """The level from which a grammar is kept, refused outside 0 .. depth."""
    if not 0 <= filter_level <= depth:
        raise ValueError(f"filter_level = {filter_level} is outside [0, depth = {depth}]")
    return filter_level
