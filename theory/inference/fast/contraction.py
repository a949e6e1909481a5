r"""Messages of the fast formulation: weighted sums over rules of products of rows, and how precise they are.

Upward and downward, a new message is the same thing: at output symbol x, a weighted sum, over the rules that x takes
part in, of products of s rows of other messages,

    up:    u(a)   = sum over rules of a            of p(k|a) u_1(x_1) ... u_s(x_s),                                (1)
    down:  c_j(x) = sum over rules with x_j = x    of p(k|a) c(a) prod_{i != j} u_i(x_i),                          (2)

c_j being the cavity (the message to child j from everything outside) and P_j ~ c_j u_j the posterior. `contract`
computes both from a list of rules for each output row (`upward_lists`; `downward_lists`, where the rows are the symbols
of all s children). A rule is one multiply-add of long rows.

**Guard.** Messages are scaled to a largest entry of 1. What falls below the smallest normal float (2^-126 in float32)
is lost; whether that can happen is known from the smallest entries. With e the absolute error of a message in that
unit, z the largest entry before scaling, W the largest sum of weights of a list (1 upward) and R its most entries, each
of which can lose one unit, as scaling can,

    e_out <= ((e_1 + ... + e_s) W + (R + 1) [something may be lost]) / z,                                          (3)

and a posterior P = c u / sum c u is wrong by at most (e_c + e_u + 1) v / sum c u, which must stay below `TOLERANCE`.
This costs two numbers per lane. Evidence that contradicts the grammar too strongly fails, and exactly impossible
evidence always does (z is then 0); NaN or infinite evidence starts with error = inf, so the guard rejects it.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hierarchical import RandomHierarchyModel

from .compiler import larger, larger_and_sum, looked_up_once, not_unrolled, over_symbols, smaller, summed_once

TOLERANCE = {4: 1e-6, 8: 1e-13}  # of a posterior probability, by bytes per float
RULES_AT_ONCE = 4  # more are slower, to compile and to run


class Lists(eqx.Module):
    """For each table, and each output row, a list of rules; short lists are filled up with rules of weight 0."""

    operands: Int[Array, "tables passes rules_at_once branching rows"]
    """The s rows that a rule multiplies: the j-th row counts from the beginning of the j-th source."""
    weight: Float[Array, "tables passes rules_at_once rows"]
    longest: Int[Array, " tables"]
    """Entries of the longest list, R of equation (3)."""
    heaviest: Float[Array, " tables"]
    """W of equation (3); infinite, so that the guard refuses, if a list has more entries than there is room for."""
    lightest: Float[Array, " tables"]
    """The smallest weight that is not 0."""


class Messages(eqx.Module):
    """Messages of some nodes, and what the guard needs for each lane."""

    table: Float[Array, "nodes symbols lanes"]
    """Largest entry 1."""
    error: Float[Array, "nodes lanes"]
    """e of equation (3)."""
    least: Float[Array, "nodes lanes"]
    """The smallest entry that is not 0."""


Rows = tuple[Float[Array, "_nodes symbols lanes"], Int[Array, ""]]  # a table, and the node where reading begins


def new_messages(
    lists: Lists,
    table: Int[Array, ""],
    sources: Sequence[Rows],
    inherited: Float[Array, "nodes lanes"],
    least: Float[Array, "nodes lanes"],
    inside: Float[Array, "nodes symbols lanes"] | Float[Array, ""] | None = None,
) -> tuple[Messages, Float[Array, "nodes lanes"], Float[Array, "nodes lanes"]]:
    """Equation (1) or (2) for one or more new nodes, scaled, with their errors by equation (3).

    Args:
      inherited: for each new node, the sum of the errors of the messages that it is made of.
      least: the product of the smallest entries of these messages.
      inside: the table with which overlaps are taken.

    Returns:
      The messages; their sizes z before scaling; and overlaps sum_x message(x) inside(x), 0 without `inside`.
    """
    dtype = lists.weight.dtype
    total = contract(lists, table, sources)
    total = total.reshape(len(least), -1, total.shape[-1])
    if inside is None:
        (size,), overlap = over_symbols(larger, [0.0], total), jnp.zeros_like(least)
    else:
        size, overlap = over_symbols(larger_and_sum, [0.0, 0.0], total, total * inside)
    (smallest,) = over_symbols(smaller, [jnp.inf], jnp.where(total > 0, total, jnp.inf))
    inverse = jnp.where(size > 0, 1 / size, 0)
    lost = least * lists.lightest[table] < jnp.finfo(dtype).tiny * jnp.maximum(size, 1)
    error = inherited * lists.heaviest[table] + jnp.where(lost, 1 + lists.longest[table].astype(dtype), 0)
    error = jnp.where(size > 0, error / size, jnp.inf)
    least = jnp.minimum(smallest, size) * inverse
    return Messages(total * inverse[:, None], error, least), size, overlap * inverse


def contract(lists: Lists, table: Int[Array, ""], sources: Sequence[Rows]) -> Float[Array, "rows lanes"]:
    """Equations (1) and (2): for each output row, the weighted sum over its rules of products of rows.

    `RULES_AT_ONCE` rules of all rows are one expression, and their sum one pass over memory. Rows are read where they
    are, among all nodes of a source: a message that is cut out first is copied.
    """
    flat = [source.reshape(-1, source.shape[-1]) for source, _ in sources]  # (nodes * symbols, lanes)
    starts = jnp.stack([node * source.shape[1] for source, node in sources])

    def add(total: Float[Array, "rows lanes"] | None, i: Int[Array, ""] | int) -> Float[Array, "rows lanes"]:
        rows, weight = looked_up_once((lists.operands[table, i] + starts[None, :, None], lists.weight[table, i]))
        return _with_rules(total, rows, weight, flat)

    total = add(None, 0)
    # a loop even for one pass: without it XLA would compute the sum again in every operation that reads it
    passes = -(-lists.longest[table] // RULES_AT_ONCE)
    return jax.lax.fori_loop(1, passes, lambda i, total: add(total, i), total)


def _with_rules(
    total: Float[Array, "rows lanes"] | None,
    operands: Int[Array, "rules_at_once branching rows"],
    weight: Float[Array, "rules_at_once rows"],
    sources: list[Float[Array, "_all_rows lanes"]],
) -> Float[Array, "rows lanes"]:
    """The sum with the rules of one pass."""
    for k in range(RULES_AT_ONCE):
        product = weight[k][:, None]
        for f, source in enumerate(sources):
            product *= source.at[operands[k, f]].get(mode="promise_in_bounds")
        total = product if total is None else total + product
    assert total is not None
    return summed_once(total)


def padded_rules(rhm: RandomHierarchyModel, dtype) -> tuple[Int[Array, "levels v m s"], Float[Array, "levels v m"]]:
    """Rules and their probabilities; the rules that pad a smaller level have weight 0 and use symbol 0."""
    v, m = max(rhm.vocabulary), max(rhm.num_synonyms)
    tables, weights = [], []
    for level, rules in enumerate(rhm.rules):
        room = ((0, v - rules.shape[0]), (0, m - rules.shape[1]))
        tables.append(jnp.pad(rules, (*room, (0, 0))))
        logs = rhm.log_prob_of_rules(level)
        smallest = jnp.finfo(dtype).tiny  # a possible rule keeps a positive weight, which the guard sees
        weights.append(jnp.pad(jnp.where(logs > -jnp.inf, jnp.maximum(jnp.exp(logs).astype(dtype), smallest), 0), room))
    return jnp.stack(tables), jnp.stack(weights)


@jax.named_scope("lists")
def upward_lists(rhm: RandomHierarchyModel, dtype) -> Lists:
    """A table per level of rules: the rules of each parent. Every source begins at the first child."""
    rules, weights = padded_rules(rhm, dtype)
    levels, v, m, s = rules.shape
    operands = rules + v * _up_to(s, 4)
    return _lists(operands, weights, jnp.full(levels, m, jnp.int32))


def most_rules(v: int, m: int, s: int) -> int:
    """Room for the rules that produce a symbol at one place; where tuples are distinct there are no more.

    With more rules than tuples they are not, and all rules may produce the same symbol. Lists that are longer all the
    same are refused by the guard.
    """
    return min(v ** (s - 1), v * m) if v * m <= v**s else v * m


@jax.named_scope("lists")
def downward_lists(rhm: RandomHierarchyModel, dtype) -> Lists:
    """A table per level of rules: for each symbol of each child, the rules that produce it.

    The first source begins at the parent, the others at its first child.
    """
    rules, weights = padded_rules(rhm, dtype)
    levels, v, m, s = rules.shape
    flat, weights = rules.reshape(levels, v * m, s), weights.reshape(levels, 1, v * m)
    symbol = jnp.where(weights == 0, v, jnp.swapaxes(flat, 1, 2))  # padding: behind all lists, used by none
    most = most_rules(v, m, s)
    rule, is_used, longest = _rules_of_symbols(symbol, v, most)
    weight = jnp.where(is_used, jnp.take_along_axis(weights[:, :, None], rule, -1), 0)
    operands = jnp.take_along_axis(_siblings_and_parent(flat, v, m)[:, :, None], rule[..., None], -2)
    return _lists(operands.reshape(levels, s * v, most, s), weight.reshape(levels, s * v, most), longest)


def _siblings_and_parent(rules: Int[Array, "levels rules s"], v: int, m: int) -> Int[Array, "levels s rules s"]:
    """For each child, the row of the parent and those of the other children, of every rule."""
    levels, count, s = rules.shape
    parents = jnp.broadcast_to(jnp.swapaxes(_up_to(count, 3), 1, 2) // m, (levels, count, 1))
    placed = rules + v * _up_to(s, 3)
    return jnp.stack([jnp.concatenate([parents, jnp.roll(placed, -j, 2)[..., 1:]], 2) for j in range(s)], 1)


def _rules_of_symbols(
    symbol: Int[Array, "levels child rules"], v: int, most: int
) -> tuple[Int[Array, "levels child v most"], Bool[Array, "levels child v most"], Int[Array, " levels"]]:
    """The numbers of the rules that produce each symbol, which entries are used, and how many the longest list has."""
    count = symbol.shape[-1]
    # sorting one integer for both, symbol and rule, is several times as fast as argsort
    order = jnp.sort(symbol * count + _up_to(count, 3), -1) % count
    start = jnp.sum(symbol[:, :, None] < jnp.swapaxes(_up_to(v + 1, 4), 2, 3), -1, dtype=jnp.int32)
    entry = start[..., :-1, None] + _up_to(most, 4)  # (levels, child, symbol, entry)
    rule = jnp.take_along_axis(order[:, :, None], jnp.minimum(entry, count - 1), -1)
    return rule, entry < start[..., 1:, None], jnp.max(jnp.diff(start), (1, 2)).astype(jnp.int32)


def _up_to(count: int, rank: int) -> Int[Array, "..."]:
    """0, 1, ... count - 1 along the last of `rank` axes."""
    return jnp.arange(count, dtype=jnp.int32).reshape((1,) * (rank - 1) + (-1,))


def _lists(
    operands: Int[Array, "levels rows entries s"],
    weight: Float[Array, "levels rows entries"],
    longest: Int[Array, " levels"],
) -> Lists:
    levels, rows, entries = weight.shape
    longest = not_unrolled(longest, operands)
    passes = -(-entries // RULES_AT_ONCE)
    room = (0, passes * RULES_AT_ONCE - entries)
    operands = jnp.pad(operands, ((0, 0), (0, 0), room, (0, 0))).transpose(0, 2, 3, 1)
    padded = jnp.pad(weight, ((0, 0), (0, 0), room)).transpose(0, 2, 1)
    return Lists(
        operands.reshape(levels, passes, RULES_AT_ONCE, -1, rows),
        padded.reshape(levels, passes, RULES_AT_ONCE, rows),
        longest,
        jnp.where(longest > entries, jnp.inf, jnp.max(jnp.sum(weight, -1), -1)),
        jnp.min(jnp.where(weight > 0, weight, 1), (1, 2)),
    )


def allowed(messages: Messages) -> float:
    """The largest e, in units of the smallest normal float, at which posteriors are within `TOLERANCE`."""
    dtype, symbols = messages.table.dtype, messages.table.shape[-2]
    return TOLERANCE[dtype.itemsize] / float(jnp.finfo(dtype).tiny) / symbols
