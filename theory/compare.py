"""Prediction against measurement: the same locator on both curves, and their difference with its error."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffusion.measure import Estimate, bootstrap_crossings, locate_transition


class Comparison(eqx.Module):
    """A predicted and a measured number; `difference` is measured minus predicted."""

    predicted: Estimate
    measured: Estimate
    difference: Estimate


def compare_transitions(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    predicted: Float[Array, "data times"],
    measured: Float[Array, "rows times"],
    threshold: float,
    *,
    paired: bool = False,
) -> Comparison:
    """Locate the transition in predicted and in measured retention curves; arguments as in `locate_transition`.

    Args:
      paired: row i of both curves belongs to one datum and its noise. The bootstrap then draws the same rows of both,
        and what they have in common cancels in the error of the difference; else the errors add in squares.

    Raises:
      ValueError: if paired curves have different numbers of rows.
    """
    if paired and len(predicted) != len(measured):
        raise ValueError(f"paired curves have {len(predicted)} and {len(measured)} rows: row i must be one datum")
    predicted_key, measured_key, paired_key = jax.random.split(key, 3)
    located = locate_transition(predicted_key, noise_times, predicted, threshold)
    found = locate_transition(measured_key, noise_times, measured, threshold)
    if paired:
        both = jnp.stack([predicted, measured], -1)
        error = jnp.std(jnp.diff(bootstrap_crossings(paired_key, noise_times, both, threshold)))
    else:
        error = jnp.hypot(located.stderr, found.stderr)
    return Comparison(located, found, Estimate(found.value - located.value, error))
