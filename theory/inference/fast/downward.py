"""The downward pass of the fast formulation: from the root to the posterior, or cavity, of every node."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hierarchical import RandomHierarchyModel

from .contraction import Lists, Messages, allowed, downward_lists, new_messages
from .segments import Segment, Walk, at, keep, leave, part, put, transposed, with_room
from .upward import Upward

State = tuple[Float[Array, "_nodes _symbols _lanes"], Messages, Bool[Array, "s _lanes"]]
"""Posteriors so far, with messages where there are none yet; cavities that are still needed; what the guard accepts."""
BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]


def downward(
    rhm: RandomHierarchyModel, up: Upward, cuts: list[Segment], *, cavity: bool
) -> tuple[list[Float[Array, "_nodes _symbols _lanes"]], Bool[Array, ""]]:
    """Equation (2) of `contraction` for the whole tree.

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
    walk = cut.breadth_first if keep_leaves else cut.depth_first
    overlap = jnp.sum(root.table if cavity else root.table * inside.table[:1], 1)
    tables, _ = _posterior(inside.table, 0, root, inside.error[:1], overlap, cavity)
    room = jax.tree.map(lambda x: with_room(x, 0, walk.places - 1), root)
    state = tables, room, jnp.ones((cut.branching, cut.lanes), bool)
    steps = len(walk.node)
    step = functools.partial(_children, walk=walk, inside=inside, lists=lists, cavity=cavity)
    tables, cavities, reliable = jax.lax.fori_loop(0, steps, step, state)
    return tables, at(cavities, slice(steps, None)), jnp.all(reliable)


def _children(i: Int[Array, ""], state: State, *, walk: Walk, inside: Messages, lists: Lists, cavity: bool) -> State:
    """The children of the i-th node of the walk."""
    tables, cavities, reliable = state
    s, place = len(reliable), walk.place[i]
    first = s * walk.node[i] + 1
    error, least = part((inside.error, inside.least), first, s)
    made_of = _made_of(part((cavities.error, cavities.least), place, 1), error, least)
    sources = [(cavities.table, place), *[(tables, first)] * (s - 1)]
    upward = jnp.ones((), error.dtype) if cavity else part(tables, first, s)
    outside, _, overlap = new_messages(lists, walk.level[i], sources, *made_of, upward)
    tables, fine = _posterior(tables, first, outside, error, overlap, cavity)
    return tables, keep(cavities, outside, walk.place_of_children[i]), reliable & fine


def _made_of(
    parent: tuple[Float[Array, "1 lanes"], Float[Array, "1 lanes"]],
    error: Float[Array, "s lanes"],
    least: Float[Array, "s lanes"],
) -> tuple[Float[Array, "s lanes"], Float[Array, "s lanes"]]:
    """For each child, the sum of errors and the product of smallest entries of its siblings and its parent's cavity."""
    siblings = [[jnp.roll(x, -k, 0) for k in range(1, len(x))] for x in (error, least)]
    return sum(siblings[0], start=parent[0]), math.prod(siblings[1], start=parent[1])


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


def level_tables(
    rhm: RandomHierarchyModel, cuts: list[Segment], tables: list[Float[Array, "_nodes _symbols _lanes"]]
) -> BatchLevelTables:
    """The tables of segments as tables of levels, root first."""
    levels = []
    for cut, table in zip(cuts, tables, strict=True):
        last = cut.bottom + (cut.bottom == rhm.depth)
        levels += [level_table(rhm, cut, table, level) for level in range(cut.top, last)]
    return tuple(levels)


def level_table(
    rhm: RandomHierarchyModel, cut: Segment, table: Float[Array, "_nodes symbols lanes"], level: int
) -> Float[Array, "batch _level_nodes _level_symbols"]:
    """A level of a segment's table, data first."""
    rows = transposed(table, cut.place(level), cut.cutting.tile)
    return rows.reshape(cut.batch, -1, table.shape[1])[..., : rhm.vocabulary[level]]
