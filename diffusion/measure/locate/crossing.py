r"""The transition locator: at which noise does a curve fall through a threshold? One function for every curve.

The curve is a mean over rows, known at noise levels t_1 < t_2 < .. (of any spacing). Its *cell* is the pair of levels
between which it falls: the last level before the largest sum over levels of (curve - threshold), and the next; for a
falling curve this is the first pair above and below, and noise does not move it far. Through the 6 levels around the
cell goes a cubic eta: of the value itself, or for a probability that falls from 1 to chance c

    p = c + (1 - c) / (1 + e^-eta),                                                                               (1)

fitted by quasi-likelihood (weights as of a binomial; psychometric functions with a guess rate are fitted so): a
retention curve is nearly straight in this eta. The crossing is where the cubic reaches the threshold.

What the error contains. (a) The spread of the crossing over rows drawn with repetition (`estimate`): data, sampling,
and grammars where rows come in groups. (b) The grid: the distance to the crossing of the parabola through the same
levels, as an embedded method of lower order. If more than half of the fall over the 6 levels lies in the cell (always
so with two levels) no polynomial is to be trusted: the crossing is then linear interpolation, and the grid's error that
of a number which is anywhere in the cell, its width over the square root of 12. Both add in squares.

The threshold is the caller's. Retention of levels is compared at 1/2 throughout: density evolution's threshold of an
infinite hierarchy is the same for any level between 1/v and 1, but a finite curve crosses (1 + 1/v)/2 (`halfway`)
earlier by an amount that depends on v and on the depth, .044 at (v, m, s, L) = (8, 3, 2, 4).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical.arguments import AnyKey, Given, as_key, as_numbers, as_widest

from ..estimate import Estimate, as_rows, independent_rows, resampled_means, resampling_factor

_POINTS, _DEGREE = 6, 3
_STEPS = 8  # of Newton's method, for the fit and for its root
_ROUNDING = 1e-3  # by which the mean of probabilities may leave [0, 1]

Rows = Float[Array, "_rows _columns"]
Scalar = Float[Array, ""]


def halfway(num_symbols: int) -> float:
    """The retention half-way between 1 and chance, 1 / num_symbols."""
    return (1 + 1 / num_symbols) / 2


def locate_transition(
    key: AnyKey,
    noise_times: Given,
    retention: Given,
    threshold: float = 0.5,
    *,
    chance: float = 0.0,
    num_points: int = _POINTS,
    num_resamples: int = 400,
) -> Estimate:
    """The noise time at which the mean retention, a probability, falls through `threshold`, with its standard error.

    Args:
      noise_times: (times,), increasing, in the unit of the process.
      retention: (rows, times), one row per independent datum or grammar, or (grammars, data, times). A single row is a
        deterministic curve, which has only the error of the grid. Rows may leave [0, 1], as those of `among_valid` do,
        their mean may not. NaN in a column makes the crossing NaN.
      threshold: in (chance, 1).
      chance: where the curve ends (1/v for a symbol, 1/2 for one of two clusters), c of equation (1).
      num_points: how many noise times around the crossing are fitted; give more on a fine grid.

    Returns:
      Times in the unit of `noise_times`; NaN where the curve does not fall through the threshold inside the grid; a
      NaN error where some of the resampled curves do not.

    Raises:
      ValueError: if the threshold is no probability above chance, there are fewer than 2 noise times or another number
        than columns, or where they are known, times do not increase or are not finite, or a mean is outside [0, 1].
    """
    rows, times = _by_row("retention", retention), increasing_times("noise_times", noise_times)
    at = _probabilities(threshold, chance, rows.dtype)
    _refuse_other_columns(times, retention=rows)
    _refuse_no_probabilities(retention=rows)
    return _located(as_key(key), times, rows[:, None], *at, num_resamples, num_points, _logistic_fit)


def locate_crossing(
    key: AnyKey, times: Given, curve: Given, threshold: float = 0.0, *, num_resamples: int = 400
) -> Estimate:
    """Where the mean of any falling curve falls through `threshold`; otherwise as `locate_transition`."""
    rows, times = _by_row("curve", curve), increasing_times("times", times)
    _refuse_other_columns(times, curve=rows)
    at = jnp.asarray(threshold, rows.dtype), jnp.zeros((), rows.dtype)
    return _located(as_key(key), times, rows[:, None], *at, num_resamples, _POINTS, _linear_fit)


def locate_difference(
    key: AnyKey,
    noise_times: Given,
    first: Given,
    second: Given,
    threshold: float = 0.5,
    *,
    chance: float = 0.0,
    num_points: int = _POINTS,
    num_resamples: int = 400,
) -> Estimate:
    """Transition of `second` minus that of `first`, where row i of both belongs to one datum and its noise.

    The same rows are drawn of both, so what they have in common cancels in the error; the grids' errors add.

    Raises:
      ValueError: if the curves have different numbers of rows; and as `locate_transition`.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"paired curves have shapes {np.shape(first)} and {np.shape(second)}: row i must be one datum")
    one, other = as_widest(_by_row("first", first), _by_row("second", second))
    times = increasing_times("noise_times", noise_times)
    at = _probabilities(threshold, chance, one.dtype)
    _refuse_other_columns(times, first=one)
    _refuse_no_probabilities(first=one, second=other)
    pairs = jnp.stack([one, other], 1)
    return _located(as_key(key), times, pairs, *at, num_resamples, num_points, _logistic_fit)


