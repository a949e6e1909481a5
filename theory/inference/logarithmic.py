r"""Inference in logarithms: right for any evidence, in the simplest form; the fast path is tested against it.

One upward sweep over the levels gives each node the log probability u of all evidence below it (`messages`, equation
(1)); one downward sweep its posterior, equation (2), or its cavity, equation (3). At every node the message is shifted
so that its largest entry is 0, and the shifts add up to ln p(y): no depth and no length of string costs precision.
Evidence of an inner node is added to its message.

Messages of a level are held as (symbols, nodes, batch), batch last, because a rule then acts on contiguous rows. All
functions take evidence with one batch axis, checked by `belief_propagation`, whose docstrings hold here.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from hierarchical import Derivation, RandomHierarchyModel

from ..logspace import entr, finite, log_sum, log_where_positive
from .evidence import TreeEvidence
from .messages import AbstractLayer, IndependentLayer, ProductionLayer, split_children

BatchEvidence = Float[Array, "batch leaves v"] | TreeEvidence
BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]
LevelMessages = Float[Array, "symbols nodes batch"]
AnyLevel = Float[Array, "_symbols _nodes batch"]  # one of several


class Upward(NamedTuple):
    """The result of the upward sweep, a list of the levels that have nodes each, root first."""

    layers: Sequence[AbstractLayer]
    """Between them."""
    evidence: list[AnyLevel | None]
    """Of the nodes themselves."""
    below: list[AnyLevel]
    """The shifted messages ln u of equation (1), made of what is below a node; 0 of a leaf."""
    messages: list[AnyLevel]
    """Both together."""
    shift: Float[Array, " batch"]
    """The sum of the shifts below the root."""

    @property
    def log_evidence(self) -> Float[Array, " batch"]:
        root = self.messages[0]
        return self.shift + log_sum(root[:, 0]) - math.log(len(root))


def log_evidence(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> Float[Array, " batch"]:
    """ln p(y), nats."""
    return _upward(rhm, evidence).log_evidence


def upward_messages(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> BatchLevelTables:
    """ln p(y at and below a node | its symbol), nats, root first: each message with the shifts below it."""
    up = _upward(rhm, evidence)
    shift = jnp.zeros(up.messages[-1].shape[1:], evidence.dtype)  # (nodes, batch)
    tables = [up.messages[-1]]
    for layer, message, child in zip(*map(reversed, (up.layers, up.messages[:-1], up.messages[1:])), strict=True):
        shift = jnp.sum((shift + _shift(child)).reshape(-1, layer.branching, shift.shape[1]), 1)
        tables.insert(0, message + shift[None])
    return _every_level(rhm, tables)


def marginals(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> BatchLevelTables:
    """Posterior of every node, root first."""
    up = _upward(rhm, evidence)
    return _every_level(rhm, _downward(up, up.messages[0]))


def local_marginals(rhm: RandomHierarchyModel, evidence: BatchEvidence, level: int) -> BatchLevelTables:
    """Posterior of every node from a level on by the evidence below its ancestor there: each a root with a prior."""
    up, top = _upward(rhm, evidence), sum(nodes > 0 for nodes in rhm.num_nodes[:level])
    log_prior = log_where_positive(prior(rhm, level)).astype(evidence.dtype).T[..., None]  # (symbols, nodes, 1)
    tables = _downward(up, up.messages[top] + log_prior, top)
    return tuple(jnp.transpose(table, (2, 1, 0)) for table in tables)


def cavity_marginals(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> BatchLevelTables:
    """Cavity of every node, normalised, root first."""
    return _every_level(rhm, [_normalised(cavity) for cavity in _cavities(_upward(rhm, evidence))])


def log_cavities(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> BatchLevelTables:
    """ln of `cavity_marginals`, in which no probability is too small; -inf where it is 0."""
    cavities = _cavities(_upward(rhm, evidence))
    return _every_level(rhm, [cavity - finite(log_sum(cavity))[None] for cavity in cavities])


def posterior_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: BatchEvidence) -> Derivation:
    """One exact draw of the tree for each datum."""
    up = _upward(rhm, evidence)
    root_key, *keys = jax.random.split(key, len(up.messages))
    levels = [jax.random.categorical(root_key, up.messages[0], axis=0)[None].astype(jnp.int32)]  # (1, nodes, batch)
    for layer, below, k in zip(up.layers, up.messages[1:], keys, strict=True):
        symbols = layer.sample(k, levels[-1].reshape(-1), _children(below, layer.branching))
        levels.append(_nodes(symbols[:, None], below))
    levels = tuple(level[..., 0] for level in _every_level(rhm, levels))
    possible = up.log_evidence > -jnp.inf
    return Derivation(levels, tuple(jnp.broadcast_to(possible[:, None], level.shape) for level in levels))


def leaves_and_counts(
    rhm: RandomHierarchyModel, evidence: BatchEvidence
) -> tuple[Float[Array, "batch leaves v"], tuple[Float[Array, "..."], ...]]:
    """Posterior of the leaves, and the posterior mean of how often each rule is used, (batch, parents, synonyms)."""
    up, batch = _upward(rhm, evidence), len(evidence)
    tables = _downward(up, up.messages[0])
    counts = [jnp.zeros((batch, *rhm.rules[level].shape[:2]), evidence.dtype) for level in range(rhm.filter_level)]
    for layer, below, posterior, child in zip(up.layers, up.below, tables, up.messages[1:], strict=False):
        if isinstance(layer, ProductionLayer):
            joint = layer.counts(_lanes(posterior), _lanes(below), _children(child, layer.branching))
            counts.append(joint.reshape(*joint.shape[:2], -1, batch).sum(2).transpose(2, 1, 0))
    return tables[-1].transpose(2, 1, 0), tuple(counts)


def rule_counts(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> tuple[Float[Array, "batch _n _m"], ...]:
    """How often each rule is used."""
    return leaves_and_counts(rhm, evidence)[1]


def posterior_entropy(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> Float[Array, " batch"]:
    """Entropy of the root and of every choice below it, nats, so nothing cancels; -inf: impossible evidence."""
    up = _upward(rhm, evidence)
    tables = _downward(up, up.messages[0])
    total = jnp.sum(entr(tables[0]), (0, 1))
    for layer, below, posterior, child in zip(up.layers, up.below, tables, up.messages[1:], strict=False):
        of_lanes = layer.entropy(_lanes(posterior), _lanes(below), _children(child, layer.branching))
        total += jnp.sum(of_lanes.reshape(-1, len(evidence)), 0)
    return jnp.where(up.log_evidence > -jnp.inf, total, -jnp.inf)


def most_likely(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> tuple[Derivation, Float[Array, " batch"]]:
    """The tree of the largest p(tree, y), and ln of that: maxima in the place of the sums of `_upward`."""
    layers, (inner, leaves) = _layers(rhm, evidence.dtype), by_level(rhm, evidence)
    messages, chosen, total = [leaves], [], jnp.zeros(len(evidence), leaves.dtype)
    for layer, own in zip(reversed(layers), reversed(inner), strict=True):
        value, children = layer.best(_children(messages[0], layer.branching))
        total += jnp.sum(_shift(messages[0]), 0)
        messages.insert(0, _with(value.reshape(len(value), -1, len(evidence)), own))
        chosen.insert(0, children)
    levels = [jnp.argmax(messages[0], 0)[None].astype(jnp.int32)]  # (1, nodes, batch)
    for children, below in zip(chosen, messages[1:], strict=True):
        symbols = jnp.take_along_axis(children, levels[-1].reshape(1, 1, -1), 1)
        levels.append(_nodes(symbols, below).astype(jnp.int32))
    log_prob = total + jnp.max(messages[0], (0, 1)) - math.log(rhm.num_classes)
    levels = tuple(level[..., 0] for level in _every_level(rhm, levels))
    valid = tuple(jnp.broadcast_to(log_prob[:, None] > -jnp.inf, level.shape) for level in levels)
    return Derivation(levels, valid), log_prob


def by_level(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> tuple[list[AnyLevel | None], AnyLevel]:
    """The evidence of the levels above the leaves that have nodes, root first, and that of the leaves."""
    if not isinstance(evidence, TreeEvidence):
        evidence = TreeEvidence((None,) * rhm.depth, evidence)
    inner = [None if level is None else level.transpose(2, 1, 0) for level in evidence.inner]
    present = [level for level, nodes in zip(inner, rhm.num_nodes, strict=False) if nodes]
    return present, evidence.leaves.transpose(2, 1, 0)


def _layers(rhm: RandomHierarchyModel, dtype) -> Sequence[AbstractLayer]:
    """The layers between levels that have nodes, top first, in the precision of the evidence."""
    top = [IndependentLayer(log_where_positive(rhm.filtered_transition).astype(dtype))] if rhm.filter_level else []
    return top + [
        ProductionLayer(rhm.rules[level].transpose(1, 0, 2), rhm.log_prob_of_rules(level).astype(dtype).T)
        for level in range(rhm.filter_level, rhm.depth)
    ]


def _upward(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> Upward:
    layers, (inner, leaves) = _layers(rhm, evidence.dtype), by_level(rhm, evidence)
    below, messages, shift = [jnp.zeros_like(leaves)], [leaves], jnp.zeros(len(evidence), evidence.dtype)
    for layer, own in zip(reversed(layers), reversed(inner), strict=True):
        message = layer.up(_children(messages[0], layer.branching))
        shift += jnp.sum(_shift(messages[0]), 0)
        below.insert(0, message.reshape(len(message), -1, len(evidence)))
        messages.insert(0, _with(below[0], own))
    return Upward(layers, [*inner, leaves], below, messages, shift)


def _cavities(up: Upward) -> list[AnyLevel]:
    """ln of the cavities up to a constant for each node, of the levels that have nodes."""
    cavities = [jnp.zeros_like(up.messages[0])]
    for layer, own, below in zip(up.layers, up.evidence, up.messages[1:], strict=False):
        parent = _shifted(_with(cavities[-1], own))
        cavities.append(_nodes(layer.cavity(_lanes(parent), _children(below, layer.branching)), below))
    return cavities


def _downward(up: Upward, top: LevelMessages, start: int = 0) -> list[AnyLevel]:
    """Posteriors of the levels that have nodes from number `start` on, whose log weights are `top`."""
    tables = [_normalised(top)]
    for layer, below, child in zip(up.layers[start:], up.below[start:], up.messages[start + 1 :], strict=False):
        shares = layer.down(_lanes(tables[-1]), _lanes(below), _children(child, layer.branching))
        tables.append(_nodes(shares, child))
    return tables


def prior(rhm: RandomHierarchyModel, level: int) -> Float[Array, "_nodes _symbols"]:
    """The law of the symbol of every node of a level, without evidence."""
    law = jnp.full((1, rhm.num_classes), 1 / rhm.num_classes)
    if rhm.filter_level and level:
        law = jnp.mean(rhm.filtered_transition, 1)
    for step in rhm.transitions[rhm.filter_level : level]:
        law = jnp.einsum("ia,jax->ijx", law, step).reshape(-1, step.shape[2])
    return law


def _with(message: LevelMessages, own: LevelMessages | None) -> LevelMessages:
    return message if own is None else message + own


def _shift(message: LevelMessages) -> Float[Array, "nodes batch"]:
    # it cancels in every result; the derivative of a maximum is 0 / 0 where XLA computes the evidence twice
    return finite(jax.lax.stop_gradient(jnp.max(message, 0)))


def _shifted(message: LevelMessages) -> LevelMessages:
    return message - _shift(message)[None]


def _normalised(message: LevelMessages) -> LevelMessages:
    """Probabilities from log weights; zeros where every weight is 0."""
    return jnp.exp(message - finite(log_sum(message))[None])


def _lanes(table: LevelMessages) -> Float[Array, "symbols lanes"]:
    return table.reshape(len(table), -1)


def _children(level: LevelMessages, branching: int) -> Float[Array, "branching symbols lanes"]:
    """The shifted messages of child j of every parent, for j = 0 .. branching - 1."""
    return split_children(_shifted(level), branching)


def _nodes(children: Shaped[Array, "branching _symbols lanes"], like: LevelMessages) -> Shaped[Array, "_ nodes batch"]:
    """Children back in the order of the tree: (branching, symbols, parents * batch) -> (symbols, nodes, batch)."""
    (branching, symbols, _), (_, nodes, batch) = children.shape, like.shape
    split = children.reshape(branching, symbols, nodes // branching, batch)
    return split.transpose(1, 2, 0, 3).reshape(symbols, nodes, batch)


def _every_level(rhm: RandomHierarchyModel, tables: list[Array]) -> tuple[Array, ...]:
    """(symbols, nodes, batch) of the levels that have nodes -> (batch, nodes, symbols) of all levels."""
    present = [jnp.transpose(table, (2, 1, 0)) for table in tables]
    batch = present[0].shape[0]
    missing = [jnp.zeros((batch, 0, rhm.vocabulary[level]), tables[0].dtype) for level in range(1, rhm.filter_level)]
    return (present[0], *missing, *present[1:])
