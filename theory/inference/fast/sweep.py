r"""The fast formulation of inference: linear in the messages, a node at a time for many lanes, and guarded.

Messages are sums over rules of products of rows, `contraction` (1) and (2). This file sets their order.

**Layout.** The tree is cut into `segments`: small trees, the lanes of whose messages are many subtrees at once. Lanes
are innermost, and a rule is one multiply-add of long contiguous rows. The loop over local nodes has one body, so
compile time grows with the number of segments (one to four), not with depth; rules are traced, so a new grammar of the
same sizes compiles nothing.

**Memory traffic.** A node reads s v C floats and writes v C, C being the lanes: some 32 KiB each, which stay in a
core's second-level cache while the rules pass over them, four of each output row at a time. A rule reads s rows; the
sums go to that cache and back once for four rules. Downward, the cavities on the way to the root stay there too
(`Segment.depth_first`). Leaves are turned into lanes, and posteriors back into data, a tile at a time for the same
reason. Every message goes to memory and back about twice.

Large batches are computed a piece at a time (`in_pieces`). Every function returns its result and, for each datum,
whether all of its piece is precise (the guard of `contraction`); where it is not, the caller takes `logarithmic`.
"""

import math
from functools import reduce
from itertools import chain

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from hierarchical import Derivation, RandomHierarchyModel

from ..evidence import Evidence, lanes_reader
from .contraction import Lists, Messages, allowed, downward_lists, new_messages, padded_rules, upward_lists
from .counts import segment_counts
from .segments import (
    Segment,
    at,
    data_at_once,
    enter,
    in_pieces,
    keep,
    leave,
    part,
    put,
    segments,
    transposed,
    with_room,
)

BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]
Reliable = Bool[Array, " batch"]
CompensatedSum = tuple[Float[Array, " lanes"], Float[Array, " lanes"]]  # the sum so far, and what rounding added to it


class Upward(eqx.Module):
    """The result of the upward pass."""

    messages: list[Messages]
    """All local nodes of each segment, root first; top segment first."""
    log_evidence: Float[Array, " batch"]
    """ln p(y), nats."""


def log_evidence(rhm: RandomHierarchyModel, evidence: Evidence) -> tuple[Float[Array, " batch"], Reliable]:
    """ln p(y) of each datum, nats."""

    def piece(_, evidence):
        up = _upward(rhm, evidence, segments(rhm, len(evidence)))
        return up.log_evidence, _of_all(_all_reliable(up), evidence)

    return in_pieces(piece, data_at_once(rhm), evidence)


def marginals(rhm: RandomHierarchyModel, evidence: Evidence) -> tuple[BatchLevelTables, Reliable]:
    """Posterior of every node, root first."""
    return in_pieces(lambda _, rows: _every_level(rhm, rows, cavity=False), data_at_once(rhm), evidence)


def cavity_marginals(rhm: RandomHierarchyModel, evidence: Evidence) -> tuple[BatchLevelTables, Reliable]:
    """Cavity of every node, root first."""
    return in_pieces(lambda _, rows: _every_level(rhm, rows, cavity=True), data_at_once(rhm), evidence)


def posterior_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: Evidence) -> tuple[Derivation, Reliable]:
    """One exact draw of the tree for each datum; one random number a node."""

    def piece(key, evidence):
        levels, reliable = _drawn_levels(key, rhm, evidence)
        valid = tuple(jnp.ones(level.shape, bool) for level in levels)
        return Derivation(levels, valid), _of_all(reliable, evidence)

    return in_pieces(piece, data_at_once(rhm), evidence, key)


def _drawn_levels(
    key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: Evidence
) -> tuple[tuple[Int[Array, "batch _nodes"], ...], Bool[Array, ""]]:
    cuts = segments(rhm, len(evidence))
    up, (rules, probabilities) = _upward(rhm, evidence, cuts), padded_rules(rhm, evidence.dtype)
    root_key, *keys = jax.random.split(key, len(cuts) + 1)
    classes = up.messages[0].table[0, : rhm.num_classes]
    drawn = _choose(jax.random.uniform(root_key, classes.shape[1:], classes.dtype), classes)[None]
    levels = [drawn.T]  # (batch, nodes)
    for k, cut, messages in zip(keys, cuts, up.messages, strict=True):
        symbols = _draw(k, drawn.reshape(cut.lanes), messages, rules, probabilities, cut)
        levels += [symbols[cut.place(level)].T.reshape(cut.batch, -1) for level in range(cut.top + 1, cut.bottom + 1)]
        drawn = levels[-1]
    return tuple(levels), _all_reliable(up)


