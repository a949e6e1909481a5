r"""Features beside true latents: which feature is which latent, and how well it says so.

A latent is on or off in each datum, a feature active or not. For a feature f and a latent l,

    F1 = 2 P(f and l) / (P(f) + P(l)),                                                                             (1)

1 if both are on in the same data; a feature that is always active has 2 P(l) / (1 + P(l)), what chance gives to a
latent. Features are assigned to latents one to one such that the sum of F1 is the largest (the Hungarian method), on
the first half of the data; (1) is then measured on the other half, so that the best of many features has no advantage
by chance. As a ratio of means its error is that of the rows F1 + (2 f l - F1 (f + l)) / (P(f) + P(l)) (the delta
method).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from hierarchical.arguments import Given, as_numbers

from ..estimate import Estimate, mean_estimate

Table = Float[np.ndarray, "features latents"]


class Matched(eqx.Module):
    """The feature of each latent, and how well it says whether the latent is on."""

    feature: Int[Array, " latents"]
    """-1 for a latent that gets none, where there are fewer features."""
    f1: Estimate
    """(latents,); 0 for a latent without a feature, and where both are always off."""
    mean_f1: Estimate
    """Over latents; its error over data, which all latents share."""


def best_match(features: Given, latents: Given) -> Matched:
    """The one-to-one assignment of features to latents of the largest F1, see the head; not inside `jax.jit`.

    Args:
      features: (n, features); active where above 0.
      latents: (n, latents), true or false, or 1 and 0.

    Raises:
      ValueError: if these are not two tables of the same n data, at least four, or a latent is neither 0 nor 1.
    """
    active, on = (np.asarray(as_numbers(table), np.float64) for table in (features, latents))
    if active.ndim != 2 or on.ndim != 2 or len(active) != len(on) or len(on) < 4 or 0 in (*active.shape, *on.shape):
        raise ValueError(f"features {active.shape}, latents {on.shape}: give (n, features) and (n, latents), n >= 4")
    if not np.isin(on, (0, 1)).all():
        raise ValueError("a latent is neither 0 nor 1: give whether each is on")
    active, half = (active > 0).astype(np.float64), len(on) // 2
    feature = _assigned(_f1(active[:half], on[:half]))
    rows = _rows(np.where(feature >= 0, active[half:][:, feature], 0.0), on[half:])
    return Matched(jnp.asarray(feature), mean_estimate(rows), mean_estimate(rows.mean(1)))


def matched_cosine(dictionary: Given, truth: Given) -> Float[Array, " latents"]:
    """The absolute cosine of each true direction and that assigned to it, one to one, of the largest sum.

    Args:
      dictionary: (features, d), a direction each; truth: (latents, d).

    0 for a true direction that gets none. Not inside `jax.jit`.

    Raises:
      ValueError: if they do not have the same d, or a direction is 0 or not finite.
    """
    found, true = (np.asarray(as_numbers(table), np.float64) for table in (dictionary, truth))
    if found.ndim != 2 or true.ndim != 2 or found.shape[1] != true.shape[1] or 0 in (*found.shape, *true.shape):
        raise ValueError(f"directions of shapes {found.shape} and {true.shape}: give (features, d) and (latents, d)")
    lengths = [np.linalg.norm(table, axis=1, keepdims=True) for table in (found, true)]
    if any(not ((length > 0) & np.isfinite(length)).all() for length in lengths):
        raise ValueError("a direction is 0 or not finite: leave it out")
    cosines = np.abs((found / lengths[0]) @ (true / lengths[1]).T)
    feature = _assigned(cosines)
    return jnp.asarray(np.where(feature >= 0, cosines[feature, np.arange(len(true))], 0.0))


def _assigned(gain: Table) -> Int[np.ndarray, " latents"]:
    """The row of each column in the assignment of the largest sum, -1 where there are not enough rows."""
    feature = np.full(gain.shape[1], -1)
    rows, columns = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    feature[columns] = rows
    return feature


def _f1(active: Float[np.ndarray, "n features"], on: Float[np.ndarray, "n latents"]) -> Table:
    total = active.sum(0)[:, None] + on.sum(0)[None]
    return np.divide(2 * active.T @ on, total, out=np.zeros_like(total), where=total > 0)


def _rows(active: Float[np.ndarray, "n latents"], on: Float[np.ndarray, "n latents"]) -> Float[np.ndarray, "n latents"]:
    """Rows whose mean is (1) of the features that were assigned."""
    total = active.mean(0) + on.mean(0)
    safe = np.where(total > 0, total, 1.0)  # where both are always off, all rows are 0
    f1 = 2 * (active * on).mean(0) / safe
    return f1 + (2 * active * on - f1 * (active + on)) / safe
