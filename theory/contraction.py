r"""One message of the fast formulation: a weighted sum over rules of products of rows, and how precise it is.

Upward and downward, a new message is the same thing: at output symbol x, a weighted sum, over the rules that x takes
part in, of products of s rows of other messages,

    up:    u(a)   = sum over rules of a            of p(k|a) u_1(x_1) ... u_s(x_s),                                (1)
    down:  c_j(x) = sum over rules with x_j = x    of p(k|a) c(a) prod_{i != j} u_i(x_i),                          (2)

c_j being the cavity (what everything outside says of child j) and P_j ~ c_j u_j the posterior. `message` is both, fed
with a list of rules for each output symbol (`upward_lists`, `downward_lists`). A rule is one multiply-add of long rows.

**Guard.** Messages are scaled to a largest entry of 1. What falls below the smallest normal float (2^-126 in float32)
is lost; whether that can happen is known from the smallest entries. With e the absolute error of a message in that
unit, z the largest entry before scaling, W the largest sum of weights of a list (1 upward) and R its most entries, each
of which can lose one unit, as scaling can,

    e_out <= ((e_1 + ... + e_s) W + (R + 1) [something may be lost]) / z,                                          (3)

and a posterior P = c u / sum c u is wrong by at most (e_c + e_u + 1) v / sum c u, which must stay below `TOLERANCE`.
This costs two numbers per lane. Evidence that contradicts the grammar too strongly fails, and exactly impossible
evidence always does (z is then 0); what is no number, or infinite, begins with an infinite error.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import RandomHierarchyModel

TOLERANCE = {4: 1e-6, 8: 1e-13}  # of a posterior probability, by bytes per float
RULES_AT_ONCE = 4  # more take longer, to compile and to run


class Lists(eqx.Module):
    """For each table, the rules of output symbol x are the entries start[x] .. start[x + 1] of the others."""

    start: Int[Array, "*tables symbols_and_one"]
    operands: Int[Array, "*tables rules branching"]
    """Row of each of the s messages that are read."""
    weight: Float[Array, "*tables rules"]
    longest: Int[Array, "*tables"]
    """Entries of the longest list."""
    heaviest: Float[Array, "*tables"]
    """W of equation (3)."""
    lightest: Float[Array, "*tables"]
    """The smallest weight that is not 0."""
    most: int = eqx.field(static=True)
    """Entries that no list can exceed."""


class Messages(eqx.Module):
    """Messages of some nodes, and what the guard must know of each lane."""

    table: Float[Array, "*nodes symbols lanes"]
    """Largest entry 1."""
    error: Float[Array, "*nodes lanes"]
    """e of equation (3)."""
    least: Float[Array, "*nodes lanes"]
    """The smallest entry that is not 0."""


Source = tuple[Messages, Int[Array, ""]]  # one node of some messages


def message(lists: Lists, sources: Sequence[Source]) -> tuple[Messages, Float[Array, " lanes"]]:
    """Equation (1) or (2) at one node, scaled, with its error by equation (3); and its size z."""
    dtype = lists.weight.dtype
    total = _contract(lists, [(messages.table, node) for messages, node in sources])
    size = jnp.max(total, 0)
    inverse = jnp.where(size > 0, 1 / size, 0)
    lost = math.prod([messages.least[node] for messages, node in sources], start=lists.lightest)
    lost = lost < jnp.finfo(dtype).tiny * jnp.maximum(size, 1)
    inherited = sum(messages.error[node] for messages, node in sources)
    error = inherited * lists.heaviest + jnp.where(lost, 1 + lists.longest.astype(dtype), 0)
    error = jnp.where(size > 0, error / size, jnp.inf)
    least = jnp.min(jnp.where(total > 0, total, size[None]), 0) * inverse
    return Messages((total * inverse[None])[None], error[None], least[None]), size


def _contract(
    lists: Lists, sources: Sequence[tuple[Float[Array, "_nodes symbols lanes"], Int[Array, ""]]]
) -> Float[Array, "symbols lanes"]:
    """Equations (1) and (2): for each output symbol, the weighted sum over its rules of products of rows.

    `RULES_AT_ONCE` rules of all symbols are one expression, and their sum one pass over memory. Rows are read where
    they are, among all nodes of a source: a message that is cut out first is copied.
    """
    tables = [(table.reshape(-1, table.shape[-1]), node * table.shape[1]) for table, node in sources]

    def add(total: Float[Array, "symbols lanes"] | None, first: Int[Array, ""] | int) -> Float[Array, "symbols lanes"]:
        entry = lists.start[None, :-1] + (first + jnp.arange(RULES_AT_ONCE, dtype=jnp.int32))[:, None]
        weight = jnp.where(entry < lists.start[None, 1:], lists.weight[entry], 0)
        rows = [lists.operands[entry, f] + first_row for f, (_, first_row) in enumerate(tables)]
        # computed once per node, not once per lane
        rows, weight = jax.lax.optimization_barrier((rows, weight))
        for k in range(RULES_AT_ONCE):
            product = weight[k][:, None]
            for (table, _), row in zip(tables, rows, strict=True):
                product *= table.at[row[k]].get(mode="promise_in_bounds")
            total = product if total is None else total + product
        assert total is not None
        return jax.lax.optimization_barrier(total)

    total = add(None, 0)
    if lists.most <= RULES_AT_ONCE:
        return total
    passes = -(-lists.longest // RULES_AT_ONCE)
    return jax.lax.fori_loop(1, passes, lambda i, total: add(total, RULES_AT_ONCE * i), total)


def _padded_rules(rhm: RandomHierarchyModel, dtype) -> tuple[Array, Array]:
    """(levels, v, m, s) and (levels, v, m); the rules that pad a smaller level have weight 0 and use symbol 0."""
    v, m = max(rhm.vocabulary), max(rhm.synonyms)
    tables, weights = [], []
    for level, rules in enumerate(rhm.rules):
        room = ((0, v - rules.shape[0]), (0, m - rules.shape[1]))
        tables.append(jnp.pad(rules, (*room, (0, 0))))
        logs = rhm.log_prob_of_rules(level)
        smallest = jnp.finfo(dtype).tiny  # a rule that is possible keeps a weight, which the guard then sees
        weights.append(jnp.pad(jnp.where(logs > -jnp.inf, jnp.maximum(jnp.exp(logs).astype(dtype), smallest), 0), room))
    return jnp.stack(tables), jnp.stack(weights)


def upward_lists(rhm: RandomHierarchyModel, dtype) -> Lists:
    """A table per level of rules: the rules of each parent."""
    rules, weights = _padded_rules(rhm, dtype)
    levels, v, m, s = rules.shape
    start = jnp.broadcast_to(m * jnp.arange(v + 1, dtype=jnp.int32), (levels, v + 1))
    return _lists(start, rules.reshape(levels, v * m, s), weights.reshape(levels, v * m), m)


def downward_lists(rhm: RandomHierarchyModel, dtype) -> Lists:
    """A table per level of rules and child j: the rules that give child j each symbol; reads (parent, siblings)."""
    rules, weights = _padded_rules(rhm, dtype)
    levels, v, m, s = rules.shape
    flat = rules.reshape(levels, v * m, s)
    parents = jnp.broadcast_to(jnp.arange(v * m, dtype=flat.dtype)[:, None] // m, (levels, v * m, 1))
    used = [jnp.concatenate([parents, jnp.roll(flat, -j, 2)[..., 1:]], 2) for j in range(s)]
    operands = jnp.stack(used, 1).reshape(levels * s, v * m, s)
    child = jnp.swapaxes(flat, 1, 2).reshape(levels * s, v * m)
    padding = jnp.repeat(weights.reshape(levels, v * m) == 0, s, 0)
    child = jnp.where(padding, v, child)  # behind all lists: used by none
    # sorting one integer for both, symbol and rule, is several times as fast as argsort
    order = jnp.sort(child * (v * m) + jnp.arange(v * m, dtype=child.dtype)[None], -1) % (v * m)
    start = jnp.sum(child[:, None] < jnp.arange(v + 1, dtype=child.dtype)[None, :, None], -1, dtype=jnp.int32)
    weight = jnp.take_along_axis(jnp.repeat(weights.reshape(levels, v * m), s, 0), order, 1)
    operands = jnp.take_along_axis(operands, order[..., None], 1)
    return _lists(start, operands, weight, min(v ** (s - 1), v * m))  # tuples are distinct


def _lists(start: Array, operands: Array, weight: Array, most: int) -> Lists:
    sums = jnp.pad(jnp.cumsum(weight, 1), ((0, 0), (1, 0)))
    totals = jnp.take_along_axis(sums, start[:, 1:], 1) - jnp.take_along_axis(sums, start[:, :-1], 1)
    lightest = jnp.min(jnp.where(weight > 0, weight, 1), 1)
    return Lists(start, operands, weight, jnp.max(jnp.diff(start), 1), jnp.max(totals, 1), lightest, most)


def allowed(messages: Messages) -> float:
    """The largest e, in units of the smallest normal float, at which posteriors are within `TOLERANCE`."""
    dtype, symbols = messages.table.dtype, messages.table.shape[-2]
    return TOLERANCE[dtype.itemsize] / float(jnp.finfo(dtype).tiny) / symbols
