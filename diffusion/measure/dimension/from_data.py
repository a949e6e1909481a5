r"""Dimension from data alone, nothing trained: the denoiser of the set itself, calibrated on data of known dimension.

The empirical denoiser of all data but x_i gives at x_i, at noise s, equation (1) of `pointwise`:

    F_i(s) = sum_j w_j |x_i - x_j|^2 / s^2,        w_j ~ exp(-|x_i - x_j|^2 / (2 s^2)),  j != i.                    (1)

A small s makes all of this, and so little bias by curvature and density; but s cannot be below the distance of the
nearest data. So s is chosen at each x_i such that the weights are of three data, 1 / sum_j w_j^2 = 3. Then F_i is not
k, but a function of k and of the number n of data, which is measured: on n standard normal data in R^k for a row of k.
The result is the k whose mean ln F is that of the data. This removes what few data do in high dimensions (the edges of
a set of 2500 data in 70 dimensions are near to all of them), for which the normal law stands in the middle between a
cube, which has more edge, and a sphere, which has none. Derived here.

The price is one of its kind: a curved set whose data are further apart than it is straight has too many dimensions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from scipy.spatial import KDTree

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from ..estimate import mean_estimate
from .pointwise import Dimension

REACH = 3.0  # effective number of data at the noise of each datum
NEAREST = 64  # data that are looked at around each, beyond which weights vanish
LEAST = 10  # different data
POINTS = 2500  # around which the data are looked at
GROWTH = 1.33  # from one dimension of the calibration to the next
Rows = Float[np.ndarray, "n d"]


def from_data(key: AnyKey, data: Given, *, num_points: Whole = POINTS, neighbours: Whole | None = None) -> Dimension:
    """The dimension of a data set, (n, ...) numbers, without a denoiser; not inside `jax.jit`.

    Args:
      key: draws the data of the calibration, and which data are looked at.
      num_points: around how many of the data; all others are their neighbours.
      neighbours: average over the datum and so many of its neighbours, which gives a value for each of the n data;
        None: over all, which gives one.

    Flags: "duplicates": some, or this, of the data are repeated, of which one was kept.

    Raises:
      ValueError: if there are fewer than ten different data, a number is not finite, or `neighbours` is not below n.
    """
    rows, place = _different(data)
    key = as_key(key)
    which_key, reference_key = jax.random.split(key)
    count = as_whole("num_points", num_points, 2)
    if neighbours is None:
        chosen = np.asarray(jax.random.permutation(which_key, len(rows)))[:count]
        found = mean_estimate(_log_moments(rows, rows[chosen])[0])
        means, errors, shape = np.atleast_1d(found.value), np.atleast_1d(found.stderr), ()
        repeated = np.array(len(rows) < len(place))
    else:
        means, errors = _local_means(rows, as_whole("neighbours", neighbours, 2))
        means, errors, shape = means[place], errors[place], place.shape
        repeated = np.bincount(place)[place] > 1
    value, error = _calibrated(reference_key, len(rows), count, means, errors)
    return Dimension(value.reshape(shape), error.reshape(shape), {"duplicates": jnp.asarray(repeated)})


def _different(data: Given) -> tuple[Rows, np.ndarray]:
    """The different rows, and the place of each datum among them."""
    given = np.asarray(data)
    if not any(jnp.issubdtype(given.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"data are of {given.dtype}: give real numbers")
    given = given.astype(float)
    rows = given.reshape(len(given), -1) if given.ndim else given
    if given.ndim < 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"data of shape {given.shape}: give (n, ...) finite numbers")
    unique, place = np.unique(rows, axis=0, return_inverse=True)
    if len(unique) < LEAST:
        raise ValueError(f"{len(given)} data, {len(unique)} of them different: give at least {LEAST} different ones")
    return unique, place.reshape(-1)


def _log_moments(
    rows: Rows, points: Float[np.ndarray, "points d"], nearest: int = NEAREST
) -> tuple[Float[np.ndarray, " points"], Int[np.ndarray, "points nearest"]]:
    """ln F, equation (1), around points that are among the rows, and the numbers of the rows nearest to each."""
    distances, numbers = KDTree(rows).query(points, min(nearest, len(rows) - 1) + 1, workers=-1)
    squares = (distances[:, 1:] / distances[:, 1:2]) ** 2  # the first is the point itself
    low, high = (np.full((len(points), 1), end) for end in (-12.0, 8.0))  # ln s^2, in units of the nearest distance
    for _ in range(40):
        middle = (low + high) / 2
        weights = _weights(squares, middle)
        few = weights.sum(1, keepdims=True) ** 2 < REACH * (weights**2).sum(1, keepdims=True)
        low, high = np.where(few, middle, low), np.where(few, high, middle)
    weights = _weights(squares, low)
    return np.log((weights * squares).sum(1) / weights.sum(1)) - low[:, 0], np.asarray(numbers)[:, 1:]


def _weights(
    squares: Float[np.ndarray, "points nearest"], log_square: Float[np.ndarray, "points 1"]
) -> Float[np.ndarray, "points nearest"]:
    return np.exp((1 - squares) / (2 * np.exp(log_square)))


def _local_means(rows: Rows, neighbours: int) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Means of ln F over each row and its nearest, with their errors as if these were independent."""
    if neighbours >= len(rows):
        raise ValueError(f"neighbours = {neighbours} of {len(rows)} different data: give fewer")
    moments, numbers = _log_moments(rows, rows, max(NEAREST, neighbours))
    groups = moments[np.concatenate([np.arange(len(rows))[:, None], numbers[:, :neighbours]], 1)]
    found = mean_estimate(groups.T)
    return np.asarray(found.value), np.asarray(found.stderr)


def _calibrated(
    key: Key[Array, ""], n: int, num_points: int, means: Float[np.ndarray, " m"], errors: Float[np.ndarray, " m"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The dimensions whose normal data have these means of ln F, with their errors, that of the calibration too."""
    draws = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    dimensions, known, spread = [0.0], [-np.inf], []
    while known[-1] < means.max() or len(known) < 4:
        k = 1 if len(known) == 1 else max(int(dimensions[-1]) + 1, round(dimensions[-1] * GROWTH))
        rows = draws.normal(size=(n, k))  # NumPy's: one of JAX would compile for every k
        found = mean_estimate(_log_moments(rows, rows[:num_points])[0])
        dimensions.append(float(k))
        known.append(float(found.value))
        spread.append(float(found.stderr))
    return _interpolated(np.array(dimensions[1:]), np.array(known[1:]), np.array(spread), means, errors)


def _interpolated(
    dimensions: np.ndarray, known: np.ndarray, spread: np.ndarray, means: np.ndarray, errors: np.ndarray
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """k and its error at means of ln F, from those known at some dimensions; below k = 1, F is taken as k times F_1."""
    log_k = np.interp(means, known, np.log(dimensions))
    value = np.where(means < known[0], np.exp(means - known[0]), np.exp(log_k))
    slope = np.interp(means, known, np.gradient(np.log(dimensions), known))
    error = value * slope * np.hypot(errors, np.interp(means, known, spread))
    return jnp.asarray(value), jnp.asarray(error)
