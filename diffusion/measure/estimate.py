r"""A measured number and its standard error, the currency of all measures.

Errors are standard errors over independent rows (data, grammars, repetitions), each made so that value +- error holds
the truth in 68.3% of repeated experiments: the spread of few rows is itself uncertain, so the error of n rows carries
Student's factor

    t_{n-1}(.8413)  =  1.84, 1.32, 1.20 at n = 2, 3, 4,  1.016 at 32,  1.0005 at 1000.                            (1)

Groups. Strings of one grammar share its rules: n strings of each of G grammars are G independent rows, not G n. With
variance B between groups and W within, the mean of all has variance (B + W/n)/G, and this is what the spread of the G
means of groups estimates without bias. So a bootstrap draws groups and keeps their rows: drawing rows again within the
groups drawn would count W/n twice (Davison & Hinkley 1997, section 3.8). The error of a single group is that of its
rows, and says nothing of other groups.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from scipy.special import ndtr, stdtrit


class Estimate(eqx.Module):
    """`value` with its standard error, of one shape and one unit."""

    value: Float[Array, "*shape"]
    stderr: Float[Array, "*shape"]


def student_factor(rows: int) -> float:
    """The factor of equation (1), which widens the error of few rows; infinite for a single row."""
    return float(stdtrit(rows - 1, ndtr(1.0))) if rows > 1 else float("inf")


def mean_estimate(samples: Float[Array, "rows *shape"]) -> Estimate:
    """Mean over independent rows, with the standard error of the mean, Student's; NaN error for a single row."""
    rows = samples.shape[0]
    if rows < 2:
        return Estimate(jnp.mean(samples, 0), jnp.full(samples.shape[1:], jnp.nan, samples.dtype))
    return Estimate(jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) * (student_factor(rows) / rows**0.5))


def bootstrap(
    key: Key[Array, ""],
    rows: Float[Array, "rows *shape"],
    statistic: Callable[[Float[Array, "*shape"]], Float[Array, "*values"]],
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
    resampled = jax.vmap(statistic)(resampled_means(key, rows, num_resamples))
    return Estimate(value, spread_of_resamples(resampled, len(rows)))


def bootstrap_groups(
    key: Key[Array, ""],
    groups: Float[Array, "groups rows *shape"],
    statistic: Callable[[Float[Array, "*shape"]], Float[Array, "*values"]],
    *,
    num_resamples: int = 400,
) -> Estimate:
    """`bootstrap` of rows that come in groups, strings of several grammars say: groups are drawn, see the head.

    The error of a single group is that of its rows alone.

    Source: Davison & Hinkley 1997, section 3.8.
    """
    return bootstrap(key, independent_rows(groups), statistic, num_resamples=num_resamples)


def independent_rows(groups: Float[Array, "groups rows *shape"]) -> Float[Array, "independent *shape"]:
    """The independent rows of grouped data: the means of several groups, or the rows of a single group."""
    return groups[0] if len(groups) == 1 else jnp.mean(groups, 1)


def spread_of_resamples(resampled: Float[Array, "num_resamples *values"], rows: int) -> Float[Array, "*values"]:
    """The standard error from resamples of `rows` independent rows, with Student's factor.

    Rows drawn again scatter around the mean of the rows, not around the truth: hence rows / (rows - 1).
    """
    return jnp.std(resampled, 0) * (student_factor(rows) * (rows / (rows - 1)) ** 0.5)


def resampled_means(
    key: Key[Array, ""], rows: Float[Array, "rows *shape"], num_resamples: int
) -> Float[Array, "num_resamples *shape"]:
    """Means of resamples, each of `len(rows)` rows drawn with repetition."""
    drawn = jax.random.randint(key, (num_resamples, len(rows)), 0, len(rows))
    counts = jax.vmap(lambda row: jnp.bincount(row, length=len(rows)))(drawn).astype(rows.dtype)
    return jnp.tensordot(counts, rows, 1, precision="highest") / len(rows)
