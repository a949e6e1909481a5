r"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

The evidence of leaf i is ln p(y_i | x_i = x). One upward sweep over the levels gives each node the log probability u of
all evidence below it, and at the root, over n equally likely classes,

    ln p(y) = ln (1/n) sum_a exp u_root(a).

One downward sweep gives the posterior of every node, or its cavity; a downward pass of draws gives exact joint samples
of the whole tree. Cost O(leaves * v * m * s) per datum.

There are two formulations. `logarithmic` is right for any evidence. `sweep` works with probabilities, is several times
as fast on large batches, and knows when it is not precise: then, and where it does not apply, logarithms are taken. So
the answer never depends on which one ran, beyond rounding. Derivatives are those of the logarithmic formulation.

The public functions take one datum, except where they are named `batched`; each is one compiled sweep. The latter also
take `NoisedStrings`, whose evidence need not be written out.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Key

from hierarchical import Derivation, RandomHierarchyModel

from . import logarithmic
from .evidence import Evidence, LeafEvidence, LogLikelihoods, NoisedStrings, written_out
from .fast import sweep
from .fast.segments import suits

LevelTables = tuple[Float[Array, "_nodes _symbols"], ...]
BatchLevelTables = tuple[Float[Array, "batch _nodes _symbols"], ...]

_NOT_ALLOWED = "the evidence holds NaN or +inf: give natural logarithms of likelihoods, -inf for impossible symbols"


def log_evidence(rhm: RandomHierarchyModel, leaf_log_likelihoods: LeafEvidence) -> Float[Array, ""]:
    """ln p(y) of one datum, nats; `-inf` if the grammar cannot produce what the evidence demands.

    Args:
      leaf_log_likelihoods: ln p(y_i | x_i = x) for each leaf and symbol, nats; `-inf` excludes a symbol.

    Raises:
      ValueError: if the evidence holds NaN or +inf, or its shape is not (num_leaves, num_symbols). Inside `jax.jit`
        NaN and +inf are only seen when the program runs: then it is a RuntimeError.
    """
    return _best_of_one(sweep.log_evidence, logarithmic.log_evidence, rhm, leaf_log_likelihoods)


def marginals(rhm: RandomHierarchyModel, leaf_log_likelihoods: LeafEvidence) -> LevelTables:
    """Posterior probabilities of the symbol of every node given all evidence, a table per level, root first.

    Rows sum to 1; impossible evidence has no posterior, and gives rows of zeros. Arguments and errors as in
    `log_evidence`.
    """
    return _best_of_one(sweep.marginals, logarithmic.marginals, rhm, leaf_log_likelihoods)


def cavity_marginals(rhm: RandomHierarchyModel, leaf_log_likelihoods: LeafEvidence) -> LevelTables:
    """Probabilities of the symbol of every node given only the evidence outside its subtree, root first.

    At a leaf this is the posterior with the site's own evidence divided out, p(x_i | y at the other sites). A row of
    zeros marks a node whose surroundings are impossible by themselves. Arguments and errors as in `log_evidence`.
    """
    return _best_of_one(sweep.cavity_marginals, logarithmic.cavity_marginals, rhm, leaf_log_likelihoods)


def posterior_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, leaf_log_likelihoods: LeafEvidence) -> Derivation:
    """An exact draw of the whole tree given the evidence; every `valid` is false if the evidence is impossible.

    Arguments and errors as in `log_evidence`.
    """
    return _best_of_one(*_samplers(key), rhm, leaf_log_likelihoods)


def batched_log_evidence(rhm: RandomHierarchyModel, log_likelihoods: Evidence) -> Float[Array, " batch"]:
    """`log_evidence` of many data at once."""
    return _best(sweep.log_evidence, logarithmic.log_evidence, rhm, log_likelihoods)


def batched_marginals(rhm: RandomHierarchyModel, log_likelihoods: Evidence) -> BatchLevelTables:
    """`marginals` of many data at once: the same values."""
    return _best(sweep.marginals, logarithmic.marginals, rhm, log_likelihoods)


def batched_cavity_marginals(rhm: RandomHierarchyModel, log_likelihoods: Evidence) -> BatchLevelTables:
    """`cavity_marginals` of many data at once."""
    return _best(sweep.cavity_marginals, logarithmic.cavity_marginals, rhm, log_likelihoods)


def batched_posterior_sample(key: Key[Array, ""], rhm: RandomHierarchyModel, log_likelihoods: Evidence) -> Derivation:
    """One `posterior_sample` for each of many data; the levels of the result are (batch, nodes)."""
    return _best(*_samplers(key), rhm, log_likelihoods)


