"""One thing that can be asked of a grammar, and the two who can answer it: the fast formulation and the safe one."""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .evidence import TreeEvidence, in_full, is_allowed, rows_of
from .fast.segments import LEVELS, SEGMENTS, Cutting, cutting_here, pays, serves

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


def operation_of(fast: Callable | None, safe: Callable, formulation: str | None) -> Operation:
    """The operation, made once: that takes longer than looking it up.

    Raises:
      ValueError: if there is no such formulation.
    """
    if not (formulation is None or (isinstance(formulation, str) and formulation in FORMULATIONS)):
        raise ValueError(f"formulation = {formulation!r}: give one of {', '.join(FORMULATIONS)}, or none")
    return _made_once(safe, fast, formulation)


_made_once = functools.cache(Operation)


def guarded(operation: Operation, cutting: Cutting, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """The fast answer, and whether it is reliable for all data."""
    *rest, evidence = arguments
    assert operation.fast is not None  # or it had no cutting
    answer, reliable = operation.fast(*rest, rows_of(evidence), cutting)
    return with_axes(evidence.shape[:-2], answer), jnp.all(reliable)


def safe(operation: Operation, arguments: tuple) -> tuple[Any, Bool[Array, ""]]:
    """The safe answer, and whether the evidence is allowed."""
    *rest, evidence = arguments
    given = in_full(evidence)
    return with_axes(evidence.shape[:-2], operation.safe(*rest, rows_of(given))), is_allowed(given)


def with_axes(batch: tuple[int, ...], answer: Any) -> Any:
    return answer if len(batch) == 1 else jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), answer)
