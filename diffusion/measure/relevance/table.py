"""All measures of relevance of the same data, side by side."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from hierarchical.arguments import AnyKey, Given, as_key

from ...latent.autoencoder import Autoencoder
from ..estimate import Estimate, mean_estimate
from .ablation import ablation
from .latents import count_active, encoded, signal_to_noise, squares


class Relevance(eqx.Module):
    """Measures of each latent, (k,), in the order of the latents, and the number of active ones."""

    snr: Estimate
    kl: Estimate
    """Nats."""
    mean_variance: Estimate
    ablation: Estimate
    """In the unit of x^2."""
    active_units: Estimate
    order: Int[Array, " k"]
    """Latents by falling signal to noise; those without any, NaN, come last."""


def table(key: AnyKey, autoencoder: Autoencoder, x: Given, threshold: Given = 0.01) -> Relevance:
    """Every measure of relevance of data (..., d).

    Args:
      key, threshold: as of `active_units`.

    Raises:
      ValueError: if the last axis of x is not d, there is no datum, or `threshold` is not one number of 0 or above.
    """
    latent = encoded(autoencoder, x)
    ratio = signal_to_noise(latent)
    return Relevance(
        snr=ratio,
        kl=mean_estimate(latent.kl),
        mean_variance=mean_estimate(squares(latent)),
        ablation=ablation(autoencoder, x),
        active_units=count_active(as_key(key), latent, threshold),
        order=jnp.argsort(-ratio.value),
    )
