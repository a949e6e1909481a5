r"""The k most likely trees: the sweep of `logarithmic.most_likely` with lists in the place of single values.

Each symbol a of a node has a list of its k most likely subtrees. The list of a rule is made of its children's: of all
sums of an entry of each the k largest, one child after the other, k^2 sums at a time; the list of a symbol is the k
largest of the lists of its rules. What each entry was made of is kept, and read back from the root down. A tree is one
choice at every node, so no tree is listed twice.

Layout: (symbols, lanes, k), the lanes being the (node, datum) pairs of a level.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import Derivation, RandomHierarchyModel

from ...logspace import finite
from ..logarithmic import BatchEvidence, by_level

Values = Float[Array, "symbols lanes k"]


class Lists(NamedTuple):
    """For each symbol of the nodes of a level: values in decreasing order, `-inf` where there are fewer trees."""

    value: Values
    rule: Int[Array, "symbols lanes k"]
    rank: Int[Array, "branching symbols lanes k"]
    """Of each child: the place of its subtree in its own list."""


def top_k(rhm: RandomHierarchyModel, evidence: BatchEvidence, k: int) -> tuple[Derivation, Float[Array, "batch k"]]:
    """The k trees of the largest p(tree, y), levels (batch, k, nodes), and ln of these."""
    batch, (inner, leaves) = len(evidence), by_level(rhm, evidence)
    below = jnp.full((len(leaves), leaves[0].size, k), -jnp.inf, evidence.dtype)
    below = below.at[..., 0].set(leaves.reshape(len(leaves), -1))
    total, lists = jnp.zeros(batch, below.dtype), []
    for level, own in zip(reversed(range(rhm.depth)), reversed(inner), strict=True):
        shift = finite(jnp.max(below, (0, 2)))
        total += jnp.sum(shift.reshape(-1, batch), 0)
        children = _children(below - shift[None, :, None], rhm.branching[level], batch)
        lists.insert(0, _ranked(rhm.rules[level], rhm.log_prob_of_rules(level).astype(below.dtype), children))
        below = lists[0].value if own is None else lists[0].value + own.reshape(len(own), -1, 1)
    root = below.transpose(1, 0, 2).reshape(batch, -1)  # (batch, classes * k)
    best, place = jax.lax.top_k(root, k)
    log_prob = best + total[:, None] - math.log(rhm.num_classes)
    levels = _read_back(rhm, lists, (place // k).T[None], (place % k).T[None])
    valid = tuple(jnp.broadcast_to(log_prob[..., None] > -jnp.inf, level.shape) for level in levels)
    return Derivation(levels, valid), log_prob


def _children(level: Values, branching: int, batch: int) -> Float[Array, "branching symbols parents k"]:
    """Child j of every parent."""
    v, _, k = level.shape
    split = level.reshape(v, -1, branching, batch, k)
    return split.transpose(2, 0, 1, 3, 4).reshape(branching, v, -1, k)


def _ranked(
    rules: Int[Array, "symbols synonyms branching"],
    log_probs: Float[Array, "symbols synonyms"],
    children: Float[Array, "branching child_symbols lanes k"],
) -> Lists:
    """The lists of the parents; rules of equal value keep their order."""
    branching, _, lanes, k = children.shape

    def merged(lists: Lists, slot) -> tuple[Lists, None]:
        number, rule, log_prob = slot
        value, ranks = _of_rule([child[rule[:, j]] for j, child in enumerate(children)])
        both = jnp.concatenate([lists.value, value + log_prob[:, None, None]], -1)
        largest, place = jax.lax.top_k(both, k)

        def chosen(old, new):
            return jnp.take_along_axis(jnp.concatenate([old, jnp.broadcast_to(new, old.shape)], -1), place, -1)

        return Lists(largest, chosen(lists.rule, number), jax.vmap(chosen)(lists.rank, ranks)), None

    shape = len(rules), lanes, k
    none = jnp.zeros(shape, jnp.int32)
    start = Lists(jnp.full(shape, -jnp.inf, children.dtype), none, jnp.zeros((branching, *shape), jnp.int32))
    slots = jnp.arange(rules.shape[1], dtype=jnp.int32), jnp.moveaxis(rules, 1, 0), log_probs.T
    return jax.lax.scan(merged, start, slots)[0]


def _of_rule(children: list[Values]) -> tuple[Values, Int[Array, "branching symbols lanes k"]]:
    """The k largest sums of an entry of each child, and the entries."""
    value, k = children[0], children[0].shape[-1]
    ranks = [jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), value.shape)]
    for child in children[1:]:
        sums = value[..., :, None] + child[..., None, :]
        value, place = jax.lax.top_k(sums.reshape(*value.shape[:-1], -1), k)
        ranks = [*(jnp.take_along_axis(rank, place // k, -1) for rank in ranks), (place % k).astype(jnp.int32)]
    return value, jnp.stack(ranks)


def _read_back(
    rhm: RandomHierarchyModel, lists: list[Lists], symbol: Int[Array, "1 k batch"], rank: Int[Array, "1 k batch"]
) -> tuple[Int[Array, "batch k _nodes"], ...]:
    """The symbols of the trees, from their roots (nodes, k, batch) down."""
    levels = [symbol.astype(jnp.int32)]
    for rules, made in zip(rhm.rules, lists, strict=True):
        nodes, k, batch = levels[-1].shape
        lane = jnp.arange(nodes * batch).reshape(nodes, 1, batch)
        at = levels[-1], lane, rank
        children = rules[levels[-1], made.rule[at]]  # (nodes, k, batch, s)
        levels.append(jnp.moveaxis(children, -1, 1).reshape(-1, k, batch).astype(jnp.int32))
        ranks = jnp.stack([of_child[at] for of_child in made.rank], 1)  # (nodes, s, k, batch)
        rank = ranks.reshape(-1, k, batch)
    return tuple(level.transpose(2, 1, 0) for level in levels)
