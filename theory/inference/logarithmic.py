r"""Inference in logarithms: right for any evidence, in the simplest form; the fast path is tested against it.

One upward sweep over the levels gives each node the log probability u of all evidence below it (`messages`, equation
(1)); one downward sweep its posterior, equation (2), or its cavity, equation (3). At every node the message is shifted
so that its largest entry is 0, and the shifts add up to ln p(y): no depth and no length of string costs precision.

Messages of a level are held as (symbols, nodes, batch), batch last, because a rule then acts on contiguous rows. All
functions take a batch of evidence (batch, leaves, v), checked by `belief_propagation`, whose docstrings hold here.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from hierarchical import Derivation, RandomHierarchyModel

from ..logspace import finite, log_sum
from .messages import AbstractLayer, IndependentLayer, ProductionLayer, split_children

BatchEvidence = Float[Array, "batch leaves v"]
BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]
LevelMessages = Float[Array, "symbols nodes batch"]


def log_evidence(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> Float[Array, " batch"]:
    """ln p(y), nats."""
    messages, shift = _upward(rhm, log_likelihoods)
    return _at_root(rhm, messages[0], shift)


def marginals(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> BatchLevelTables:
    """Posterior of every node, root first."""
    _, _, tables, _ = _both_ways(rhm, log_likelihoods)
    return _every_level(rhm, tables)


def cavity_marginals(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> BatchLevelTables:
    """Cavity of every node, normalised, root first."""
    messages, _ = _upward(rhm, log_likelihoods)
    cavities = [jnp.zeros_like(messages[0])]
    for layer, below in zip(_layers(rhm, messages[0].dtype), messages[1:], strict=True):
        cavity = layer.cavity(_lanes(_shifted(cavities[-1])), _children(below, layer.branching))
        cavities.append(_nodes(cavity, below))
    return _every_level(rhm, [_normalised(cavity) for cavity in cavities])


def posterior_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> Derivation:
    """One exact draw of the tree for each datum."""
    messages, shift = _upward(rhm, log_likelihoods)
    root_key, *keys = jax.random.split(key, len(messages))
    levels = [jax.random.categorical(root_key, messages[0], axis=0)[None].astype(jnp.int32)]  # (1, nodes, batch)
    for layer, below, k in zip(_layers(rhm, messages[0].dtype), messages[1:], keys, strict=True):
        symbols = layer.sample(k, levels[-1].reshape(-1), _children(below, layer.branching))
        levels.append(_nodes(symbols[:, None], below))
    levels = tuple(level[..., 0] for level in _every_level(rhm, levels))
    possible = _at_root(rhm, messages[0], shift) > -jnp.inf
    return Derivation(levels, tuple(jnp.broadcast_to(possible[:, None], level.shape) for level in levels))


def leaves_and_counts(
    rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence
) -> tuple[BatchEvidence, tuple[Float[Array, "..."], ...]]:
    """Posterior of the leaves, and the posterior mean of how often each rule is used, (batch, parents, synonyms)."""
    layers, messages, tables, _ = _both_ways(rhm, log_likelihoods)
    batch = len(log_likelihoods)
    counts = [jnp.zeros((batch, *rhm.rules[level].shape[:2]), messages[0].dtype) for level in range(rhm.filter_level)]
    for layer, above, below, posterior in zip(layers, messages, messages[1:], tables, strict=False):
        if isinstance(layer, ProductionLayer):
            joint = layer.counts(_lanes(posterior), _lanes(above), _children(below, layer.branching))
            counts.append(joint.reshape(*joint.shape[:2], -1, batch).sum(2).transpose(2, 1, 0))
    return tables[-1].transpose(2, 1, 0), tuple(counts)


def posterior_entropy(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> Float[Array, " batch"]:
    """ln p(y) - E ln p(tree, y), nats; NaN where the evidence is impossible."""
    layers, messages, tables, shift = _both_ways(rhm, log_likelihoods)
    leaves = tables[-1]
    expected = jnp.sum(jnp.where(leaves > 0, leaves * finite(messages[-1]), 0), (0, 1)) - math.log(rhm.num_classes)
    for layer, above, below, posterior in zip(layers, messages, messages[1:], tables, strict=False):
        law = layer.expected_log_law(_lanes(posterior), _lanes(above), _children(below, layer.branching))
        expected += jnp.sum(law.reshape(-1, len(log_likelihoods)), 0)
    evidence = _at_root(rhm, messages[0], shift)
    return jnp.where(evidence > -jnp.inf, jnp.maximum(evidence - expected, 0), jnp.nan)


def most_likely(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> tuple[Derivation, Float[Array, " batch"]]:
    """The tree of the largest p(tree, y), and ln of that: maxima in the place of the sums of `_upward`."""
    leaves, layers = log_likelihoods.transpose(2, 1, 0), _layers(rhm, log_likelihoods.dtype)
    messages, chosen, total = [leaves], [], jnp.zeros(leaves.shape[2], leaves.dtype)
    for layer in reversed(layers):
        value, children = layer.best(_children(messages[0], layer.branching))
        total += jnp.sum(_shift(messages[0]), 0)
        messages.insert(0, value.reshape(len(value), -1, leaves.shape[2]))
        chosen.insert(0, children)
    levels = [jnp.argmax(messages[0], 0)[None].astype(jnp.int32)]  # (1, nodes, batch)
    for children, below in zip(chosen, messages[1:], strict=True):
        symbols = jnp.take_along_axis(children, levels[-1].reshape(1, 1, -1), 1)
        levels.append(_nodes(symbols, below).astype(jnp.int32))
    log_prob = total + jnp.max(messages[0], (0, 1)) - math.log(rhm.num_classes)
    levels = tuple(level[..., 0] for level in _every_level(rhm, levels))
    valid = tuple(jnp.broadcast_to(log_prob[:, None] > -jnp.inf, level.shape) for level in levels)
    return Derivation(levels, valid), log_prob


def _layers(rhm: RandomHierarchyModel, dtype) -> Sequence[AbstractLayer]:
    """The layers between levels that have nodes, top first, in the precision of the evidence."""
    top = [IndependentLayer(jnp.log(rhm.filtered_transition).astype(dtype))] if rhm.filter_level else []
    return top + [
        ProductionLayer(rhm.rules[level].transpose(1, 0, 2), rhm.log_prob_of_rules(level).astype(dtype).T)
        for level in range(rhm.filter_level, rhm.depth)
    ]


def _upward(rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence) -> tuple[list[LevelMessages], Array]:
    """Messages of all levels that have nodes, root first, and per datum the sum of the shifts below the root."""
    leaves = log_likelihoods.transpose(2, 1, 0)
    messages, total = [leaves], jnp.zeros(leaves.shape[2], leaves.dtype)
    for layer in reversed(_layers(rhm, leaves.dtype)):
        message = layer.up(_children(messages[0], layer.branching))
        total += jnp.sum(_shift(messages[0]), 0)
        messages.insert(0, message.reshape(len(message), -1, leaves.shape[2]))
    return messages, total


def _both_ways(
    rhm: RandomHierarchyModel, log_likelihoods: BatchEvidence
) -> tuple[Sequence[AbstractLayer], list[LevelMessages], list[LevelMessages], Float[Array, " batch"]]:
    """Layers, messages and posteriors of all levels that have nodes, root first, and the sum of the shifts."""
    messages, shift = _upward(rhm, log_likelihoods)
    layers, tables = _layers(rhm, messages[0].dtype), [_normalised(messages[0])]
    for layer, above, below in zip(layers, messages, messages[1:], strict=False):
        shares = layer.down(_lanes(tables[-1]), _lanes(above), _children(below, layer.branching))
        tables.append(_nodes(shares, below))
    return layers, messages, tables, shift


def _at_root(rhm: RandomHierarchyModel, root: LevelMessages, shift: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return shift + log_sum(root[:, 0]) - math.log(rhm.num_classes)


def _shift(message: LevelMessages) -> Float[Array, "nodes batch"]:
    return finite(jnp.max(message, 0))


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
