"""The tree behind a string: the symbol of every node."""

import equinox as eqx
from jaxtyping import Array, Bool, Int


class Derivation(eqx.Module):
    """The tree behind a string: the symbol of every node, level by level, and whether each node is grammatical."""

    levels: tuple[Int[Array, "*batch _nodes"], ...]
    """Symbols of each level, root (1,) first; -1 where `parse` found no rule."""
    valid: tuple[Bool[Array, "*batch _nodes"], ...]
    """Whether the subtree below each node is derived from one symbol; always true in a sample of a grammar."""

    @property
    def leaves(self) -> Int[Array, "*batch leaves"]:
        """The datum itself: the symbols of the last level."""
        return self.levels[-1]
