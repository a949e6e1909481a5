"""Prediction against measurement: the same locator on both curves, and their difference with its error."""

import equinox as eqx
import jax
import jax.numpy as jnp

from diffusion.measure import Estimate, locate_difference, locate_transition
from hierarchical.arguments import AnyKey, Given, as_key


class Comparison(eqx.Module):
    """A predicted and a measured number; `difference` is measured minus predicted."""

    predicted: Estimate
    measured: Estimate
    difference: Estimate


def compare_transitions(
    key: AnyKey,
    noise_times: Given,
    predicted: Given,
    measured: Given,
    threshold: float = 0.5,
    *,
    chance: float = 0.0,
    paired: bool = False,
) -> Comparison:
    """Locate the transition in predicted and in measured retention curves; arguments as in `locate_transition`.

    Args:
      paired: row i of both curves belongs to one datum and its noise. The bootstrap then draws the same rows of both,
        and what they have in common cancels in the error of the difference; else the errors add in squares.

    Raises:
      ValueError: if paired curves have different numbers of rows; and as in `locate_transition`.
    """
    predicted_key, measured_key, paired_key = jax.random.split(as_key(key), 3)
    theory = locate_transition(predicted_key, noise_times, predicted, threshold, chance=chance)
    located = locate_transition(measured_key, noise_times, measured, threshold, chance=chance)
    if paired:
        difference = locate_difference(paired_key, noise_times, predicted, measured, threshold, chance=chance)
    else:
        difference = Estimate(located.value - theory.value, jnp.hypot(theory.stderr, located.stderr))
    return Comparison(theory, located, difference)