def increasing_times(name: str, times: Given) -> Float[Array, " times"]:
    """Noise times as floats.

    Raises:
      ValueError: if there are fewer than 2, or they are known and not finite, or do not increase.
    """
    times = as_numbers(times)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"{name} has shape {times.shape}: give a row of at least 2 noise times")
    if not isinstance(times, Tracer):
        host = np.asarray(times)
        if not np.isfinite(host).all():
            raise ValueError(f"{name} holds {host[~np.isfinite(host)][0]}: give finite times")
        falls = np.flatnonzero(np.diff(host) <= 0)
        if len(falls):
            raise ValueError(f"{name} has {host[falls[0] + 1]} after {host[falls[0]]}: give increasing times")
    return times


def _probabilities(threshold: float, chance: float, dtype) -> tuple[Array, Array]:
    if not 0 <= chance < threshold < 1:
        raise ValueError(
            f"threshold = {threshold}, chance = {chance}: a retention falls from 1 to chance >= 0, and "
            "the threshold lies between; for other curves use locate_crossing"
        )
    return jnp.asarray(threshold, dtype), jnp.asarray(chance, dtype)


def _by_row(name: str, curves: Given) -> Rows:
    curves = as_rows(curves)
    if curves.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {curves.shape}: give (rows, times) or (groups, rows, times)")
    return independent_rows(curves) if curves.ndim == 3 else curves


def _refuse_other_columns(times: Float[Array, " times"], **curves: Rows) -> None:
    for name, rows in curves.items():
        if rows.shape[1] != len(times):
            raise ValueError(f"{len(times)} noise times, {name} has {rows.shape[1]} columns: give a time for each")


def _refuse_no_probabilities(**curves: Rows) -> None:
    """Refuse percent, say, where numbers are known. Only means have to be probabilities, NaN is not judged."""
    for name, rows in curves.items():
        if not isinstance(rows, Tracer):
            means = np.asarray(rows).mean(0)
            wrong = means[(means < -_ROUNDING) | (means > 1 + _ROUNDING)]
            if len(wrong):
                raise ValueError(
                    f"{name} has the mean {wrong[0]:.6g} at a noise time: give probabilities, from 0 to 1; for other "
                    "curves use locate_crossing"
                )


def _located(key, times, curves: Float[Array, "rows curves times"], threshold, chance, num_resamples, num_points, fit):
    """The crossing of a single curve, or that of the second of two curves minus that of the first.

    Two programs: the second compiles long, and is the same for any number of rows.
    """
    rows, means = len(curves), _with_resamples(key, curves, num_resamples)
    factor = jnp.asarray(resampling_factor(rows) if rows > 1 else 0, means.dtype)
    with jax.debug_nans(False):  # a crossing that is not there is NaN, and no fault
        return _crossing_of_means(times.astype(means.dtype), means, factor, threshold, chance, num_points, fit)


@functools.partial(jax.jit, static_argnames="num_resamples")
def _with_resamples(key, curves: Float[Array, "rows curves times"], num_resamples):
    """The mean over rows, and below it those of the resamples; of a single row the mean alone."""
    means = jnp.mean(curves, 0, keepdims=True)
    return jnp.concatenate([means, resampled_means(key, curves, num_resamples)]) if len(curves) > 1 else means


