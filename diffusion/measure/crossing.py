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
from jaxtyping import Array, Float, Key

from .estimate import Estimate, independent_rows, resampled_means, spread_of_resamples

_POINTS, _DEGREE = 6, 3
_STEPS = 8  # of Newton's method, for the fit and for its root

Rows = Float[Array, "*groups rows times"]
Scalar = Float[Array, ""]


def halfway(num_symbols: int) -> float:
    """The retention half-way between 1 and chance, 1 / num_symbols."""
    return (1 + 1 / num_symbols) / 2


def locate_transition(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    retention: Rows,
    threshold: float = 0.5,
    *,
    chance: float = 0.0,
    num_points: int = _POINTS,
    num_resamples: int = 400,
) -> Estimate:
    """The noise time at which the mean retention, a probability, falls through `threshold`, with its standard error.

    Args:
      noise_times: increasing, in the unit of the process.
      retention: one row per independent datum or grammar, or (grammars, data, times). A single row is a deterministic
        curve, which has only the error of the grid.
      threshold: in (chance, 1).
      chance: where the curve ends (1/v for a symbol, 1/2 for one of two clusters), c of equation (1).
      num_points: how many noise times around the crossing are fitted; give more on a fine grid.

    Returns:
      Times in the unit of `noise_times`; NaN where the curve does not fall through the threshold inside the grid; a
      NaN error where some of the resampled curves do not.

    Raises:
      ValueError: if the threshold is no probability above chance, or there are fewer than 2 noise times.
    """
    at = _probabilities(threshold, chance, retention.dtype)
    return _located(key, noise_times, _by_row(retention)[:, None], *at, num_resamples, num_points, _logistic_fit)


def locate_crossing(
    key: Key[Array, ""],
    times: Float[Array, " times"],
    curve: Rows,
    threshold: float = 0.0,
    *,
    num_resamples: int = 400,
) -> Estimate:
    """Where the mean of any falling curve falls through `threshold`; otherwise as `locate_transition`."""
    return _located(
        key,
        times,
        _by_row(curve)[:, None],
        jnp.asarray(threshold, curve.dtype),
        jnp.zeros((), curve.dtype),
        num_resamples,
        _POINTS,
        _linear_fit,
    )


def locate_difference(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    first: Rows,
    second: Float[Array, "*groups_of_second rows_of_second times"],
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
    at = _probabilities(threshold, chance, first.dtype)
    if first.shape != second.shape:
        raise ValueError(f"paired curves have shapes {first.shape} and {second.shape}: row i must be one datum")
    pairs = jnp.stack([_by_row(first), _by_row(second)], 1)
    return _located(key, noise_times, pairs, *at, num_resamples, num_points, _logistic_fit)


def _probabilities(threshold: float, chance: float, dtype) -> tuple[Array, Array]:
    if not 0 <= chance < threshold < 1:
        raise ValueError(
            f"threshold = {threshold}, chance = {chance}: a retention falls from 1 to chance >= 0, and "
            "the threshold lies between; for other curves use locate_crossing"
        )
    return jnp.asarray(threshold, dtype), jnp.asarray(chance, dtype)


def _by_row(curves: Rows) -> Float[Array, "independent times"]:
    if curves.ndim > 3:
        raise ValueError(f"curves must be (rows, times) or (groups, rows, times), got shape {curves.shape}")
    return independent_rows(curves) if curves.ndim == 3 else curves


@functools.partial(jax.jit, static_argnames=("num_resamples", "num_points", "fit"))
def _located(
    key, noise_times, curves: Float[Array, "rows curves times"], threshold, chance, num_resamples, num_points, fit
):
    """The crossing of a single curve, or that of the second of two curves minus that of the first."""
    times = jnp.asarray(noise_times, curves.dtype)
    if len(times) < 2:
        raise ValueError("a crossing needs at least 2 noise times, got 1: give more")

    def crossings(mean):
        located = jax.vmap(lambda curve: _crossing(times, curve, threshold, chance, num_points, fit))(mean)
        return located.value[-1] - (located.value[0] if len(mean) > 1 else 0), jnp.linalg.norm(located.stderr)

    means = jnp.mean(curves, 0, keepdims=True)
    if len(curves) > 1:
        means = jnp.concatenate([means, resampled_means(key, curves, num_resamples)])
    value, grid = jax.vmap(crossings)(means)  # one program for the curve and its resamples
    spread = spread_of_resamples(value[1:], len(curves)) if len(curves) > 1 else jnp.zeros_like(value[0])
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
