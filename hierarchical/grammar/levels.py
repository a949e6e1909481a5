r"""A grammar cut at a level: the law of the symbols there, and what becomes of them below.

The symbols y of level l are a string of the upper l levels of rules, and given them the leaves x follow by the others,

    p(x) = sum_y p_upper(y) p_lower(x | y),                                                                        (1)

so whoever can draw y and knows the lower rules can draw x.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ..arguments import NO_SYMBOL, AnyKey, Given, Whole, as_key, as_symbols, as_whole
from .hierarchy import RandomHierarchyModel


def upper_levels(rhm: RandomHierarchyModel, level: Whole) -> RandomHierarchyModel:
    """The grammar whose strings are the symbols of `level`, in [1, depth]: p_upper of equation (1).

    Raises:
      ValueError: if the grammar has no nodes at that level.
    """
    level = _checked(rhm, level, 1)
    tables = rhm.rules[:level], rhm.rule_log_probs[:level], rhm.vocabulary[: level + 1]
    return RandomHierarchyModel.of_tables(*tables, rhm.filter_level)


def expand(key: AnyKey, rhm: RandomHierarchyModel, symbols: Given, level: Whole) -> Int[Array, "*batch leaves"]:
    """Leaves drawn below given symbols of `level`, in [0, depth]: p_lower of equation (1).

    Args:
      symbols: of all nodes of the level, (..., nodes). Inside `jax.jit` an invalid symbol gives leaves -1.

    Raises:
      ValueError: if the grammar has no nodes at that level, or a symbol is outside its alphabet, or there are more or
        fewer of them than nodes.
    """
    level = _checked(rhm, level, 0)
    symbols = as_symbols(symbols, rhm.vocabulary[level], "symbols")
    nodes = rhm.num_nodes[level]
    if symbols.shape[-1:] != (nodes,):
        raise ValueError(f"level {level} of this grammar has {nodes} nodes, got symbols of shape {symbols.shape}")
    rows = symbols.reshape(-1, nodes)
    leaves = jax.vmap(lambda key, row: _below(key, rhm, row, level))(jax.random.split(as_key(key), len(rows)), rows)
    return leaves.reshape(*symbols.shape[:-1], rhm.num_leaves)


def _below(key: Key[Array, ""], rhm: RandomHierarchyModel, symbols: Array, level: int) -> Int[Array, " leaves"]:
    levels = [symbols]
    for at, level_key in enumerate(jax.random.split(key, rhm.depth - level), level):
        levels.append(rhm.draw_children(at, levels, level_key))
    known = jnp.repeat(symbols >= 0, rhm.num_leaves // len(symbols))
    return jnp.where(known, levels[-1], NO_SYMBOL)


def _checked(rhm: RandomHierarchyModel, level: Whole, least: int) -> int:
    level = as_whole("level", level, least)
    if level > rhm.depth or rhm.num_nodes[level] == 0:
        levels = [at for at, nodes in enumerate(rhm.num_nodes) if nodes and at >= least]
        raise ValueError(f"level = {level}: give one of {levels}, where this grammar has nodes")
    return level
