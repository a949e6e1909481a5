"""The upward pass of the fast formulation: from evidence to the messages of all nodes, a segment after the other."""

import math
from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hierarchical import RandomHierarchyModel

from ..evidence import Evidence, lanes_reader
from .contraction import Lists, Messages, allowed, new_messages, upward_lists
from .segments import Segment, at, enter, keep, part, put, with_room

CompensatedSum = tuple[Float[Array, " lanes"], Float[Array, " lanes"]]  # the sum so far, and what rounding added to it


class Upward(eqx.Module):
    """The result of the upward pass."""

    messages: list[Messages]
    """All local nodes of each segment, root first; top segment first."""
    log_evidence: Float[Array, " batch"]
    """ln p(y), nats."""

    @property
    def reliable(self) -> Bool[Array, ""]:
        """Whether no message can be wrong by more than `TOLERANCE`, relative to its largest entry."""
        return reduce(jnp.logical_and, [jnp.all(messages.error < allowed(messages)) for messages in self.messages])


def upward(rhm: RandomHierarchyModel, evidence: Evidence, cuts: list[Segment]) -> Upward:
    """Equation (1) of `contraction` for the whole tree."""
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
    k, dtype, inner = cut.nodes[-1], evidence.dtype, len(cut.level_of_inner_nodes)
    leaves, lanes = cut.block(evidence.shape[-1])
    read, per_row = lanes_reader(evidence, cut, leaves, lanes), -(-cut.lanes // lanes)

    def step(i, state):
        messages, scales = state
        leaf, lane = leaves * (i // per_row), jnp.minimum(lanes * (i % per_row), cut.lanes - lanes)
        new, scale = _from_logs(read(leaf, lane), symbols)
        return put(messages, new, inner + leaf, lane), put(scales, scale, leaf, lane)

    empty = Messages(*(jnp.zeros((inner + k, *shape, cut.lanes), dtype) for shape in ((symbols,), (), ())))
    blocks = (k // leaves) * per_row
    messages, scales = jax.lax.fori_loop(0, blocks, step, (empty, jnp.zeros((k, cut.lanes), dtype)))
    total = jax.lax.fori_loop(0, k, lambda i, total: _added(total, scales[i]), _nothing(cut.lanes, dtype))
    return messages, total


def _from_logs(logs: Float[Array, "leaves v lanes"], symbols: int) -> tuple[Messages, Float[Array, "leaves lanes"]]:
    """Scaled messages of leaves with `symbols` rows, and the logarithms of their scales."""
    # NaN is caught here: at a symbol that no rule uses it reaches no message, and a maximum may ignore it
    error = jnp.max(jnp.where(logs < jnp.inf, jnp.zeros_like(logs), jnp.inf), 1)
    largest = jnp.max(logs, 1)
    largest = jnp.where(largest > -jnp.inf, largest, 0)
    least = jnp.exp(jnp.min(jnp.where(logs > -jnp.inf, logs, largest[:, None]), 1) - largest)
    table = jnp.pad(jnp.exp(logs - largest[:, None]), ((0, 0), (0, symbols - logs.shape[1]), (0, 0)))
    error += (least < jnp.finfo(logs.dtype).tiny).astype(logs.dtype)
    return Messages(table, error, least), largest


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
