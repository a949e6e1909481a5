"""Which formulation answers: the fast one where it is reliable, else the safe one.

`logarithmic` is right for any evidence. `sweep` works with probabilities, is several times as fast on large batches,
and bounds its own error: if the bound is too large, or `sweep` does not serve, `logarithmic` runs. `sweep` cuts the
tree for the device: "segments" are walked a node at a time, whose numbers a CPU's caches hold; "levels" take all nodes
of a level in one step, which keeps the thousands of cores of a GPU or TPU busy. A caller may name one of the three.

**Called directly**, each is a program of its own: half the time to compile, and memory for one only.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from hierarchical import RandomHierarchyModel

from . import logarithmic
from .evidence import NOT_ALLOWED, GivenEvidence, NoisedStrings, TreeEvidence, as_evidence
from .fast import sweep
from .operation import CUTTINGS, Operation, guarded, operation_of, safe
from .transforms import inside, sloped


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
    operation = operation_of(fast, safe, formulation)
    arguments = (*key, rhm, as_evidence(evidence, rhm))
    _check(operation, arguments)
    return _by_programs(operation, arguments) if _are_known(arguments) else inside(operation, arguments)


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
    """ln p(y) with the slope of `transforms` (1); of a filtered grammar or inner nodes, that of the safe one."""
    given = as_evidence(evidence, rhm)
    if _are_known((rhm, given)) or rhm.filter_level or isinstance(given, TreeEvidence):
        return answered(sweep.log_evidence, logarithmic.log_evidence, rhm, given, formulation=formulation)
    operation = operation_of(sweep.log_evidence, logarithmic.log_evidence, formulation)
    _check(operation, (rhm, given))
    return sloped(operation, (rhm, given))


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
        answer, reliable = _program(guarded, how)(operation, cutting, arguments)
        if reliable:
            return answer
    answer, allowed = _program(safe, how)(operation, arguments)
    if not allowed:
        raise ValueError(NOT_ALLOWED)
    return answer


@functools.cache
def _program(function: Callable, how: Callable) -> Callable:
    """The function compiled for this device; XLA uses vectors of 512 bits, where a CPU has them, only if asked to."""
    options = {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else None
    return how(function, compiler_options=options)
