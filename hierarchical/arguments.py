"""What a user's program gives to public functions, made what the functions compute with, or refused by name.

Keys may be typed or old-style. Strings may be of any integer dtype, NumPy arrays or lists; inside they are int32, so
that a mask or "no symbol" (-1) never wraps. Numbers may be integers or Python floats; they become floats of the dtype
asked for, else of JAX's default. What is wrong raises ValueError where values are known; inside `jax.jit`, where they
are not, a symbol outside the alphabet becomes `NO_SYMBOL`, which nothing reads as data.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key, UInt32

NO_SYMBOL = -1
"""What stands where there is no symbol: not grammatical, not known, or not defined."""

AnyKey = Key[Array, "..."] | UInt32[Array, "2"] | UInt32[np.ndarray, "2"]
"""A typed key or an old-style one; of several, `as_key` says that one is wanted."""
Given = jax.typing.ArrayLike | Sequence[Any]
"""Numbers or symbols as a user has them: an array of JAX or NumPy, a list, a number. Shapes stand in docstrings."""

Whole = int | np.integer
"""A whole number; `as_whole` refuses truth values, which Python counts as integers."""


def as_key(key: Any) -> Key[Array, ""]:
    """A typed key of a typed or an old-style (`jax.random.PRNGKey`) one.

    Raises:
      ValueError: if it is neither, or several keys.
    """
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key = {key!r}: give jax.random.key(seed)")
    if isinstance(key, np.ndarray) or not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != (2,) or key.dtype != jnp.uint32:
            raise ValueError(f"key is an array of {key.dtype}, shape {key.shape}: give jax.random.key(seed)")
        return jax.random.wrap_key_data(jnp.asarray(key))
    if key.shape != ():
        raise ValueError(f"key has shape {key.shape}: give one key, or vmap over several")
    return key


def as_symbols(x: Any, num_symbols: int, name: str = "x", *, masked: bool = False) -> Int[Array, "*shape"]:
    """Strings as int32; a symbol outside 0 .. num_symbols - 1 is refused, or inside `jax.jit` becomes `NO_SYMBOL`.

    Args:
      name: what messages call it.
      masked: whether `num_symbols` itself, the mask, is allowed too.

    Raises:
      ValueError: if `x` does not hold integers, or, where they are known, one is outside the alphabet.
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"{name} is of {x.dtype}: a string holds integers, the symbols 0 .. {num_symbols - 1}")
    largest = num_symbols - (not masked)
    if isinstance(x, Tracer):
        return mark_symbols(x, largest)
    host = np.asarray(x)
    wrong = host[(host < 0) | (host > largest)]
    if wrong.size:
        mask = f", the mask {num_symbols}" if masked else ""
        raise ValueError(f"{name} holds the symbol {wrong[0]}: give symbols 0 .. {num_symbols - 1}{mask}")
    return jnp.asarray(x).astype(jnp.int32)


def mark_symbols(x: Any, largest: int) -> Int[Array, "*shape"]:
    """Integers as int32, `NO_SYMBOL` where they are outside 0 .. largest. Nothing is refused but other dtypes.

    They are compared in their own dtype: a limit that this dtype cannot hold excludes nothing.
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)  # NumPy's 64 bits are not JAX's by default
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"a string holds integers, got {x.dtype}")
    limits = jnp.iinfo(x.dtype)
    inside = np.ones(x.shape, bool) if limits.min == 0 else x >= 0
    if largest < limits.max:
        inside = inside & (x <= largest)
    return jnp.where(inside, x.astype(jnp.int32), NO_SYMBOL)


def at_least_float32(x: Any) -> Float[Array, "*shape"]:
    """Numbers as floats in which times and noise can be computed: `as_numbers`, float16 and bfloat16 as float32."""
    numbers = as_numbers(x)
    return numbers if jnp.finfo(numbers.dtype).bits >= 32 else numbers.astype(jnp.float32)


def as_numbers(x: Any, dtype: Any = None) -> Float[Array, "*shape"]:
    """Numbers as an array of floats: of `dtype` if given, else of their own dtype if it is a float's, else of JAX's.

    Raises:
      ValueError: if they are not real numbers.
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        what = repr(x.item()) if isinstance(x, np.ndarray) and x.ndim == 0 else f"an array of shape {x.shape}"
        raise ValueError(f"{what} is of {x.dtype}: give real numbers")
    if dtype is None:
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    return jnp.asarray(x).astype(jax.dtypes.canonicalize_dtype(dtype))


def as_widest(*arrays: Any) -> list[Float[Array, "..."]]:
    """Several arrays of numbers as floats, `as_numbers`, in a dtype that holds all of them."""
    floats = [as_numbers(x) for x in arrays]
    with jax.numpy_dtype_promotion("standard"):
        dtype = functools.reduce(jnp.promote_types, [x.dtype for x in floats])
    return [x.astype(dtype) for x in floats]


def as_whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number as a Python integer: NumPy's integers count, floats and truth values do not.

    Raises:
      ValueError: if it is none, or below `least`.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool | np.bool_) or (least is not None and whole < least):
        wanted = "give a whole number" if least is None else f"give a whole number, {least} or above"
        raise ValueError(f"{name} = {value!r}: {wanted}")
    return whole


def as_wholes(name: str, values: Any, least: int | None = None) -> tuple[int, ...]:
    """Several whole numbers, `as_whole` each.

    Raises:
      ValueError: if they are no sequence, or one is no whole number, or below `least`.
    """
    if not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"{name} = {values!r}: give a sequence of whole numbers, one for each level")
    return tuple(as_whole(name, value, least) for value in values)
