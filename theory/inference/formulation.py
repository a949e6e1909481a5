r"""Which formulation answers: the fast one where it is reliable, else the safe one; in and out of a user's program.

`logarithmic` is right for any evidence. `sweep` works with probabilities, is several times as fast on large batches,
and bounds its own error: if the bound is too large, or `sweep` does not serve, `logarithmic` runs. `sweep` cuts the
tree for the device: "segments" are walked a node at a time, whose numbers a CPU's caches hold; "levels" take all nodes
of a level in one step, which keeps the thousands of cores of a GPU or TPU busy. A caller may name one of the three.

**Called directly**, each is a program of its own: half the time to compile, and memory for one only.

**Inside another program** (`jit`, `scan`, ..) both are part of it. A `while_loop` that runs at most once takes the
place of a condition, which would copy its result; the safe answer is written in the layout of its axes, or the fast one
would be transposed to the layout that suits the safe one and back; and it is computed a few data at a time, so that
it asks for little memory. At (v, m, s, L) = (32, 8, 2, 10) and 64 data marginals took 2.8 times as long as a direct
call without these three, and take as long with them (`benchmarks.transforms`).

**Under `vmap`** the mapped axis becomes one more batch axis of the evidence: mapping a function of one datum is a call
with many. If grammars or keys are mapped too, the fast formulation answers for one after the other, the safe one for
all together.

**Derivatives.** With p the posterior of leaf i and n_k the posterior mean of how often rule k is used,

    d ln p(y) = sum_{i, x} p(x_i = x | y) d e_i(x) + sum_k n_k d ln p(k),                                         (1)

for evidence e and rules' log probabilities: the slope of ln p(y) costs another downward sweep, in reverse mode as in
forward mode. Second derivatives, and those of everything else, are those of the safe formulation.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Key, PyTree

from hierarchical import RandomHierarchyModel

from . import logarithmic
from .evidence import (
    NOT_ALLOWED,
    GivenEvidence,
    NoisedStrings,
    TreeEvidence,
    as_evidence,
    in_full,
    is_allowed,
    rows_of,
    written_out,
)
from .fast import sweep
from .fast.compiler import in_memory
from .fast.segments import LEVELS, SEGMENTS, Cutting, cutting_here, in_pieces, pays, serves

SAFE_PIECES = 8  # into which a batch is cut for the safe answer inside another program

CUTTINGS = {"segments": SEGMENTS, "levels": LEVELS}
FORMULATIONS = ("logarithmic", *CUTTINGS)


class Operation(eqx.Module):
    """One thing that can be asked, and who answers it."""

    safe: Callable = eqx.field(static=True)
    """Of evidence that is written out, with one batch axis."""
    fast: Callable | None = eqx.field(static=True)
    """Returns its answer, and for each datum whether it is reliable: with NaN or +inf it never is, so only `safe`
    checks for them. None: there is no fast one."""
    formulation: str | None = eqx.field(static=True)
    """Who is asked; None: whoever is faster on this device."""

    def cutting(self, arguments: tuple) -> Cutting | None:
        """How the fast formulation cuts the tree, or None: the safe one answers."""
        *_, rhm, evidence = arguments
        if self.fast is None or isinstance(evidence, TreeEvidence):
            return None
        if self.formulation is None and not pays(rhm, math.prod(evidence.shape[:-2])):
            return None  # asked first, because it decides most often
        if not serves(rhm, evidence.dtype):
            return None
        return cutting_here() if self.formulation is None else CUTTINGS.get(self.formulation)


def _operation(safe: Callable, fast: Callable | None, formulation: str | None) -> Operation:
    if not (formulation is None or (isinstance(formulation, str) and formulation in FORMULATIONS)):
        raise ValueError(f"formulation = {formulation!r}: give one of {', '.join(FORMULATIONS)}, or none")
    return _made_once(safe, fast, formulation)


_made_once = functools.cache(Operation)  # making one takes longer than looking it up


def answered(
    fast: Callable | None,
    safe: Callable,
    rhm: RandomHierarchyModel,
    evidence: GivenEvidence,
    *key: Key[Array, ""],
    formulation: str | None = None,
) -> Any:
    """The fast answer where it is reliable for the whole batch, else the safe answer.

    Args:
      key: comes before the grammar in what both are called with.

    Raises:
      ValueError: as in `as_evidence`, or if the evidence holds NaN or +inf, inside a program a RuntimeError; or if the
        formulation is unknown, or does not serve.
    """
    operation = _operation(safe, fast, formulation)
    arguments = (*key, rhm, as_evidence(evidence, rhm))
    _check(operation, arguments)
    return _by_programs(operation, arguments) if _are_known(arguments) else _inside(operation, arguments)


def _check(operation: Operation, arguments: tuple) -> None:
    name = operation.formulation
    if name in CUTTINGS and operation.cutting(arguments) is None:
        raise ValueError(
            f"formulation = {name!r} needs a grammar without a filter, of one branching number and levels of similar "
            f"sizes, and evidence of leaves alone in float32 or float64: give none, or 'logarithmic'"
        )


def evidence_with_slope(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, formulation: str | None
) -> Float[Array, "*batch"]:
    """ln p(y) with the slope of equation (1); of a filtered grammar and of inner nodes, with that of the safe one."""
    given = as_evidence(evidence, rhm)
    if _are_known((rhm, given)) or rhm.filter_level or isinstance(given, TreeEvidence):
        return answered(sweep.log_evidence, logarithmic.log_evidence, rhm, evidence, formulation=formulation)
    operation = _operation(logarithmic.log_evidence, sweep.log_evidence, formulation)
    _check(operation, (rhm, given))
    return _sloped(operation, (rhm, given))


def _are_known(arguments: tuple) -> bool:
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))


def _by_programs(operation: Operation, arguments: tuple) -> Any:
    """Two programs instead of one with both.

    Errors are raised here, because a program that raises them calls Python, and no cache of compiled programs keeps it.
    A process may hold fields that are not arrays, for which `eqx.filter_jit` is needed; `jax.jit` calls everything else
    in a third of the time.
    """
    how = eqx.filter_jit if isinstance(arguments[-1], NoisedStrings) else jax.jit
    cutting = operation.cutting(arguments)
    if cutting is not None:
        answer, reliable = _program(_guarded, how)(operation, cutting, arguments)
        if reliable:
            return answer
    answer, allowed = _program(_safe, how)(operation, arguments)
    if not allowed:
        raise ValueError(NOT_ALLOWED)
    return answer


@functools.cache
def _program(function: Callable, how: Callable) -> Callable:
    """The function compiled for this device; XLA uses vectors of 512 bits, where a CPU has them, only if asked to."""
    options = {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else None
    return how(function, compiler_options=options)


def _guarded(operation: Operation, cutting: Cutting, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """The fast answer, and whether it is reliable for all data."""
    *rest, evidence = arguments
    assert operation.fast is not None  # or it had no cutting
    answer, reliable = operation.fast(*rest, rows_of(evidence), cutting)
    return _with_axes(evidence.shape[:-2], answer), jnp.all(reliable)


def _safe(operation: Operation, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """The safe answer, and whether the evidence is allowed."""
    *rest, evidence = arguments
    given = in_full(evidence)
    return _with_axes(evidence.shape[:-2], operation.safe(*rest, rows_of(given))), is_allowed(given)


def _with_axes(batch: tuple[int, ...], answer: Any) -> Any:
    return answer if len(batch) == 1 else jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), answer)


@eqx.filter_jit
def _inside(operation: Operation, arguments: tuple) -> Any:
    """The answer as part of another program, with the derivatives of the safe one."""
    smooth, counted, static = _split(arguments)

    @jax.custom_jvp
    def value(smooth, counted):
        return _mapped(operation, static)(smooth, counted)

    @value.defjvp
    def derivative(primals, tangents):
        def of_safe(smooth):
            return _checked(operation, eqx.combine(smooth, primals[1], static))

        return jax.jvp(of_safe, primals[:1], tangents[:1])

    return value(smooth, counted)


@eqx.filter_jit
def _sloped(operation: Operation, arguments: tuple) -> Float[Array, "*batch"]:
    """ln p(y) as part of another program."""
    smooth, counted, static = _split(arguments)

    @jax.custom_jvp
    def value(smooth, counted):
        return _mapped(operation, static)(smooth, counted)

    def derivative(primals, tangents):
        """Equation (1); what does not change is not computed."""
        rhm, evidence = eqx.combine(*primals, static)
        rules, sites = tangents[0][0].rule_log_probs, tangents[0][1]
        slope = jnp.zeros(evidence.shape[:-2], evidence.dtype)
        if _changes(rules):
            posterior, counts = answered(sweep.leaves_and_counts, logarithmic.leaves_and_counts, rhm, evidence,
                                         formulation=operation.formulation)  # fmt: skip
            for used, of_table in zip(counts, rules, strict=True):
                if _changes(of_table):
                    slope += jnp.einsum("...pk,pk->...", used, of_table.astype(used.dtype))
        else:
            posterior = answered(sweep.marginals, logarithmic.marginals, rhm, evidence,
                                 formulation=operation.formulation)[-1]  # fmt: skip
        if _changes(sites):
            fixed = primals[1][1], static[1]
            direction = jax.tree.map(_instantiated, sites, is_leaf=_is_zero)
            change = jax.jvp(lambda moved: written_out(eqx.combine(moved, *fixed)), (primals[0][1],), (direction,))[1]
            slope += jnp.sum(jnp.where(posterior > 0, posterior * change, 0), (-2, -1))
        return value(*primals), slope

    value.defjvp(derivative, symbolic_zeros=True)
    return value(smooth, counted)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _changes(tangents: PyTree) -> bool:
    return not all(_is_zero(leaf) for leaf in jax.tree.leaves(tangents, is_leaf=_is_zero))


def _instantiated(tangent: Any) -> Array:
    return jnp.zeros(tangent.aval.shape, tangent.aval.dtype) if _is_zero(tangent) else tangent


def _split(arguments: tuple) -> tuple[PyTree, PyTree, PyTree]:
    """What can be differentiated, other arrays, and the rest; `eqx.combine` puts them together."""
    smooth, rest = eqx.partition(arguments, eqx.is_inexact_array)
    return smooth, *eqx.partition(rest, eqx.is_array)


def _mapped(operation: Operation, static: PyTree) -> Callable[[PyTree, PyTree], Any]:
    """The answer as a function that `vmap` may map: mapped evidence gets one more batch axis."""

    @custom_vmap
    def value(smooth, counted):
        return _once(operation, eqx.combine(smooth, counted, static))

    @value.def_vmap
    def over_axis(size, is_mapped, *arrays):
        *others, of_evidence = eqx.combine(*is_mapped)
        *before, evidence = eqx.combine(*arrays, static)
        if any(jax.tree.leaves(others)) or not _is_axis(of_evidence):
            answer = _each(operation, size, eqx.combine(*is_mapped), (*before, evidence))
        else:
            longer = jax.tree.map(lambda x, has: x if has else jnp.broadcast_to(x, (size, *x.shape)),
                                  _numbers(evidence), _numbers(of_evidence))  # fmt: skip
            smooth, counted, _ = _split((*before, _with_numbers(evidence, longer)))
            answer = value(smooth, counted)
        return answer, jax.tree.map(lambda leaf: True, answer)

    return value


def _numbers(evidence: Any) -> Any:
    """What of the evidence has batch axes."""
    return (evidence.x_t, evidence.t) if isinstance(evidence, NoisedStrings) else evidence


def _with_numbers(evidence: Any, numbers: Any) -> Any:
    return eqx.tree_at(_numbers, evidence, numbers)


def _is_axis(mapped: Any) -> bool:
    """Whether no more is mapped than what has batch axes: not the process of noised strings."""
    return not any(jax.tree.leaves(mapped.process)) if isinstance(mapped, NoisedStrings) else True


def _each(operation: Operation, size: int, is_mapped: PyTree, arguments: tuple) -> Any:
    """One answer for each grammar or key: by the fast formulation one after the other, by the safe one together."""
    arrays, static = eqx.partition(arguments, eqx.is_array)
    moving, still = eqx.partition(arrays, is_mapped)
    first = eqx.combine(jax.tree.map(lambda x: x[0], moving), still, static)
    if operation.cutting(first) is not None:
        return jax.lax.map(lambda moving: _once(operation, eqx.combine(moving, still, static)), moving)
    return jax.vmap(lambda moving: _checked(operation, eqx.combine(moving, still, static)))(moving)


def _once(operation: Operation, arguments: tuple) -> Any:
    """The fast answer, overwritten where it is not reliable."""
    cutting = operation.cutting(arguments)
    if cutting is None:
        return _checked(operation, arguments)
    answer, reliable = _guarded(operation, cutting, arguments)

    def overwritten(_):
        return jnp.ones((), bool), *_in_few_pieces(operation, arguments)

    state = reliable, answer, jnp.ones((), bool)
    _, answer, allowed = jax.lax.while_loop(lambda state: ~state[0], overwritten, state)
    return _raising(answer, ~allowed)


def _raising(answer: Any, wrong: Bool[Array, ""]) -> Any:
    """The answer, as part of a program that raises an error where `wrong`; tied to its smallest array, as it copies."""
    leaves, structure = jax.tree.flatten(answer)
    smallest = min(range(len(leaves)), key=lambda i: leaves[i].size)
    leaves[smallest] = eqx.error_if(leaves[smallest], wrong, NOT_ALLOWED)
    return jax.tree.unflatten(structure, leaves)


def _in_few_pieces(operation: Operation, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """`_safe` in the layout of its axes. A draw is not cut: it is the same as in a direct call."""
    *key, rhm, evidence = arguments
    rows = rows_of(evidence)

    def piece(_, rows):
        return jax.tree.map(in_memory, operation.safe(*key, rhm, in_full(rows)))

    answer = in_pieces(piece, len(rows) if key else -(-len(rows) // SAFE_PIECES), rows)
    return _with_axes(evidence.shape[:-2], answer), is_allowed(in_full(evidence))


def _checked(operation: Operation, arguments: tuple) -> Any:
    """The safe answer, as part of a program that raises an error if the evidence holds NaN or +inf."""
    answer, allowed = _safe(operation, arguments)
    return _raising(answer, ~allowed)