def _samplers(key: Key[Array, ""]) -> tuple[Callable, Callable]:
    return Partial(sweep.posterior_sample, jax.random.clone(key)), Partial(logarithmic.posterior_sample, key)


def _best(fast: Callable, safe: Callable, rhm: RandomHierarchyModel, evidence: Evidence) -> Any:
    if not len(evidence):
        raise ValueError("the batch is empty: give the evidence of at least one datum")
    return _fast_or_safe(Partial(fast), Partial(safe), rhm, evidence, evidence.shape[1:], len(evidence))


def _best_of_one(fast: Callable, safe: Callable, rhm: RandomHierarchyModel, evidence: LeafEvidence) -> Any:
    """`_best` of one datum. The axis of the batch comes and goes within the program: outside it, that takes as long."""
    fast, safe = Partial(_of_one, Partial(fast)), Partial(_of_one, Partial(safe))
    return _fast_or_safe(fast, safe, rhm, evidence, evidence.shape, 1)


def _of_one(function: Callable, rhm: RandomHierarchyModel, evidence: LeafEvidence) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], function(rhm, evidence[None]))


def _fast_or_safe(
    fast: Partial,
    safe: Partial,
    rhm: RandomHierarchyModel,
    evidence: Evidence | LeafEvidence,
    shape: tuple[int, ...],
    batch: int,
) -> Any:
    """The fast answer where it is reliable for the whole batch, else the safe one; derivatives of the safe one.

    `fast` returns its answer and for which data it is reliable: NaN and +inf never are, so that only `safe` has to look
    for them. `shape` is that of each datum.
    """
    expected = (rhm.num_leaves, rhm.num_symbols)
    if shape != expected:
        raise ValueError(f"evidence must be (leaves, symbols) = {expected} for this grammar, got {shape}")
    large = suits(rhm, batch, evidence.dtype)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((fast, safe, rhm, evidence))):
        if large:
            return _either(fast, safe, rhm, evidence)
        return safe(rhm, _checked(evidence))
    # two programs, not one with both: half the time to compile, and memory for the fast one only; and errors raised
    # here, for a program that can raise them calls Python, which no cache of compiled programs keeps
    # a process may hold what is no array; all else JAX takes as it is, and calls it in a third of the time
    how = eqx.filter_jit if isinstance(evidence, NoisedStrings) else jax.jit
    if large:
        found, reliable = _program(_fast, how)(fast, rhm, evidence)
        if reliable:
            return found
    found, allowed = _program(_safe, how)(safe, rhm, evidence)
    if not allowed:
        raise ValueError(_NOT_ALLOWED)
    return found


@functools.cache
def _program(function: Callable, how: Callable) -> Callable:
    """The function compiled for this device; XLA uses vectors of 512 bits, where a CPU has them, only if asked to."""
    options = {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else None
    return how(function, compiler_options=options)


def _safe(safe: Callable, rhm: RandomHierarchyModel, evidence: Evidence | LeafEvidence):
    given = written_out(evidence)
    return safe(rhm, given), _is_allowed(given)


def _fast(fast: Callable, rhm: RandomHierarchyModel, evidence: Evidence | LeafEvidence):
    found, reliable = fast(rhm, evidence)
    return found, jnp.all(reliable)


@eqx.filter_jit
def _either(fast: Callable, safe: Callable, rhm: RandomHierarchyModel, evidence: Evidence | LeafEvidence):
    arguments = (fast, safe, rhm, evidence)
    smooth, rest = eqx.partition(arguments, eqx.is_inexact_array)
    counted, static = eqx.partition(rest, eqx.is_array)

    @jax.custom_jvp
    def value(smooth, counted):
        fast, safe, rhm, evidence = eqx.combine(smooth, counted, static)
        found, reliable = fast(rhm, evidence)
        return jax.lax.cond(jnp.all(reliable), lambda: found, lambda: safe(rhm, _checked(evidence)))

    @value.defjvp
    def derivative(primals, tangents):
        def of_safe(smooth):
            _, safe, rhm, evidence = eqx.combine(smooth, primals[1], static)
            return safe(rhm, _checked(evidence))

        return jax.jvp(of_safe, primals[:1], tangents[:1])

    return value(smooth, counted)


def _checked(evidence: Evidence | LeafEvidence) -> LogLikelihoods | LeafEvidence:
    given = written_out(evidence)
    return eqx.error_if(given, ~_is_allowed(given), _NOT_ALLOWED)


def _is_allowed(given: LogLikelihoods | LeafEvidence) -> Bool[Array, ""]:
    return jnp.all(given < jnp.inf)
