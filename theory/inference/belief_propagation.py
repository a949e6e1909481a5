r"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

The evidence of leaf i is ln p(y_i | x_i = x). One upward sweep over the levels gives each node the log probability u of
all evidence below it, and at the root, over n equally likely classes,

    ln p(y) = ln (1/n) sum_a exp u_root(a).

One downward sweep gives the posterior of every node, or its cavity; a downward pass of draws gives exact joint samples
of the whole tree. Cost O(leaves * v * m * s) per datum.

Evidence is of three kinds, each with any batch axes before its own two, or none; all data are one compiled sweep:

- log-likelihoods of the leaves, (..., leaves, v), nats; `-inf` excludes a symbol, and a row of zeros, no evidence,
  stands for a missing site (`hard_evidence` writes them for strings);
- `NoisedStrings`, whose log-likelihoods need not be written out;
- log-likelihoods of the nodes of several levels, a dict {level: (..., nodes, symbols)}, 0 the root's level, `depth`
  that of the leaves; levels left out have no evidence, and batch axes are broadcast. With evidence of other levels than
  the leaves, "logarithmic" answers.

There are three formulations, and `formulation` chooses, for the device and the size; the answer does not depend on it,
beyond rounding. Where a function takes `formulation`, one can be named: "logarithmic", "segments" (fast on a CPU) or
"levels" (meant for GPUs and TPUs). The two fast ones serve full grammars of one branching number with evidence of the
leaves, and let "logarithmic" answer where they are not precise.
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hierarchical import Derivation, RandomHierarchyModel
from hierarchical.arguments import NO_SYMBOL, AnyKey, Whole, as_key, as_whole

from . import logarithmic
from .evidence import GivenEvidence, as_evidence, in_full
from .fast import sweep
from .formulation import answered, evidence_with_slope
from .questions import ranked

LevelTables = tuple[Float[Array, "*batch _nodes _symbols"], ...]
RuleCounts = tuple[Float[Array, "*batch _parents _synonyms"], ...]


def log_evidence(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None
) -> Float[Array, "*batch"]:
    """ln p(y), nats; `-inf` if the grammar cannot produce what the evidence demands.

    Args:
      evidence: ln p(y_i | x_i = x) for each leaf and symbol, or another kind; see the head of this file.
      formulation: who answers; default: who is faster. See there too.

    Raises:
      ValueError: if the evidence holds NaN or +inf, or has another shape than the grammar's; or if the formulation is
        unknown, or does not serve. Inside `jax.jit` NaN and +inf are only seen when the program runs: then it is a
        RuntimeError.
    """
    return evidence_with_slope(rhm, evidence, formulation)


def marginals(rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None) -> LevelTables:
    """Posterior probabilities of the symbol of every node given all evidence, (..., nodes, v) per level, root first.

    Rows sum to 1; impossible evidence has no posterior, and gives rows of zeros. Arguments and errors as in
    `log_evidence`.
    """
    return answered(sweep.marginals, logarithmic.marginals, rhm, evidence, formulation=formulation)


def cavity_marginals(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None
) -> LevelTables:
    """Probabilities of the symbol of every node given only the evidence outside its subtree, root first.

    The node's own evidence is left out too. At a leaf this is the posterior with the site's own evidence divided out,
    p(x_i | y at the other sites). A row of zeros marks a node whose surroundings are impossible by themselves.
    Arguments and errors as in `log_evidence`.
    """
    return answered(sweep.cavity_marginals, logarithmic.cavity_marginals, rhm, evidence, formulation=formulation)


def upward_messages(rhm: RandomHierarchyModel, evidence: GivenEvidence) -> LevelTables:
    """ln p(evidence of a node and of all below it | its symbol), nats, (..., nodes, v) per level, root first.

    `-inf` where a symbol cannot produce what the evidence demands. The messages that the sweep sends upward; those that
    it sends downward are `cavity_marginals`. Arguments and errors as in `log_evidence`.
    """
    return answered(None, logarithmic.upward_messages, rhm, evidence)


def local_marginals(rhm: RandomHierarchyModel, evidence: GivenEvidence, level: Whole) -> LevelTables:
    """Posterior of every node by the evidence in a window: the subtree below its ancestor at `level`.

    What a denoiser knows that sees only the window of leaves around a site: all of them for level 0, where this is
    `marginals`, and the site itself for level `depth`. (..., nodes, v) for each level from `level` to the leaves; the
    last are the leaves'. Rows of zeros as in `marginals`, where a window's evidence is impossible by itself.

    Raises:
      ValueError: if the grammar has no nodes at that level; and as `log_evidence`.
    """
    level = as_whole("level", level, 0)
    if level > rhm.depth or rhm.num_nodes[level] == 0:
        levels = [at for at, nodes in enumerate(rhm.num_nodes) if nodes]
        raise ValueError(f"level = {level}: this grammar has nodes at the levels {levels}")
    return answered(None, _with_option(logarithmic.local_marginals, "level", level), rhm, evidence)