@jax.named_scope("draws")
def _draw(
    key: Key[Array, ""],
    roots: Int[Array, " lanes"],
    messages: Messages,
    rules: Int[Array, "levels v m s"],
    probabilities: Float[Array, "levels v m"],
    cut: Segment,
) -> Int[Array, "nodes lanes"]:
    """Symbols of all nodes of a segment, given those of its roots: a rule for each node with children, root first."""
    s, level, lane = cut.branching, cut.level_of_inner_nodes, jnp.arange(cut.lanes, dtype=jnp.int32)
    uniform = jax.random.uniform(key, (len(level), cut.lanes), messages.table.dtype)

    def step(node, symbols):
        candidates = rules[level[node]][symbols[node]]  # (lanes, rules, s)
        weights = probabilities[level[node]][symbols[node]].T
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


def leaves_and_counts(
    rhm: RandomHierarchyModel, evidence: Evidence
) -> tuple[tuple[Float[Array, "batch leaves v"], BatchLevelTables], Reliable]:
    """Posterior of the leaves, and how often each rule is used: the slope of `log_evidence`."""

    def piece(_, evidence):
        cuts = segments(rhm, len(evidence))
        up = _upward(rhm, evidence, cuts)
        tables, reliable = _downward(rhm, up, cuts, cavity=False)
        of_segments = zip(cuts, up.messages, tables, strict=True)
        counts = [segment_counts(rhm, cut, messages.table, table) for cut, messages, table in of_segments]
        answer = _data(cuts[-1], tables[-1], rhm, rhm.depth), tuple(chain.from_iterable(counts))
        return answer, _of_all(reliable, evidence)

    return in_pieces(piece, data_at_once(rhm), evidence)


def _every_level(rhm: RandomHierarchyModel, evidence: Evidence, *, cavity: bool) -> tuple[BatchLevelTables, Reliable]:
    cuts = segments(rhm, len(evidence))
    up = _upward(rhm, evidence, cuts)
    tables, reliable = _downward(rhm, up, cuts, cavity=cavity)
    levels = []
    for cut, table in zip(cuts, tables, strict=True):
        last = cut.bottom + (cut.bottom == rhm.depth)
        for level in range(cut.top, last):
            levels.append(_data(cut, table, rhm, level))
    return tuple(levels), _of_all(reliable, evidence)


def _data(
    cut: Segment, table: Float[Array, "_nodes symbols lanes"], rhm: RandomHierarchyModel, level: int
) -> Float[Array, "batch _level_nodes _level_symbols"]:
    """A level of a segment's table, data first."""
    rows = transposed(table, cut.place(level))
    return rows.reshape(cut.batch, -1, table.shape[1])[..., : rhm.vocabulary[level]]


def _upward(rhm: RandomHierarchyModel, evidence: Evidence, cuts: list[Segment]) -> Upward:
    """Equation (1) for the whole tree."""
    lists, climbed = upward_lists(rhm, evidence.dtype), []
    log_sizes = jnp.zeros(len(evidence), evidence.dtype)
    for cut in reversed(cuts):
        if climbed:
            leaves = enter(at(climbed[0], 0), cut)
            messages = jax.tree.map(lambda x, cut=cut: with_room(x, len(cut.level_of_inner_nodes), 0), leaves)
            sizes = _nothing(cut.lanes, log_sizes.dtype)
        else:
            messages, sizes = _leaves(evidence, max(rhm.vocabulary), cut)
        messages, (total, _) = _climb(messages, sizes, lists, cut)
        climbed.insert(0, messages)
        log_sizes += jnp.sum(total.reshape(cut.batch, cut.roots), 1)
    root = climbed[0].table[0, : rhm.num_classes]
    return Upward(climbed, log_sizes + jnp.log(jnp.sum(root, 0)) - math.log(rhm.num_classes))


