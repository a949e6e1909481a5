"""A measured number and its standard error, the currency of all measures."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Estimate(eqx.Module):
    """`value` with its standard error, of one shape and one unit."""

    value: Float[Array, "*shape"]
    stderr: Float[Array, "*shape"]


def mean_estimate(samples: Float[Array, "rows *shape"]) -> Estimate:
    """Mean over independent rows, with the standard error of the mean; NaN error for a single row."""
    rows = samples.shape[0]
    spread = jnp.std(samples, 0, ddof=1) if rows > 1 else jnp.full(samples.shape[1:], jnp.nan, samples.dtype)
    return Estimate(jnp.mean(samples, 0), spread / rows**0.5)
