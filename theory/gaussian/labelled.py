r"""The speciation time of labelled data: what two classes of a data set predict, without a mixture being fitted.

Of n_a, n_b data with class means +-m around their middle and covariances Sigma_a, Sigma_b, with M the measured half
difference of the means and C = (Sigma_a / n_a + Sigma_b / n_b) / 4 the covariance of its error,

    E |M|^2 = |m|^2 + tr C,             E M^T S M = m^T Sigma m + tr(Sigma C),    Sigma = (Sigma_a + Sigma_b) / 2,   (1)

S the measured Sigma (the second for Gaussian classes, whose means and covariances are independent). Subtracting
unbiased estimates of the traces leaves |m|^2 and the variance along the line of the means, s^2 = m^T Sigma m / |m|^2,
without the bias that many dimensions and few data give to both. Of two classes alike the trace is

    tr Sigma_a^2 = (n - 1)^2 / ((n - 2) (n + 1)) (tr S_a^2 - (tr S_a)^2 / (n - 1))                                 (2)

on average (Bai & Saranadasa 1996). The times follow from |m|^2 and s^2 (`speciation_time`) and from the largest
eigenvalue of the covariance of all data (`covariance_speciation_time`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num
from scipy import linalg

from diffusion.measure import Estimate

from ..domain import count
from .speciation import covariance_speciation_time, speciation_time

Rows = Float[np.ndarray, "_rows d"]


class LabelledSpeciation(NamedTuple):
    """What two labelled classes say of the time at which they are decided."""

    signal_time: Estimate
    """S = 1, OU units; NaN where the classes overlap from the start, or their means are not resolved."""
    covariance_time: Estimate
    """1/2 ln of the largest variance, OU units; NaN where it is below 1."""
    squared_norm: Estimate
    """|m|^2; negative where the means are not resolved."""
    variance_along: Estimate
    """s^2 along m; NaN where the means are not resolved."""
    largest_variance: Estimate
    """Largest eigenvalue lambda of the covariance of all data. Its bias is not corrected: it is too high by a factor of
    about 1 + (d / n) v / (lambda - v) where the other directions have variance v."""


def labelled_speciation(
    key: Key[Array, ""],
    x: Num[np.ndarray, "n *shape"] | Num[Array, "n *shape"],
    labels: Int[np.ndarray, " n"] | Int[Array, " n"],
    *,
    num_resamples: int = 100,
) -> LabelledSpeciation:
    """The speciation times of data of two classes, with bootstrap errors over the data of each class.

    Args:
      x: the data, in units in which the noise has variance 1 per number: images standardised as a whole, for example.
      labels: 0 or 1.

    Returns:
      Times and what they follow from. The errors hold for data drawn independently; that of |m|^2 is up to 3^(1/2)
      times too large where the means are not resolved (|m|^2 below its error).
    Raises:
      ValueError: unless all numbers are finite, all labels 0 or 1, at least 3 data of each, and num_resamples >= 2.
    """
    num_resamples = count("num_resamples", num_resamples, 2)
    classes = _classes(np.asarray(x), np.asarray(labels))
    picks = [
        np.asarray(jax.random.randint(child, (num_resamples, len(rows)), 0, len(rows)))
        for child, rows in zip(jax.random.split(key), classes, strict=True)
    ]
    resampled = [_statistics(classes[0][first], classes[1][second]) for first, second in zip(*picks, strict=True)]
    squared_norm, along, largest = _statistics(*classes)
    errors = np.std(resampled, 0, ddof=1)
    excess = np.std([row[0] - row[1] for row in resampled], ddof=1)  # of |m|^2 + 1 - s^2 = e^2t
    signal_time = speciation_time(squared_norm, along).time if along >= 0 else np.nan
    covariance_time = covariance_speciation_time(0, largest).time
    return LabelledSpeciation(
        _estimate(signal_time, excess / (2 * np.exp(2 * signal_time))),
        _estimate(covariance_time, errors[2] / (2 * largest)),
        _estimate(squared_norm, errors[0]),
        _estimate(along, errors[1]),
        _estimate(largest, errors[2]),
    )


def _classes(x: np.ndarray, labels: np.ndarray) -> tuple[Rows, Rows]:
    if labels.ndim != 1 or x.ndim < 2 or len(x) != len(labels):
        raise ValueError(f"x has shape {x.shape}, labels {labels.shape}: give a datum and a label in each row")
    if not np.isfinite(x).all():
        raise ValueError("x holds NaN or infinite numbers: remove these data")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels = {np.unique(labels)}: give 0 or 1, choose two classes")
    sizes = int((labels == 0).sum()), int((labels == 1).sum())
    if min(sizes) < 3:
        raise ValueError(f"{sizes[0]} data of label 0 and {sizes[1]} of label 1: at least 3 of each are needed")
    rows = x.reshape(len(x), -1).astype(float)
    return rows[labels == 0], rows[labels == 1]


def _statistics(first: Rows, second: Rows) -> tuple[float, float, float]:
    """|m|^2, s^2 along m (NaN where the data do not resolve it), and the largest variance of all data."""
    squared_norm, along = _moments(first, second)
    everything = np.concatenate([first, second])
    everything = (everything - everything.mean(0)) / np.sqrt(len(everything) - 1)
    resolved = squared_norm > 0 and along >= 0
    return squared_norm, along / squared_norm if resolved else np.nan, _largest_eigenvalue(everything)


def _moments(first: Rows, second: Rows) -> tuple[float, float]:
    """Unbiased |m|^2 and m^T Sigma m, equation (1)."""
    half = (second.mean(0) - first.mean(0)) / 2
    centred = [(rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (first, second)]
    sizes = np.array([len(first), len(second)])
    traces = np.array([np.sum(rows**2) for rows in centred])
    products = np.array([[_trace_of_product(a, b) for b in centred] for a in centred])
    own = (sizes - 1) ** 2 / ((sizes - 2) * (sizes + 1)) * (np.diag(products) - traces**2 / (sizes - 1))  # (2)
    np.fill_diagonal(products, own)
    along = sum(float(np.sum((rows @ half) ** 2)) for rows in centred) / 2 - np.sum(products / sizes) / 8
    return float(half @ half - np.sum(traces / sizes) / 4), float(along)


def _trace_of_product(a: Rows, b: Rows) -> float:
    """tr(a^T a b^T b), by the smaller of the two matrices that give it."""
    wide = a.shape[1] > max(len(a), len(b))
    return float(np.sum((a @ b.T) ** 2) if wide else np.sum((a.T @ a) * (b.T @ b)))


def _largest_eigenvalue(rows: Rows) -> float:
    matrix = rows @ rows.T if rows.shape[1] > len(rows) else rows.T @ rows
    last = len(matrix) - 1
    return float(linalg.eigvalsh(matrix, subset_by_index=(last, last))[0])


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(jnp.asarray(value), jnp.asarray(error))
