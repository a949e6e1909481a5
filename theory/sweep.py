r"""The fast formulation of inference: linear in the messages, a node at a time for thousands of lanes, and guarded.

Messages are sums over rules of products of rows, `contraction` (1) and (2). Here is the order in which they are made.

**Layout.** The tree is cut into `segments`: small trees, the lanes of whose messages are many subtrees at once. Lanes
are innermost, and a rule is one multiply-add of long contiguous rows. The loop over local nodes has one body, so
compile time grows with the number of segments (one to four), not with depth; rules are traced, so a new grammar of the
same sizes compiles nothing.

**Memory traffic.** A node reads s v C floats and writes v C, C being the lanes done at once: 256 to 512 KiB each, which
stay in a core's second-level cache while the ~ m v rules pass over them. A rule reads s rows, and the sum stays in
registers over a group of rules. Every message goes to memory and back about twice.

Every function returns its result and, for each datum, whether it is precise (the guard of `contraction`); where it is
not, the caller takes `logarithmic`. Large batches are computed a piece at a time (`in_pieces`).
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from hierarchical import Derivation, RandomHierarchyModel

from .contraction import Lists, Messages, allowed, downward_lists, message, upward_lists
from .segments import (
    ENOUGH_LANES,
    Segment,
    at,
    data_at_once,
    enter,
    in_pieces,
    leave,
    read,
    segments,
    to_lanes,
    transposed,
    with_room,
    write,
)

BatchEvidence = Float[Array, "batch leaves v"]
BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]
Reliable = Bool[Array, " batch"]


class Upward(eqx.Module):
    """What the upward pass finds."""

    messages: list[Messages]
    """All local nodes of each segment, root first; top segment first."""
    log_evidence: Float[Array, " batch"]
    """ln p(y) of the scaled likelihoods, nats."""


def log_evidence(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> tuple[Float[Array, " batch"], Reliable]:
    """ln p(y) of each datum, nats."""

    def piece(i, log_likelihoods):
        up, shift = _upward(rhm, log_likelihoods, segments(rhm, len(log_likelihoods)))
        return shift + up.log_evidence, _of_all(_all_reliable(up), log_likelihoods)

    return in_pieces(piece, data_at_once(rhm), log_likelihoods)


def marginals(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> tuple[BatchLevelTables, Reliable]:
    """Posterior of every node, root first."""
    return in_pieces(lambda i, rows: _every_level(rhm, rows, cavity=False), data_at_once(rhm), log_likelihoods)


def cavity_marginals(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> tuple[BatchLevelTables, Reliable]:
    """Cavity of every node, root first."""
    return in_pieces(lambda i, rows: _every_level(rhm, rows, cavity=True), data_at_once(rhm), log_likelihoods)


def posterior_sample(
    key: Key[Array, ""], rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence
) -> tuple[Derivation, Reliable]:
    """One exact draw of the tree for each datum; one random number a node."""

    def piece(i, log_likelihoods):
        levels, reliable = _drawn_levels(jax.random.fold_in(key, i), rhm, log_likelihoods)
        valid = tuple(jnp.ones(level.shape, bool) for level in levels)
        return Derivation(levels, valid), _of_all(reliable, log_likelihoods)

    return in_pieces(piece, data_at_once(rhm), log_likelihoods)


def _drawn_levels(
    key: Key[Array, ""], rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence
) -> tuple[tuple[Int[Array, "batch _nodes"], ...], Bool[Array, ""]]:
    cuts = segments(rhm, len(log_likelihoods))
    up, _ = _upward(rhm, log_likelihoods, cuts)
    root_key, *keys = jax.random.split(key, rhm.depth + 1)
    root = _choose(root_key, up.messages[0].table[:1, : rhm.num_classes])
    levels = [root[0][:, None]]  # (batch, nodes)
    for cut, messages in zip(cuts, up.messages, strict=True):
        parents = levels[-1].reshape(1, cut.lanes)
        for level in range(cut.top, cut.bottom):
            below = messages.table[cut.place(level + 1)]
            below = below.reshape(-1, cut.branching, *below.shape[1:])  # (parents, s, v, lanes)
            rules, probs = rhm.rules[level][parents], jnp.exp(rhm.log_prob_of_rules(level))[parents]
            weights = jnp.moveaxis(probs.astype(below.dtype), -1, 1)  # (parents, m, lanes)
            for j in range(cut.branching):
                weights *= jnp.take_along_axis(below[:, j], jnp.moveaxis(rules[..., j], -1, 1), 1)
            chosen = _choose(keys[level], weights)
            children = jnp.take_along_axis(rules, chosen[..., None, None], 2)[:, :, 0]  # (parents, lanes, s)
            parents = jnp.moveaxis(children, -1, 1).reshape(-1, cut.lanes)
            levels.append(parents.T.reshape(cut.batch, -1))
    return tuple(levels), _all_reliable(up)


def _choose(key: Key[Array, ""], weights: Float[Array, "nodes choices lanes"]) -> Int[Array, "nodes lanes"]:
    """A number k with probability proportional to its weight: the first whose cumulated weight exceeds u * total."""
    cumulated = jnp.cumsum(weights, 1)
    uniform = jax.random.uniform(key, weights.shape[::2], weights.dtype)  # in [0, 1): a weight of 0 is never chosen
    return jnp.sum(cumulated <= (uniform * cumulated[:, -1])[:, None], 1, dtype=jnp.int32)


def _every_level(
    rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence, *, cavity: bool
) -> tuple[BatchLevelTables, Reliable]:
    cuts = segments(rhm, len(log_likelihoods))
    up, _ = _upward(rhm, log_likelihoods, cuts)
    tables, reliable = _downward(rhm, up, cuts, cavity=cavity)
    found = []
    for cut, table in zip(cuts, tables, strict=True):
        for level in range(cut.top, cut.bottom + (cut.bottom == rhm.depth)):
            rows = transposed(table[cut.place(level)].reshape(-1, cut.lanes))
            found.append(rows.reshape(cut.batch, -1, table.shape[1])[..., : rhm.vocabulary[level]])
    return tuple(found), _of_all(reliable, log_likelihoods)


def _upward(
    rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence, cuts: list[Segment]
) -> tuple[Upward, Float[Array, " batch"]]:
    """Equation (1) for the whole tree; and the sum over leaves of the largest log-likelihood of each, nats."""
    largest = jnp.max(log_likelihoods, -1, keepdims=True)
    likelihoods = jnp.exp(log_likelihoods - jnp.where(largest > -jnp.inf, largest, 0))
    lost = jnp.any((likelihoods < jnp.finfo(likelihoods.dtype).tiny) & (log_likelihoods > -jnp.inf), -1)
    lists, found = upward_lists(rhm, likelihoods.dtype), []
    log_sizes = jnp.zeros(len(likelihoods), likelihoods.dtype)
    for cut in reversed(cuts):
        leaves = enter(at(found[0], 0), cut) if found else _leaves(rhm, likelihoods, lost, cut)
        messages, sizes = _climb(leaves, lists, _unrolled(max(rhm.synonyms), cut), cut)
        found.insert(0, messages)
        log_sizes += jnp.sum(sizes.reshape(cut.batch, cut.roots), 1)
    root = found[0].table[0, : rhm.num_classes]
    log_evidence = log_sizes + jnp.log(jnp.sum(root, 0)) - math.log(rhm.num_classes)
    return Upward(found, log_evidence), jnp.sum(largest[..., 0], 1)


def _climb(leaves: Messages, lists: Lists, unrolled: int, cut: Segment) -> tuple[Messages, Float[Array, " lanes"]]:
    """All nodes of a segment from its leaves, and the sum of the logarithms of their sizes."""
    s, wide = cut.branching, cut.lanes_at_once(leaves.table.shape[1])
    pieces, level = cut.lanes // wide, cut.level_of_inner_nodes

    def step(i, state):
        messages, log_sizes, rest = state
        node, lane = len(level) - 1 - i // pieces, wide * (i % pieces)
        children = read(messages, s * node + 1, s, lane, wide)
        parent, size = message(at(lists, level[node]), [at(children, j) for j in range(s)], unrolled)
        # compensated (Kahan): a million logarithms are summed as precisely as one
        before = jax.lax.dynamic_slice_in_dim(log_sizes, lane, wide)
        term = jnp.log(size) - jax.lax.dynamic_slice_in_dim(rest, lane, wide)
        total = before + term
        log_sizes = jax.lax.dynamic_update_slice(log_sizes, total, (lane,))
        rest = jax.lax.dynamic_update_slice(rest, (total - before) - term, (lane,))
        return write(messages, at(parent, None), node, lane), log_sizes, rest

    room = jax.tree.map(lambda x: with_room(x, len(level), 0), leaves)
    start = room, jnp.zeros_like(leaves.error[0]), jnp.zeros_like(leaves.error[0])
    return jax.lax.fori_loop(0, len(level) * pieces, step, start)[:2]


def _downward(
    rhm: RandomHierarchyModel, up: Upward, cuts: list[Segment], *, cavity: bool
) -> tuple[list[Float[Array, "_nodes _symbols _lanes"]], Bool[Array, ""]]:
    """Equation (2) for the whole tree.

    Returns:
      The posterior of every node (if `cavity`, its normalised cavity), a table per segment; and whether none of their
      entries can be wrong by more than `TOLERANCE`.
    """
    lists = downward_lists(rhm, up.log_evidence.dtype)
    uses = max(v * m for v, m in zip(rhm.vocabulary, rhm.synonyms, strict=False)) / max(rhm.vocabulary)
    typical = min(math.ceil(1.5 * uses), max(rhm.vocabulary) ** (cuts[0].branching - 1))
    evidence = at(up.messages[0], slice(0, 1))
    is_class = (jnp.arange(evidence.table.shape[1]) < rhm.num_classes)[None, :, None]
    outside = jnp.broadcast_to(is_class, evidence.table.shape).astype(evidence.table.dtype)
    root = Messages(outside, jnp.zeros_like(evidence.error), jnp.ones_like(evidence.error))
    tables, reliable = [], jnp.all(evidence.error < allowed(evidence))
    for cut, messages in zip(cuts, up.messages, strict=True):
        is_last = cut.bottom == rhm.depth
        found, outside, fine = _descend(
            root, messages, lists, _unrolled(typical, cut), cut, keep_leaves=not is_last, cavity=cavity
        )
        tables.append(found)
        reliable &= fine
        root = leave(outside)
    return tables, reliable


def _unrolled(typical: int, cut: Segment) -> int:
    """How many rules make one expression: it costs compile time for each, so few where there is little to compute."""
    return min(typical, 4 if cut.lanes < ENOUGH_LANES else max(24 // cut.branching, 1))


def _descend(
    root: Messages, messages: Messages, lists: Lists, unrolled: int, cut: Segment, *, keep_leaves: bool, cavity: bool
) -> tuple[Float[Array, "nodes symbols lanes"], Messages, Bool[Array, ""]]:
    """Posteriors of all nodes of a segment, which take the place of their messages; cavities; and the guard's word.

    Cavities of leaves are kept only if another segment follows; else they overwrite each other in a spare place.
    """
    s, wide = cut.branching, cut.lanes_at_once(messages.table.shape[1])
    pieces, level = cut.lanes // wide, cut.level_of_inner_nodes
    kept = sum(cut.nodes) if keep_leaves else len(level)

    def step(i, state):
        tables, cavities, reliable = state
        node, lane = i // pieces, wide * (i % pieces)
        parent = at(read(cavities, node, 1, lane, wide), 0)
        children = read(eqx.tree_at(lambda x: x.table, messages, tables), s * node + 1, s, lane, wide)

        def child(j):
            others = [at(children, (j + k) % s) for k in range(1, s)]
            return message(at(lists, s * level[node] + j), [parent, *others], unrolled)[0]

        outside = jax.lax.map(child, jnp.arange(s))
        found, fine = _posterior(outside, children, cavity)
        tables = jax.lax.dynamic_update_slice(tables, found, (s * node + 1, jnp.zeros_like(lane), lane))
        return tables, write(cavities, outside, jnp.minimum(s * node + 1, kept), lane), reliable & fine

    posterior, _ = _posterior(root, at(messages, slice(0, 1)), cavity)
    tables = jax.lax.dynamic_update_slice_in_dim(messages.table, posterior, 0, 0)
    room = jax.tree.map(lambda x: with_room(x, 0, kept - 1 + s), root)
    tables, cavities, reliable = jax.lax.fori_loop(0, len(level) * pieces, step, (tables, room, jnp.bool_(True)))
    return tables, at(cavities, slice(len(level), kept)), reliable


def _posterior(outside: Messages, inside: Messages, cavity: bool) -> tuple[Float[Array, "nodes symbols lanes"], Array]:
    """P ~ c u, or c alone, normalised; and whether it is reliable."""
    product = outside.table * inside.table
    overlap = jnp.sum(product, 1)
    if cavity:
        return outside.table / jnp.sum(outside.table, 1, keepdims=True), jnp.all(outside.error < allowed(outside))
    return product / overlap[:, None], jnp.all(outside.error + inside.error < allowed(outside) * overlap)


def _of_all(reliable: Bool[Array, ""], data: BatchEvidence) -> Reliable:
    return jnp.broadcast_to(reliable, len(data))


def _all_reliable(up: Upward) -> Bool[Array, ""]:
    """Whether no message can be wrong by more than `TOLERANCE`, relative to its largest entry."""
    return functools.reduce(jnp.logical_and, [jnp.all(found.error < allowed(found)) for found in up.messages])


def _leaves(
    rhm: RandomHierarchyModel,
    likelihoods: Float[Array, "batch leaves v"],
    lost: Bool[Array, "batch leaves"],
    cut: Segment,
) -> Messages:
    """(batch, leaves, v) -> (local leaves, v, lanes)."""
    v = max(rhm.vocabulary)
    padded = jnp.pad(likelihoods, ((0, 0), (0, 0), (0, v - rhm.num_symbols)))
    least = to_lanes(jnp.min(jnp.where(likelihoods > 0, likelihoods, 1), -1), cut)
    table = to_lanes(padded.reshape(cut.batch, -1), cut).reshape(cut.nodes[-1], v, cut.lanes)
    return Messages(table, to_lanes(lost.astype(likelihoods.dtype), cut), least)
