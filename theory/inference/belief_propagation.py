r"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

The evidence of leaf i is ln p(y_i | x_i = x). One upward sweep over the levels gives each node the log probability u of
all evidence below it, and at the root, over n equally likely classes,

    ln p(y) = ln (1/n) sum_a exp u_root(a).

One downward sweep gives the posterior of every node, or its cavity; a downward pass of draws gives exact joint samples
of the whole tree. Cost O(leaves * v * m * s) per datum.

There are two formulations. `logarithmic` is right for any evidence. `sweep` works with probabilities, is several times
as fast on large batches, and bounds its own error: if the bound is too large, or `sweep` does not apply, `logarithmic`
runs. So the answer does not depend on the formulation, beyond rounding. Derivatives are those of `logarithmic`.

Evidence may have any batch axes before its own two, or none; all data are one compiled sweep.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Key

from hierarchical import Derivation, RandomHierarchyModel
from hierarchical.arguments import NO_SYMBOL, AnyKey, Given, as_key

from . import logarithmic
from .evidence import NOT_ALLOWED, Evidence, NoisedStrings, checked_evidence, is_allowed, rows_of, written_out
from .fast import sweep
from .fast.segments import suits

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
    return _best(sweep.log_evidence, logarithmic.log_evidence, rhm, evidence)


