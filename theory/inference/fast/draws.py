"""Exact draws of the whole tree by the fast formulation: from the root down, a rule for each node with children."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hierarchical import RandomHierarchyModel

from .contraction import Messages, padded_rules
from .segments import Segment, put
from .upward import Upward


def drawn_levels(
    key: Key[Array, ""], rhm: RandomHierarchyModel, up: Upward, cuts: list[Segment]
) -> tuple[Int[Array, "batch _nodes"], ...]:
    """The symbols of all levels, root first; one random number a node."""
    rules, probabilities = padded_rules(rhm, up.log_evidence.dtype)
    root_key, *keys = jax.random.split(key, len(cuts) + 1)
    classes = up.messages[0].table[0, : rhm.num_classes]
    drawn = _choose(jax.random.uniform(root_key, classes.shape[1:], classes.dtype), classes)[None]
    levels = [drawn.T]  # (batch, nodes)
    for k, cut, messages in zip(keys, cuts, up.messages, strict=True):
        symbols = _draw(k, drawn.reshape(cut.lanes), messages, rules, probabilities, cut)
        levels += [symbols[cut.place(level)].T.reshape(cut.batch, -1) for level in range(cut.top + 1, cut.bottom + 1)]
        drawn = levels[-1]
    return tuple(levels)


@jax.named_scope("draws")
def _draw(
    key: Key[Array, ""],
    roots: Int[Array, " lanes"],
    messages: Messages,
    rules: Int[Array, "levels v m s"],
    probabilities: Float[Array, "levels v m"],
    cut: Segment,
) -> Int[Array, "nodes lanes"]:
    """Symbols of all nodes of a segment, given those of its roots."""
    s, level, lane = cut.branching, cut.level_of_inner_nodes, jnp.arange(cut.lanes, dtype=jnp.int32)
    uniform = jax.random.uniform(key, (len(level), cut.lanes), messages.table.dtype)

    def step(node, symbols):
        candidates = rules[level[node]][symbols[node]]  # (lanes, rules, s)
        weights = probabilities[level[node]][symbols[node]].T  # (rules, lanes)
        for j in range(s):
            child = messages.table[s * node + 1 + j]
            weights *= child.at[candidates[..., j].T, lane[None]].get(mode="promise_in_bounds")
        chosen = jnp.minimum(_choose(uniform[node], weights), len(weights) - 1)  # too large if all weights are 0
        return put(symbols, candidates[lane, chosen].T, s * node + 1)

    start = jnp.zeros((sum(cut.nodes), cut.lanes), jnp.int32).at[0].set(roots)
    return jax.lax.fori_loop(0, len(level), step, start)


def _choose(uniform: Float[Array, " lanes"], weights: Float[Array, "choices lanes"]) -> Int[Array, " lanes"]:
    """A number k with probability proportional to its weight: the first whose cumulated weight exceeds u * total.

    With u in [0, 1) a weight of 0 is never chosen.
    """
    cumulated = jnp.cumsum(weights, 0)
    return jnp.sum(cumulated <= (uniform * cumulated[-1])[None], 0, dtype=jnp.int32)