def posterior_sample(
    key: AnyKey, rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None
) -> Derivation:
    """An exact draw of the whole tree for each datum, levels (..., nodes).

    Where the evidence is impossible, every `valid` is false and every symbol -1. Formulations draw differently from the
    same key. Arguments and errors as in `log_evidence`.
    """
    return _marked(
        answered(
            sweep.posterior_sample, logarithmic.posterior_sample, rhm, evidence, as_key(key), formulation=formulation
        )
    )


class MostLikely(eqx.Module):
    """The most likely tree behind each datum."""

    derivation: Derivation
    """Levels (..., nodes); where the evidence is impossible every symbol is -1 and every `valid` false."""
    log_prob: Float[Array, "*batch"]
    """ln p(tree, y), nats; `-inf` where the evidence is impossible."""


def most_likely(rhm: RandomHierarchyModel, evidence: GivenEvidence) -> MostLikely:
    """The tree that is most likely given the evidence; of several equally likely ones, the first in the rules' order.

    Whether there are several is what `top_k` with k = 2 says. Arguments and errors as in `log_evidence`.
    """
    derivation, log_prob = answered(None, logarithmic.most_likely, rhm, evidence)
    return MostLikely(_marked(derivation), log_prob)


def top_k(rhm: RandomHierarchyModel, evidence: GivenEvidence, k: Whole) -> MostLikely:
    """The k most likely trees given the evidence, in decreasing order: levels (..., k, nodes), log_prob (..., k).

    Equally likely trees come in the order of the root's symbol and rule; of the same rule, that one first whose first
    child's subtree is more likely by itself, and so on child by child, where subtrees too are equal in the order of
    their rules. Where fewer than k are possible, the rest is marked as `most_likely` marks the impossible. Cost grows
    with k^2.

    Raises:
      ValueError: if k is no whole number of 1 or more, or the grammar is filtered; and as `log_evidence`.
    """
    k = as_whole("k", k, 1)
    _refuse_filtered(rhm)
    derivation, log_prob = answered(None, _with_option(ranked.top_k, "k", k), rhm, evidence)
    return MostLikely(_marked(derivation), log_prob)


@functools.cache
def _with_option(function: Callable, name: str, value: int) -> Callable:
    """One function for each value, so that a second call compiles nothing."""
    return functools.partial(function, **{name: value})


def posterior_entropy(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None
) -> Float[Array, "*batch"]:
    """Entropy of the tree given the evidence, nats: of the class, and of every choice of a rule below it.

    Without evidence, `rhm.entropy`. `-inf`, ln of no tree, where the evidence is impossible. Arguments and errors as in
    `log_evidence`.
    """
    return answered(sweep.posterior_entropy, logarithmic.posterior_entropy, rhm, evidence, formulation=formulation)


def rule_counts(rhm: RandomHierarchyModel, evidence: GivenEvidence, *, formulation: str | None = None) -> RuleCounts:
    """How often each rule is used given the evidence, its posterior mean: (..., parents, synonyms) per level of rules.

    The counts of a level sum to its nodes, to 0 above the level at which a grammar is filtered, and to 0 where the
    evidence is impossible. Of a grammar that is not filtered they are the gradient of `log_evidence` with respect to
    `rule_log_probs`. Arguments and errors as in `log_evidence`.
    """
    return answered(sweep.rule_counts, logarithmic.rule_counts, rhm, evidence, formulation=formulation)


def count_derivations(rhm: RandomHierarchyModel, evidence: GivenEvidence) -> Float[Array, "*batch"]:
    """ln of the number of strings that hard evidence leaves, of those that have a positive probability.

    Of evidence only counts what it excludes by `-inf`; without any, the result is ln of the size of the language.
    `-inf` where no string is left. A string has one tree, so this is the number of trees too.

    Raises:
      ValueError: if the grammar is filtered, which leaves strings without a tree; and as `log_evidence`.
    """
    _refuse_filtered(rhm)
    given = in_full(as_evidence(evidence, rhm))
    hard = jax.tree.map(lambda logs: jnp.where(jnp.isfinite(logs), 0, logs), given)  # NaN and +inf are refused below
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
