"""Sums of probabilities in logarithms, with `-inf` for 0: where -inf - (-inf) could make NaN, and nowhere else."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_sum(terms: Float[Array, "*shape"], axis: int = 0) -> Float[Array, "*reduced"]:
    """ln sum exp along an axis; `-inf` where all terms are, with gradient 0 there."""
    shift = finite(jax.lax.stop_gradient(jnp.max(terms, axis, keepdims=True)))
    return log_where_positive(jnp.sum(jnp.exp(terms - shift), axis)) + jnp.squeeze(shift, axis)


def finite(log_values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A shift to subtract: the value itself, 0 in place of -inf, for -inf - (-inf) is NaN and -inf - 0 is right."""
    return jnp.where(log_values == -jnp.inf, 0.0, log_values)


def log_where_positive(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """ln of non-negative values, `-inf` at 0, and the gradient 0 instead of NaN there."""
    positive = values > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, values, 1.0)), -jnp.inf)


def entr(p: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-p ln p of probabilities; 0 at p = 0, where its slope is taken as 0."""
    return -p * finite(log_where_positive(p))
