"""A measured number and its standard error, the currency of all measures."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class Estimate(eqx.Module):
    """`value` with its standard error, of one shape and one unit."""

    value: Float[Array, "*shape"]
    stderr: Float[Array, "*shape"]


def mean_estimate(samples: Float[Array, "rows *shape"]) -> Estimate:
    """Mean over independent rows, with the standard error of the mean; NaN error for a single row."""
    rows = samples.shape[0]
    spread = jnp.std(samples, 0, ddof=1) if rows > 1 else jnp.full(samples.shape[1:], jnp.nan, samples.dtype)
    return Estimate(jnp.mean(samples, 0), spread / rows**0.5)


def bootstrap(
    key: Key[Array, ""],
    rows: Float[Array, "rows *shape"],
    statistic: Callable[[Float[Array, "*shape"]], Float[Array, "*found"]],
    *,
    num_resamples: int = 400,
) -> Estimate:
    """A function of the mean over independent rows; its error is its spread over rows drawn with repetition.

    What differs between the entries of one row stays together, which keeps correlations. NaN error for a single
    row, and where the statistic of some resampled rows is NaN.
    """
    value = statistic(jnp.mean(rows, 0))
    if len(rows) < 2:
        return Estimate(value, jnp.full_like(value, jnp.nan))
    spread = jnp.std(jax.vmap(statistic)(resampled_means(key, rows, num_resamples)), 0)
    return Estimate(value, spread * (len(rows) / (len(rows) - 1)) ** 0.5)  # drawn rows scatter around their own mean


def resampled_means(
    key: Key[Array, ""], rows: Float[Array, "rows *shape"], num_resamples: int
) -> Float[Array, "num_resamples *shape"]:
    """Means of as many rows, drawn with repetition."""
    drawn = jax.random.randint(key, (num_resamples, len(rows)), 0, len(rows))
    counts = jax.vmap(lambda row: jnp.bincount(row, length=len(rows)))(drawn).astype(rows.dtype)
    return jnp.tensordot(counts, rows, 1, precision="highest") / len(rows)