@functools.partial(jax.jit, static_argnames=("num_points", "fit"))
def _crossing_of_means(
    times, means: Float[Array, "means curves times"], factor: Scalar, threshold, chance, num_points, fit
):
    """From the mean and its resamples; their scatter times the factor is the standard error."""

    def crossings(mean):
        located = jax.vmap(lambda curve: _crossing(times, curve, threshold, chance, num_points, fit))(mean)
        return located.value[-1] - (located.value[0] if len(mean) > 1 else 0), jnp.linalg.norm(located.stderr)

    value, grid = jax.vmap(crossings)(means)
    spread = jnp.std(value[1:], 0) * factor if len(means) > 1 else jnp.zeros_like(value[0])
    return Estimate(value[0], jnp.hypot(spread, grid[0]))


def _crossing(
    times: Float[Array, " times"], curve: Float[Array, " times"], threshold: Scalar, chance: Scalar, points: int, fit
) -> Estimate:
    """The crossing of a single curve; its error is that of the grid, (b) in the head."""
    cell = jnp.argmax(jnp.cumsum(curve - threshold))
    crosses = (cell < len(times) - 1) & (curve[0] >= threshold)
    cell = jnp.minimum(cell, len(times) - 2)
    size = min(len(times), points)
    start = jnp.clip(cell + 1 - size // 2, 0, len(times) - size)
    t, p = (jax.lax.dynamic_slice(x, (start,), (size,)) for x in (times, curve))
    left, width, drop = times[cell], times[cell + 1] - times[cell], curve[cell] - curve[cell + 1]
    linear = left + width * (curve[cell] - threshold) / jnp.where(crosses, drop, 1)
    centre, scale = linear, (t[-1] - t[0]) / 2
    degree = min(_DEGREE, size - 1)
    cubic, parabola = (
        centre + scale * _root(fit((t - centre) / scale, p, threshold, chance, k)) for k in (degree, max(1, degree - 1))
    )
    resolved = (2 * drop <= p[0] - p[-1]) & (abs(cubic - linear) < width) & (abs(parabola - linear) < width)
    value = jnp.where(resolved, cubic, linear)
    grid = jnp.where(resolved, abs(cubic - parabola), width / 12**0.5)
    return Estimate(jnp.where(crosses, value, jnp.nan), jnp.where(crosses, grid, jnp.nan))


def _logistic_fit(
    u: Float[Array, " points"], p: Float[Array, " points"], threshold: Scalar, chance: Scalar, degree: int
):
    """Coefficients of eta - (eta at the threshold) in powers of u: maximum quasi-likelihood, by Newton's method."""
    powers = _powers(u, degree)
    above = (p - chance) / (1 - chance)
    offset = jax.scipy.special.logit((threshold - chance) / (1 - chance)).astype(p.dtype)
    start = jax.scipy.special.logit(jnp.clip(above, 5e-4, 1 - 5e-4))  # finite also where p is 0 or 1

    def step(eta, _):
        part = jax.nn.sigmoid(eta)
        mean, slope = chance + (1 - chance) * part, part * (1 - part)
        weight = slope**2 / (mean * (1 - mean))
        coefficients = _least_squares(powers, eta - offset + (above - part) / slope, weight)
        return powers @ coefficients + offset, coefficients

    _, iterates = jax.lax.scan(step, start, None, _STEPS)
    return iterates[-1]


def _linear_fit(
    u: Float[Array, " points"], curve: Float[Array, " points"], threshold: Scalar, chance: Scalar, degree: int
):
    return _least_squares(_powers(u, degree), curve - threshold, jnp.ones_like(u))


def _powers(u: Float[Array, " points"], degree: int) -> Float[Array, "points powers"]:
    return jnp.stack([u**k for k in range(degree + 1)], -1)


def _least_squares(powers: Float[Array, "points powers"], values, weight) -> Float[Array, " powers"]:
    """By elimination in the normal equations, which are positive definite; a fraction of LAPACK's time to compile."""
    weighted = powers * weight[:, None]
    size = powers.shape[1]
    rows = [jnp.append(powers[:, i] @ weighted, weighted[:, i] @ values) for i in range(size)]  # (size, size + 1)
    for i in range(size):
        rows[i] = rows[i] / rows[i][i]
        rows = [row if j == i else row - row[i] * rows[i] for j, row in enumerate(rows)]
    return jnp.stack([row[-1] for row in rows])


def _root(coefficients: Float[Array, " powers"]) -> Float[Array, ""]:
    """The root nearest to 0, by Newton's method."""
    slopes = coefficients[1:] * jnp.arange(1, len(coefficients), dtype=coefficients.dtype)

    def step(_, u):
        return u - jnp.polyval(coefficients[::-1], u) / jnp.polyval(slopes[::-1], u)

    return jax.lax.fori_loop(0, _STEPS, step, jnp.zeros((), coefficients.dtype))
