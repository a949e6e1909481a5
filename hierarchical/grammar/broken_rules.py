r"""Strings with one broken rule: the anomalies that only the level of the break tells from data.

A tree is drawn from the grammar, but for one node, uniform among those of level l. Whatever its symbol, it expands into
a tuple that is uniform among

    the v^s - n m tuples that no rule of any parent at that level gives,                                            (1)

n being the number of parents; below, the grammar goes on. A tuple of another parent's rule would not break level l: it
reads as that parent, so the break is one level up, and at the root there is none, but a string of another class. With
(1) the node has no parse, and so neither have its ancestors; every subtree below it is grammatical. The level is that
of the rule: l = 0 breaks the expansion of the class, l = depth - 1 one pair of neighbouring leaves.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ..arguments import AnyKey, Whole, as_whole
from ..law import AbstractLaw, Sample, Shape, sample_each
from .derivation import Derivation
from .hierarchy import RandomHierarchyModel
from .rules import free_tuples


class Broken(eqx.Module):
    """What made a string with a broken rule."""

    tree: Derivation
    """The symbols of all nodes, that of the broken node among them; the node and its ancestors are not valid."""
    node: Int[Array, "*batch"]
    """Which node of the level is broken."""


class BrokenRules(AbstractLaw):
    """The law of strings of a grammar with one rule broken, equation (1); `latent` is a `Broken`."""

    rhm: RandomHierarchyModel
    level: int = eqx.field(static=True)

    def __init__(self, rhm: RandomHierarchyModel, level: Whole):
        """Break one rule of `rules[level]`.

        Raises:
          ValueError: if the grammar has no rules at that level, or they leave no tuple free, or tuples are too many.
        """
        self.rhm, self.level = rhm, check_broken_level(rhm, level)
        jax.eval_shape(lambda: free_tuples(rhm.rules[self.level], rhm.vocabulary[self.level + 1]))

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Draw strings, (..., leaves)."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key):
        rhm, level = self.rhm, self.level
        root_key, node_key, tuple_key, *keys = jax.random.split(key, rhm.depth + 3)
        node = jax.random.randint(node_key, (), 0, rhm.num_nodes[level], jnp.int32)
        levels = [jax.random.randint(root_key, (1,), 0, rhm.num_classes, jnp.int32)]
        for at, k in enumerate(keys):
            children = rhm.draw_children(at, levels, k)
            if at == level:
                free = free_tuples(rhm.rules[level], rhm.vocabulary[level + 1])
                chosen = free[jax.random.randint(tuple_key, (), 0, len(free))]
                children = children.reshape(-1, len(chosen)).at[node].set(chosen).reshape(-1)
            levels.append(children)
        valid = tuple(self._valid(at, symbols, node) for at, symbols in enumerate(levels))
        tree = Derivation(tuple(levels), valid)
        return Sample(tree.leaves, Broken(tree, node))

    def _valid(self, at: int, symbols: Int[Array, " nodes"], node: Int[Array, ""]) -> Bool[Array, " nodes"]:
        below = math.prod(self.rhm.branching[at : self.level])
        number = jnp.arange(len(symbols), dtype=node.dtype)
        return number != node // below if at <= self.level else number >= 0


def check_broken_level(rhm: RandomHierarchyModel, level: Whole) -> int:
    """A level that has rules.

    Raises:
      ValueError: if it has none.
    """
    whole, first = as_whole("level", level), rhm.filter_level
    if not first <= whole < rhm.depth:
        raise ValueError(f"level = {level}: this grammar has rules at the levels {list(range(first, rhm.depth))}")
    return whole
