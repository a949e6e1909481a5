"""Numbers outside their domain: refused by name, or marked as NaN where a compiled program cannot raise."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


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
