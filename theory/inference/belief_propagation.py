r"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

The evidence of leaf i is ln p(y_i | x_i = x). One upward sweep over the levels gives each node the log probability u of
all evidence below it, and at the root, over n equally likely classes,

    ln p(y) = ln (1/n) sum_a exp u_root(a).

One downward sweep gives the posterior of every node, or its cavity; a downward pass of draws gives exact joint samples
of the whole tree. Cost O(leaves * v * m * s) per datum.

There are two formulations, and `formulation` chooses; the answer does not depend on it, beyond rounding.

Evidence may have any batch axes before its own two, or none; all data are one compiled sweep.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hierarchical import Derivation, RandomHierarchyModel
from hierarchical.arguments import NO_SYMBOL, AnyKey, Given, as_key

from . import logarithmic, ranked
from .evidence import Evidence, NoisedStrings, checked_evidence, written_out
from .fast import sweep
from .formulation import answered, evidence_with_slope

LevelTables = tuple[Float[Array, "*batch _nodes _symbols"], ...]
RuleCounts = tuple[Float[Array, "*batch _parents _synonyms"], ...]
AnyEvidence = Given | NoisedStrings


def log_evidence(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Float[Array, "*batch"]:
    """ln p(y), nats; `-inf` if the grammar cannot produce what the evidence demands.

    Args:
      evidence: ln p(y_i | x_i = x) for each leaf and symbol, (..., leaves, v), nats; `-inf` excludes a symbol. Or
        `NoisedStrings`, whose evidence need not be written out.

    Raises:
      ValueError: if the evidence holds NaN or +inf, or a datum's shape is not (num_leaves, num_symbols). Inside
        `jax.jit` NaN and +inf are only seen when the program runs: then it is a RuntimeError.
    """
    return evidence_with_slope(rhm, evidence)


def marginals(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> LevelTables:
    """Posterior probabilities of the symbol of every node given all evidence, (..., nodes, v) per level, root first.

    Rows sum to 1; impossible evidence has no posterior, and gives rows of zeros. Arguments and errors as in
    `log_evidence`.
    """
    return answered(sweep.marginals, logarithmic.marginals, rhm, evidence)


def cavity_marginals(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> LevelTables:
    """Probabilities of the symbol of every node given only the evidence outside its subtree, root first.

    At a leaf this is the posterior with the site's own evidence divided out, p(x_i | y at the other sites). A row of
    zeros marks a node whose surroundings are impossible by themselves. Arguments and errors as in `log_evidence`.
    """
    return answered(sweep.cavity_marginals, logarithmic.cavity_marginals, rhm, evidence)


def posterior_sample(key: AnyKey, rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Derivation:
    """An exact draw of the whole tree for each datum, levels (..., nodes).

    Where the evidence is impossible, every `valid` is false and every symbol -1. Arguments and errors as in
    `log_evidence`.
    """
    return _marked(answered(_sweep_sample, logarithmic.posterior_sample, rhm, evidence, as_key(key)))


class MostLikely(eqx.Module):
    """The most likely tree behind each datum."""

    derivation: Derivation
    """Levels (..., nodes); where the evidence is impossible every symbol is -1 and every `valid` false."""
    log_prob: Float[Array, "*batch"]
    """ln p(tree, y), nats; `-inf` where the evidence is impossible."""


def most_likely(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> MostLikely:
    """The tree that is most likely given the evidence; of several equally likely ones, the first in the rules' order.

    Arguments and errors as in `log_evidence`.
    """
    derivation, log_prob = answered(None, logarithmic.most_likely, rhm, evidence)
    return MostLikely(_marked(derivation), log_prob)


def top_k(rhm: RandomHierarchyModel, evidence: AnyEvidence, k: int) -> MostLikely:
    """The k most likely trees given the evidence, in decreasing order: levels (..., k, nodes), log_prob (..., k).

    Equally likely trees come in the order of their rules, the root's first and then child by child. Where fewer than k
    are possible, the rest is marked as `most_likely` marks the impossible. Cost grows with k^2.

    Raises:
      ValueError: if k < 1 or the grammar is filtered; and as `log_evidence`.
    """
    if operator.index(k) < 1:
        raise ValueError(f"k = {k}: give 1 or more")
    _refuse_filtered(rhm)
    derivation, log_prob = answered(None, _top(operator.index(k)), rhm, evidence)
    return MostLikely(_marked(derivation), log_prob)


@functools.cache
def _top(k: int) -> Callable:
    """One function for each k, so that a second call compiles nothing."""
    return functools.partial(ranked.top_k, k=k)


def posterior_entropy(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Float[Array, "*batch"]:
    """Entropy of the tree given the evidence, nats: ln p(y) - E ln p(tree, y).

    Without evidence, `rhm.entropy`. NaN where the evidence is impossible. Arguments and errors as in `log_evidence`.
    """
    return answered(None, logarithmic.posterior_entropy, rhm, evidence)


def rule_counts(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> RuleCounts:
    """How often each rule is used given the evidence, its posterior mean: (..., parents, synonyms) per level of rules.

    The counts of a level sum to its nodes, to 0 above the level at which a grammar is filtered, and to 0 where the
    evidence is impossible. They are the gradient of `log_evidence` with respect to `rule_log_probs`. Arguments and
    errors as in `log_evidence`.
    """
    return answered(sweep.leaves_and_counts, logarithmic.leaves_and_counts, rhm, evidence)[1]


def count_derivations(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Float[Array, "*batch"]:
    """ln of the number of strings that hard evidence leaves, of those that have a positive probability.

    Of evidence only counts what it excludes by `-inf`; without any, the result is ln of the size of the language.
    `-inf` where no string is left. A string has one tree, so this is the number of trees too.

    Raises:
      ValueError: if the grammar is filtered, which leaves strings without a tree; and as `log_evidence`.
    """
    _refuse_filtered(rhm)
    given = written_out(checked_evidence(evidence, (rhm.num_leaves, rhm.num_symbols)))
    hard = jnp.where(jnp.isfinite(given), 0, given)  # NaN and +inf stay, and are refused below
    of_one = tuple(jnp.where(rhm.log_prob_of_rules(level) > -jnp.inf, 0.0, -jnp.inf) for level in range(rhm.depth))
    counting = eqx.tree_at(lambda r: r.rule_log_probs, rhm, of_one, is_leaf=lambda leaf: leaf is None)
    return log_evidence(counting, hard) + math.log(rhm.num_classes)


def _refuse_filtered(rhm: RandomHierarchyModel) -> None:
    if rhm.filter_level:
        raise ValueError(f"filter_level = {rhm.filter_level}: a filtered grammar has no rules above it; pass it whole")


def _marked(tree: Derivation) -> Derivation:
    """No symbols where a tree is not valid."""
    levels = tuple(jnp.where(fine, level, NO_SYMBOL) for level, fine in zip(tree.levels, tree.valid, strict=True))
    return Derivation(levels, tree.valid)


def _sweep_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: Evidence) -> Any:
    return sweep.posterior_sample(jax.random.clone(key), rhm, evidence)  # the safe path may need the key too
