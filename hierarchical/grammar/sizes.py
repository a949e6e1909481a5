"""The sizes of a grammar as a user gives them: one number for all levels, or one for each."""

from collections.abc import Sequence
from typing import Any

from ..arguments import as_whole

LARGEST = 2**31 - 1
"""Nodes of a level, at most: more have no place in an array."""


def resolve_depth(depth, *sizes) -> int:
    """The number of levels, given or read off sizes that are sequences."""
    lengths = {len(size) for size in sizes if isinstance(size, Sequence)}
    if depth is None:
        if len(lengths) != 1:
            raise ValueError(f"depth is not given and the per-level sizes have lengths {sorted(lengths)}: pass depth")
        depth = lengths.pop()
    return as_whole("depth", depth, 1)


def per_level(name: str, value, depth: int) -> tuple:
    """A size for each level."""
    if not isinstance(value, Sequence):
        return (value,) * depth
    if len(value) != depth:
        raise ValueError(f"{name} = {value} has {len(value)} entries for depth = {depth}: give one per level")
    return tuple(value)


def whole_per_level(name: str, value, depth: int, least: int | None = None) -> tuple[int, ...]:
    """A size for each level, Python integers.

    Raises:
      ValueError: if one is no whole number, or below `least`.
    """
    return tuple(as_whole(name, size, least) for size in per_level(name, value, depth))


def check_filter_level(filter_level: Any, depth: int) -> int:
    """The level from which a grammar is kept, refused outside 0 .. depth."""
    level = as_whole("filter_level", filter_level)
    if not 0 <= level <= depth:
        raise ValueError(f"filter_level = {filter_level} is outside [0, depth = {depth}]")
    return level
