r"""Inference as part of a user's program: compiled, mapped and differentiated at the speed of a direct call.

Inside another program (`jit`, `scan`, ..) both formulations are part of it. A `while_loop` that runs at most once
takes the place of a condition, which would copy its result; the safe answer is written in the layout of its axes, or
the fast one would be transposed to the layout that suits the safe one and back; and it is computed a few data at a
time, so that it asks for little memory. At (v, m, s, L) = (32, 8, 2, 10) and 64 data marginals took 2.8 times as long
as a direct call without these three, and take as long with them (`benchmarks.transforms`).

**Under `vmap`** the mapped axis becomes one more batch axis of the evidence: mapping a function of one datum is a call
with many. If grammars or keys are mapped too, the fast formulation answers for one after the other, the safe one for
all together.

**Derivatives.** With p the posterior of leaf i and n_k the posterior mean of how often rule k is used,

    d ln p(y) = sum_{i, x} p(x_i = x | y) d e_i(x) + sum_k n_k d ln p(k),                                         (1)

for evidence e and rules' log probabilities: the slope of ln p(y) costs another downward sweep, in reverse mode as in
forward mode. Second derivatives, and those of everything else, are those of the safe formulation.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, PyTree

from . import logarithmic
from .evidence import NOT_ALLOWED, NoisedStrings, in_full, is_allowed, rows_of, written_out
from .fast import sweep
from .fast.compiler import in_memory
from .fast.segments import in_pieces
from .operation import Operation, guarded, operation_of, safe, with_axes

SAFE_PIECES = 8  # into which a batch is cut for the safe answer


@eqx.filter_jit
def inside(operation: Operation, arguments: tuple) -> Any:
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
def sloped(operation: Operation, arguments: tuple) -> Float[Array, "*batch"]:
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
            both = operation_of(sweep.leaves_and_counts, logarithmic.leaves_and_counts, operation.formulation)
            posterior, counts = inside(both, (rhm, evidence))
            for used, of_table in zip(counts, rules, strict=True):
                if _changes(of_table):
                    slope += jnp.einsum("...pk,pk->...", used, of_table.astype(used.dtype))
        else:
            posteriors = operation_of(sweep.marginals, logarithmic.marginals, operation.formulation)
            posterior = inside(posteriors, (rhm, evidence))[-1]
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
    answer, reliable = guarded(operation, cutting, arguments)

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
    """`safe` in the layout of its axes. A draw is not cut: it is the same as in a direct call."""
    *key, rhm, evidence = arguments
    rows = rows_of(evidence)

    def piece(_, rows):
        return jax.tree.map(in_memory, operation.safe(*key, rhm, in_full(rows)))

    answer = in_pieces(piece, len(rows) if key else -(-len(rows) // SAFE_PIECES), rows)
    return with_axes(evidence.shape[:-2], answer), is_allowed(in_full(evidence))


def _checked(operation: Operation, arguments: tuple) -> Any:
    """The safe answer, as part of a program that raises an error if the evidence holds NaN or +inf."""
    answer, allowed = safe(operation, arguments)
    return _raising(answer, ~allowed)
