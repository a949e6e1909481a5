"""Ranges in which formulas hold: numbers outside them are refused by name.

Each function takes the name of an argument and its value, and returns the value as a Python number. NumPy scalars and
arrays without axes count as numbers, truth values and arrays with axes do not. `grid` does the same for arrays; values
that JAX traces cannot be refused, so a number outside its range becomes NaN there.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Num

from hierarchical.arguments import as_numbers

Number = float | int | np.number
Bound = float | int
Grid = Num[Array, "*grid"] | Num[np.ndarray, "*grid"] | Number | list[Any] | tuple[Any, ...]


def number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
      ValueError: as all functions here, naming the argument, the value got and what to give.
    """
    if np.ndim(value) > 0:
        raise ValueError(f"{name} has shape {np.shape(value)}: give one number")
    if isinstance(value, bool | np.bool_ | str | complex | np.complexfloating):
        raise ValueError(f"{name} = {value!r}: give a real number")
    if not math.isfinite(value):
        raise ValueError(f"{name} = {value}: give a finite number")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    return _checked(name, value, number(name, value) > 0, "above 0")


def not_negative(name: str, value: Any) -> float:
    """A finite number, 0 or above."""
    return _checked(name, value, number(name, value) >= 0, "of at least 0")


def between(name: str, value: Any, low: Bound, high: Bound) -> float:
    """A number strictly between two others."""
    return _checked(name, value, low < number(name, value) < high, f"between {low:.6g} and {high:.6g}, both excluded")


def count(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number in a range; a float that is whole counts."""
    whole = number(name, value) == round(value)
    wanted = f"{least} or above" if most is None else f"from {least} to {most}"
    if not (whole and least <= value and (most is None or value <= most)):
        raise ValueError(f"{name} = {value}: give a whole number, {wanted}")
    return int(value)


def points(name: str, value: Any) -> float:
    """The number of points of a training set, above 1; a fraction is a mean number of points."""
    return _checked(name, value, number(name, value) > 1, "above 1: a collapse needs points to choose from")


def grid(name: str, values: Grid, low: Bound, high: Bound, dtype: jnp.dtype | None = None) -> Float[Array, "*grid"]:
    """Finite floats from `low` to `high`, both included; NaN for others inside jit.

    Args:
      dtype: of the result; None: that of the values if they are floats, else the default of JAX.
    """
    values = as_numbers(values) if isinstance(values, list | tuple) else values
    floats = jnp.issubdtype(jnp.result_type(values), jnp.floating)
    values = jnp.asarray(values, dtype if dtype is not None or floats else float)
    inside = (values >= low) & (values <= high) & jnp.isfinite(values)
    if not isinstance(inside, Tracer) and not inside.all():
        raise ValueError(f"{name} = {values[~inside].ravel()[0]}: give finite numbers from {low:g} to {high:g}")
    return jnp.where(inside, values, jnp.nan)


def inside(name: str, value: Float[Array, "*grid"] | float, low: float, high: float) -> Float[Array, "*grid"] | float:
    """`value`, all of which lies in [low, high]; under `jax.jit` and `jax.vmap`, NaN where it does not.

    Raises:
      ValueError: naming the first number outside, NaN among them.
    """
    if isinstance(value, Tracer):
        return jnp.where((value >= low) & (value <= high), value, jnp.nan)
    wrong = np.ravel(np.asarray(value))
    wrong = wrong[~((wrong >= low) & (wrong <= high))]
    if len(wrong):
        raise ValueError(f"{name} = {wrong[0]:g} is outside [{low:g}, {high:g}]")
    return value


def _checked(name: str, value: Any, holds: bool, wanted: str) -> float:
    if not holds:
        raise ValueError(f"{name} = {value}: give a finite number {wanted}")
    return float(value)
