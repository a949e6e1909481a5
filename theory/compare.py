"""Prediction against measurement: the same locator on both curves, and their difference with its error."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffusion.measure import Estimate, locate_transition


class Comparison(eqx.Module):
    """A predicted and a measured number; `difference` is measured minus predicted, errors added in squares."""

    predicted: Estimate
    measured: Estimate

    @property
    def difference(self) -> Estimate:
        return Estimate(
            self.measured.value - self.predicted.value, jnp.hypot(self.measured.stderr, self.predicted.stderr)
        )


def compare_transitions(
    key: Key[Array, ""],
    noise_times: Float[Array, " times"],
    predicted: Float[Array, "data times"],
    measured: Float[Array, "rows times"],
    threshold: float,
) -> Comparison:
    """Locate the transition in predicted and in measured retention curves; arguments as in `locate_transition`."""
    predicted_key, measured_key = jax.random.split(key)
    return Comparison(
        locate_transition(predicted_key, noise_times, predicted, threshold),
        locate_transition(measured_key, noise_times, measured, threshold),
    )