def marginals(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> LevelTables:
    """Posterior probabilities of the symbol of every node given all evidence, (..., nodes, v) per level, root first.

    Rows sum to 1; impossible evidence has no posterior, and gives rows of zeros. Arguments and errors as in
    `log_evidence`.
    """
    return _best(sweep.marginals, logarithmic.marginals, rhm, evidence)


def cavity_marginals(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> LevelTables:
    """Probabilities of the symbol of every node given only the evidence outside its subtree, root first.

    At a leaf this is the posterior with the site's own evidence divided out, p(x_i | y at the other sites). A row of
    zeros marks a node whose surroundings are impossible by themselves. Arguments and errors as in `log_evidence`.
    """
    return _best(sweep.cavity_marginals, logarithmic.cavity_marginals, rhm, evidence)


def posterior_sample(key: AnyKey, rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Derivation:
    """An exact draw of the whole tree for each datum, levels (..., nodes).

    Where the evidence is impossible, every `valid` is false and every symbol -1. Arguments and errors as in
    `log_evidence`.
    """
    return _marked(_best(_sweep_sample, logarithmic.posterior_sample, rhm, evidence, as_key(key)))


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
    derivation, log_prob = _best(None, logarithmic.most_likely, rhm, evidence)
    return MostLikely(_marked(derivation), log_prob)


def posterior_entropy(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> Float[Array, "*batch"]:
    """Entropy of the tree given the evidence, nats: ln p(y) - E ln p(tree, y).

    Without evidence, `rhm.entropy`. NaN where the evidence is impossible. Arguments and errors as in `log_evidence`.
    """
    return _best(None, logarithmic.posterior_entropy, rhm, evidence)


def rule_counts(rhm: RandomHierarchyModel, evidence: AnyEvidence) -> RuleCounts:
    """How often each rule is used given the evidence, its posterior mean: (..., parents, synonyms) per level of rules.

    The counts of a level sum to its nodes, to 0 above the level at which a grammar is filtered, and to 0 where the
    evidence is impossible. They are the gradient of `log_evidence` with respect to `rule_log_probs`. Arguments and
    errors as in `log_evidence`.
    """
    return _best(None, logarithmic.rule_counts, rhm, evidence)


def _marked(tree: Derivation) -> Derivation:
    """No symbols where a tree is not valid."""
    levels = tuple(jnp.where(fine, level, NO_SYMBOL) for level, fine in zip(tree.levels, tree.valid, strict=True))
    return Derivation(levels, tree.valid)


def _sweep_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: Evidence) -> Any:
    return sweep.posterior_sample(jax.random.clone(key), rhm, evidence)  # the safe path may need the key too


def _best(
    fast: Callable | None, safe: Callable, rhm: RandomHierarchyModel, evidence: AnyEvidence, *key: Key[Array, ""]
) -> Any:
    """The fast answer where it is reliable for the whole batch, else the safe answer; derivatives of the safe answer.

    `fast` returns its answer, and for each datum whether it is reliable: with NaN or +inf it never is, so only `safe`
    checks for them. None: there is no fast one.
    """
    given = checked_evidence(evidence, (rhm.num_leaves, rhm.num_symbols))
    arguments = (*key, rhm, given)
    large = fast is not None and suits(rhm, math.prod(given.shape[:-2]), given.dtype)
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
        return _by_programs(Partial(fast or safe), Partial(safe), arguments, large)
    if large:
        return _either(Partial(fast), Partial(safe), arguments)
    return _over_rows(safe, _checked(arguments))


def _over_rows(function: Callable, arguments: tuple) -> Any:
    """Apply a function of evidence with one batch axis to evidence with any; the program reshapes."""
    *rest, evidence = arguments
    return _with_axes(evidence.shape[:-2], function(*rest, rows_of(evidence)))


def _guarded(fast: Callable, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """The fast answer, and whether it is reliable for all data."""
    *rest, evidence = arguments
    answer, reliable = fast(*rest, rows_of(evidence))
    return _with_axes(evidence.shape[:-2], answer), jnp.all(reliable)


def _with_axes(batch: tuple[int, ...], answer: Any) -> Any:
    return answer if len(batch) == 1 else jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), answer)


def _by_programs(fast: Partial, safe: Partial, arguments: tuple, large: bool) -> Any:
    """Two programs instead of one with both: half the time to compile, and memory for the fast program only.

    Errors are raised here, because a program that raises them calls Python, and no cache of compiled programs keeps it.
    A process may hold fields that are not arrays, for which `eqx.filter_jit` is needed; `jax.jit` calls everything else
    in a third of the time.
    """
    how = eqx.filter_jit if isinstance(arguments[-1], NoisedStrings) else jax.jit
    if large:
        answer, reliable = _program(_guarded, how)(fast, arguments)
        if reliable:
            return answer
    answer, allowed = _program(_safe, how)(safe, arguments)
    if not allowed:
        raise ValueError(NOT_ALLOWED)
    return answer


@functools.cache
def _program(function: Callable, how: Callable) -> Callable:
    """The function compiled for this device; XLA uses vectors of 512 bits, where a CPU has them, only if asked to."""
    options = {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else None
    return how(function, compiler_options=options)


def _safe(safe: Callable, arguments: tuple):
    *rest, evidence = arguments
    given = written_out(evidence)
    return _over_rows(safe, (*rest, given)), is_allowed(given)


@eqx.filter_jit
def _either(fast: Callable, safe: Callable, arguments: tuple):
    smooth, rest = eqx.partition(arguments, eqx.is_inexact_array)
    counted, static = eqx.partition(rest, eqx.is_array)

    @jax.custom_jvp
    def value(smooth, counted):
        arguments = eqx.combine(smooth, counted, static)
        answer, reliable = _guarded(fast, arguments)
        return jax.lax.cond(reliable, lambda: answer, lambda: _over_rows(safe, _checked(arguments)))

    @value.defjvp
    def derivative(primals, tangents):
        def of_safe(smooth):
            return _over_rows(safe, _checked(eqx.combine(smooth, primals[1], static)))

        return jax.jvp(of_safe, primals[:1], tangents[:1])

    return value(smooth, counted)


def _checked(arguments: tuple) -> tuple:
    """The arguments with evidence written out, which raises an error if it holds NaN or +inf."""
    *rest, evidence = arguments
    given = written_out(evidence)
    return *rest, eqx.error_if(given, ~is_allowed(given), NOT_ALLOWED)