@jax.named_scope("leaves")
def _leaves(evidence: Evidence, symbols: int, cut: Segment) -> tuple[Messages, CompensatedSum]:
    """Messages of all local nodes, only the leaves filled in, and the sum of the logarithms of the leaves' scales."""
    k, v, dtype = cut.nodes[-1], evidence.shape[-1], evidence.dtype
    inner = len(cut.level_of_inner_nodes)
    leaves, lanes = cut.block(v)
    read = lanes_reader(evidence, cut, leaves, lanes)
    per_row = -(-cut.lanes // lanes)
    empty = Messages(*(jnp.zeros((inner + k, *shape, cut.lanes), dtype) for shape in ((symbols,), (), ())))

    def step(i, state):
        messages, scales = state
        leaf, lane = leaves * (i // per_row), jnp.minimum(lanes * (i % per_row), cut.lanes - lanes)
        logs = read(leaf, lane)
        # NaN is caught here: at a symbol that no rule uses it reaches no message, and a maximum may ignore it
        error = jnp.max(jnp.where(logs < jnp.inf, jnp.zeros_like(logs), jnp.inf), 1)
        largest = jnp.max(logs, 1)
        largest = jnp.where(largest > -jnp.inf, largest, 0)
        least = jnp.exp(jnp.min(jnp.where(logs > -jnp.inf, logs, largest[:, None]), 1) - largest)
        table = jnp.pad(jnp.exp(logs - largest[:, None]), ((0, 0), (0, symbols - v), (0, 0)))
        error += (least < jnp.finfo(dtype).tiny).astype(dtype)
        new = Messages(table, error, least)
        return put(messages, new, inner + leaf, lane), put(scales, largest, leaf, lane)

    blocks = (k // leaves) * per_row
    messages, scales = jax.lax.fori_loop(0, blocks, step, (empty, jnp.zeros((k, cut.lanes), dtype)))
    total = jax.lax.fori_loop(0, k, lambda i, total: _added(total, scales[i]), _nothing(cut.lanes, dtype))
    return messages, total


@jax.named_scope("upward")
def _climb(
    messages: Messages, log_sizes: CompensatedSum, lists: Lists, cut: Segment
) -> tuple[Messages, CompensatedSum]:
    """All nodes of a segment from its leaves; the logarithms of their sizes are added to `log_sizes`."""
    s, level = cut.branching, cut.level_of_inner_nodes

    def step(i, state):
        messages, log_sizes = state
        node = len(level) - 1 - i
        first = s * node + 1
        below = [part((messages.error, messages.least), first + j, 1) for j in range(s)]
        made_of = reduce(jnp.add, [error for error, _ in below]), reduce(jnp.multiply, [least for _, least in below])
        parent, size, _ = new_messages(lists, level[node], [(messages.table, first)] * s, *made_of)
        return keep(messages, parent, node), _added(log_sizes, jnp.log(size[0]))

    return jax.lax.fori_loop(0, len(level), step, (messages, log_sizes))


def _nothing(lanes: int, dtype) -> CompensatedSum:
    return jnp.zeros(lanes, dtype), jnp.zeros(lanes, dtype)


def _added(before: CompensatedSum, term: Float[Array, " lanes"]) -> CompensatedSum:
    """One more term of a compensated sum (Kahan): a million terms cost no more precision than one term."""
    total, rest = before
    term = term - rest
    return total + term, ((total + term) - total) - term


def _downward(
    rhm: RandomHierarchyModel, up: Upward, cuts: list[Segment], *, cavity: bool
) -> tuple[list[Float[Array, "_nodes _symbols _lanes"]], Bool[Array, ""]]:
    """Equation (2) for the whole tree.

    Returns:
      The posterior of every node (if `cavity`, its normalised cavity), a table per segment; and whether none of their
      entries can be wrong by more than `TOLERANCE`.
    """
    lists = downward_lists(rhm, up.log_evidence.dtype)
    evidence = at(up.messages[0], slice(0, 1))
    is_class = (jnp.arange(evidence.table.shape[1]) < rhm.num_classes)[None, :, None]
    outside = jnp.broadcast_to(is_class, evidence.table.shape).astype(evidence.table.dtype)
    root = Messages(outside, jnp.zeros_like(evidence.error), jnp.ones_like(evidence.error))
    tables, reliable = [], jnp.all(evidence.error < allowed(evidence))
    for cut, messages in zip(cuts, up.messages, strict=True):
        is_last = cut.bottom == rhm.depth
        table, outside, fine = _descend(root, messages, lists, cut, keep_leaves=not is_last, cavity=cavity)
        tables.append(table)
        reliable &= fine
        root = leave(outside)
    return tables, reliable


@jax.named_scope("downward")
def _descend(
    root: Messages, inside: Messages, lists: Lists, cut: Segment, *, keep_leaves: bool, cavity: bool
) -> tuple[Float[Array, "nodes symbols lanes"], Messages, Bool[Array, ""]]:
    """Posteriors of all nodes of a segment, which overwrite their messages; cavities; whether the guard accepts them.

    Cavities of leaves are kept only if another segment follows. Otherwise the order is depth first, and cavities
    are kept only while they are needed: a few nodes for each level, which a cache holds.
    """
    s, level = cut.branching, cut.level_of_inner_nodes
    walk = cut.breadth_first if keep_leaves else cut.depth_first

    def step(i, state):
        tables, cavities, reliable = state
        node, place, below = walk.node[i], walk.place[i], walk.place_of_children[i]
        first = s * node + 1
        error, least = (jax.lax.dynamic_slice_in_dim(x, first, s) for x in (inside.error, inside.least))
        siblings = [[jnp.roll(x, -k, 0) for k in range(1, s)] for x in (error, least)]
        inherited = sum(siblings[0], start=cavities.error[place][None])
        smallest = math.prod(siblings[1], start=cavities.least[place][None])
        sources = [(cavities.table, place), *[(tables, first)] * (s - 1)]
        upward = jnp.ones((), error.dtype) if cavity else part(tables, first, s)
        outside, _, overlap = new_messages(lists, level[node], sources, inherited, smallest, upward)
        tables, fine = _posterior(tables, first, outside, error, overlap, cavity)
        return tables, keep(cavities, outside, below), reliable & fine

    overlap = jnp.sum(root.table if cavity else root.table * inside.table[:1], 1)
    tables, _ = _posterior(inside.table, 0, root, inside.error[:1], overlap, cavity)
    room = jax.tree.map(lambda x: with_room(x, 0, walk.places - 1), root)
    fine = jnp.ones((s, cut.lanes), bool)
    tables, cavities, reliable = jax.lax.fori_loop(0, len(level), step, (tables, room, fine))
    return tables, at(cavities, slice(len(level), None)), jnp.all(reliable)


def _posterior(
    tables: Float[Array, "all_nodes symbols lanes"],
    node: Int[Array, ""] | int,
    outside: Messages,
    error: Float[Array, "nodes lanes"],
    overlap: Float[Array, "nodes lanes"],
    cavity: bool,
) -> tuple[Float[Array, "all_nodes symbols lanes"], Bool[Array, "nodes lanes"]]:
    """P = c u / overlap, or c alone, in the place of u from `node` on; and whether it is reliable."""
    scale = (1 / overlap)[:, None]
    if cavity:
        return put(tables, outside.table * scale, node), outside.error < allowed(outside)
    fine = outside.error + error + 1 < allowed(outside) * overlap
    return put(tables, outside.table * part(tables, node, len(error)) * scale, node), fine


def _of_all(reliable: Bool[Array, ""], data: Evidence) -> Reliable:
    return jnp.broadcast_to(reliable, len(data))


def _all_reliable(up: Upward) -> Bool[Array, ""]:
    """Whether no message can be wrong by more than `TOLERANCE`, relative to its largest entry."""
    return reduce(jnp.logical_and, [jnp.all(messages.error < allowed(messages)) for messages in up.messages])
