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

Rows far from the origin. Rows may scatter by less than single precision resolves in their mean m. So means are m + d,
the departures d averaged from rows with m taken off, and the change of a statistic f is, with e = d - (fl(m + d) - m),
what rounding loses,

    f(m + d) - f(m)  =  f(fl(m + d)) - f(m) + f'(fl(m + d)) e,                                                    (2)

to first order in a number e of the size of rounding. Where the derivative is not finite it is left out.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from scipy.special import ndtr, stdtrit

from hierarchical.arguments import AnyKey, Given, as_key, as_numbers


class Estimate(eqx.Module):
    """`value` with its standard error, of one shape and one unit."""

    value: Float[Array, "*shape"]
    stderr: Float[Array, "*shape"]


def student_factor(rows: int) -> float:
    """The factor of equation (1), which widens the error of few rows; infinite for a single row."""
    return float(stdtrit(rows - 1, ndtr(1.0))) if rows > 1 else float("inf")


def mean_estimate(samples: Given) -> Estimate:
    """Mean over independent rows, (rows, ...), with its standard error, Student's; NaN error for a single row.

    Raises:
      ValueError: if there is no row, or `samples` are not real numbers.
    """
    samples = as_rows(samples)
    mean, rest = _centred(samples)
    rows = len(samples)
    if rows < 2:
        return Estimate(mean, jnp.full_like(mean, jnp.nan))
    return Estimate(mean, jnp.std(rest, 0, ddof=1) * (student_factor(rows) / rows**0.5))


def bootstrap(
    key: AnyKey,
    rows: Given,
    statistic: Callable[[Float[Array, "*shape"]], Float[Array, "*values"]],
    *,
    num_resamples: int = 400,
) -> Estimate:
    """A function of the mean over independent rows; its error is its spread over rows drawn with repetition.

    What differs between the entries of one row stays together, which keeps correlations. NaN error for a single
    row, and where the statistic of some resampled rows is NaN.

    Args:
      rows: (rows, *shape); whole numbers and truth values become floats.
      statistic: a JAX function of (*shape); below double precision it is differentiated too, equation (2).

    Raises:
      ValueError: if there is no row, or `rows` are not real numbers.
    """
    rows = as_rows(rows)
    mean, rest = _centred(rows)

    def numbers(mean):
        return as_numbers(statistic(mean))

    value = numbers(mean)
    if len(rows) < 2:
        return Estimate(value, jnp.full_like(value, jnp.nan))
    departures = _resampled(as_key(key), rest, num_resamples)
    changes = jax.vmap(lambda departure: _change(numbers, mean, departure, value))(departures)
    return Estimate(value, spread_of_resamples(changes, len(rows)))


def bootstrap_groups(
    key: AnyKey,
    groups: Given,
    statistic: Callable[[Float[Array, "*shape"]], Float[Array, "*values"]],
    *,
    num_resamples: int = 400,
) -> Estimate:
    """`bootstrap` of rows that come in groups, (groups, rows, *shape): groups are drawn, see the head.

    Strings of several grammars are such rows. The error of a single group is that of its rows alone.

    Raises:
      ValueError: if there is no group or no row, or `groups` are not real numbers.

    Source: Davison & Hinkley 1997, section 3.8.
    """
    return bootstrap(key, independent_rows(groups), statistic, num_resamples=num_resamples)


def independent_rows(groups: Given) -> Float[Array, "independent *shape"]:
    """The independent rows of grouped data, (groups, rows, *shape): the means of groups, or the rows of a single group.

    Raises:
      ValueError: if there is no group or no row, or `groups` are not real numbers.
    """
    groups = as_rows(groups, 2)
    return groups[0] if len(groups) == 1 else jax.vmap(lambda rows: _centred(rows)[0])(groups)


def as_rows(rows: Given, axes: int = 1) -> Float[Array, "..."]:
    """Rows as floats; whole numbers and truth values would wrap.

    Raises:
      ValueError: if they are not real numbers, or have fewer than `axes` axes or no entry along these.
    """
    rows = as_numbers(rows)
    if rows.ndim < axes or 0 in rows.shape[:axes]:
        wanted = "(rows, ...)" if axes == 1 else "(groups, rows, ...)"
        raise ValueError(f"the rows have shape {rows.shape}: give {wanted}, at least one of each")
    return rows


def spread_of_resamples(resampled: Float[Array, "num_resamples *values"], rows: int) -> Float[Array, "*values"]:
    """The standard error from resamples of `rows` independent rows, with Student's factor.

    Rows drawn again scatter around the mean of the rows, not around the truth: hence rows / (rows - 1).
    """
    return jnp.std(resampled, 0) * resampling_factor(rows)


def resampling_factor(rows: int) -> float:
    """The standard error over the standard deviation of resamples of that many rows, 2 or more."""
    return student_factor(rows) * (rows / (rows - 1)) ** 0.5


def resampled_means(
    key: Key[Array, ""], rows: Float[Array, "rows *shape"], num_resamples: int
) -> Float[Array, "num_resamples *shape"]:
    """Means of resamples, each of `len(rows)` rows drawn with repetition."""
    mean, rest = _centred(rows)
    return mean[None] + _resampled(key, rest, num_resamples)


def _centred(rows: Float[Array, "rows *shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "rows *shape"]]:
    """The mean, and the rows with it taken off: twice, as a sum of numbers far from 0 rounds."""
    near = jnp.mean(rows, 0)
    mean = jnp.where(jnp.isfinite(near), near + jnp.mean(rows - near[None], 0), near)
    return mean, rows - mean[None]


def _resampled(
    key: Key[Array, ""], rest: Float[Array, "rows *shape"], num_resamples: int
) -> Float[Array, "num_resamples *shape"]:
    drawn = jax.random.randint(key, (num_resamples, len(rest)), 0, len(rest))
    counts = jax.vmap(lambda row: jnp.bincount(row, length=len(rest)))(drawn).astype(rest.dtype)
    return jnp.tensordot(counts, rest, 1, precision="highest") / len(rest)


def _change(
    statistic: Callable, mean: Float[Array, "*shape"], departure: Float[Array, "*shape"], value: Float[Array, "*values"]
) -> Float[Array, "*values"]:
    """Equation (2); `value` is f(m)."""
    moved = mean + departure
    if jnp.finfo(moved.dtype).bits == 64:
        return statistic(moved) - value
    there, slope = jax.jvp(statistic, (moved,), (departure - (moved - mean),))
    return there - value + jnp.where(jnp.isfinite(slope), slope, 0)
