r"""The transition locator: at which noise does a retention curve cross half-way? One function for every curve.

Half-way is the mean of perfect retention and chance, (1 + 1/v) / 2 for v equally likely symbols. The mean curve is
smoothed by a cubic through the 7 points around each noise level (Savitzky & Golay, Anal. Chem. 36, 1627, 1964: it cuts
the variance to a third and leaves every cubic as it is), and crossed by linear interpolation. The error comes from a
bootstrap over the rows: independent data or grammars. The noise levels of one row stay together, which keeps their
correlations.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .estimate import Estimate, resampled_means

_POINTS, _DEGREE = 7, 3


def halfway(num_symbols: int) -> float:
    """The retention half-way between 1 and chance, 1 / num_symbols."""
    return (1 + 1 / num_symbols) / 2


def locate_transition(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    retention: Float[Array, "rows times"],
    threshold: float,
    *,
    num_resamples: int = 400,
) -> Estimate:
    """The noise time at which the mean retention first falls through `threshold`, with its bootstrap standard error.

    Args:
      noise_times: increasing, evenly spaced, in the unit of the process.
      retention: one row per independent datum or grammar. A single row (a deterministic curve) has error 0.

    Returns:
      Times in the unit of `noise_times`; NaN where the curve does not cross inside the grid.
    """
    rows, num_times = retention.shape
    times = jnp.asarray(noise_times, retention.dtype)
    value = _crossing(times, retention.mean(0) @ jnp.asarray(_smoothing(num_times), retention.dtype).T, threshold)
    if rows == 1:
        return Estimate(value, jnp.zeros_like(value))
    crossings = bootstrap_crossings(key, times, retention[..., None], threshold, num_resamples=num_resamples)
    return Estimate(value, jnp.std(crossings))


def bootstrap_crossings(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    retention: Float[Array, "rows times curves"],
    threshold: float,
    *,
    num_resamples: int = 400,
) -> Float[Array, "num_resamples curves"]:
    """Where several curves of the same rows fall through `threshold`, each time on the same rows drawn with repetition.

    The spread of a column is the standard error of its transition, the spread of a difference of columns that of
    curves measured on the same data.
    """
    times = jnp.asarray(noise_times, retention.dtype)
    means = resampled_means(key, retention, num_resamples)
    smoothed = jnp.einsum("ntc->nct", means) @ jnp.asarray(_smoothing(retention.shape[1]), retention.dtype).T
    return jax.vmap(jax.vmap(_crossing, (None, 0, None)), (None, 0, None))(times, smoothed, threshold)


def _smoothing(num_times: int) -> np.ndarray:
    """The matrix that replaces each point by the least-squares cubic through the 7 nearest, at that point."""
    matrix = np.eye(num_times)
    if num_times < _POINTS:
        return matrix
    for i in range(num_times):
        start = min(max(i - _POINTS // 2, 0), num_times - _POINTS)
        powers = np.vander(np.arange(start, start + _POINTS) - i, _DEGREE + 1, increasing=True)
        matrix[i] = 0
        matrix[i, start : start + _POINTS] = np.linalg.pinv(powers)[0]  # the fitted polynomial's value at point i
    return matrix


def _crossing(times: Float[Array, " times"], curve: Float[Array, " times"], threshold: float) -> Float[Array, ""]:
    """Linear interpolation at the first pair of points above and below."""
    falls = (curve[:-1] >= threshold) & (curve[1:] < threshold)
    i = jnp.argmax(falls)
    drop = jnp.where(falls.any(), curve[i] - curve[i + 1], 1)
    crossing = times[i] + (times[i + 1] - times[i]) * (curve[i] - threshold) / drop
    return jnp.where(falls.any(), crossing, jnp.nan)
