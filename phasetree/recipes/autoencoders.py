"""Autoencoders of experiments: trained in a stage, and what they make of their latents."""

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from diffusion import AbstractSource, Autoencoder, TrainConfig, train_autoencoder
from diffusion.measure import mean_estimate, relevance
from phasetree.experiment import Inputs, Training

ACTIVE = 0.01  # variance of its mean from which a latent is counted, as in `relevance.active_units`


def autoencoder_on(
    key: Key[Array, ""],
    inputs: Inputs,
    autoencoder: Autoencoder,
    source: AbstractSource,
    config: TrainConfig,
    x: Float[np.ndarray, "n d"],
) -> Training:
    """An autoencoder after training; its record is `latents_of` the data `x`, and the `loss` of every step."""
    train_key, draw_key = jax.random.split(key)
    report = inputs.training(config)
    found = train_autoencoder(train_key, autoencoder, source, config, folder=inputs.folder, report=report)
    record = latents_of(draw_key, found.autoencoder, x)
    return Training(found.autoencoder, record.assign(loss=("step", np.asarray(found.losses))))


def latents_of(key: Key[Array, ""], autoencoder: Autoencoder, x: Float[np.ndarray, "n d"]) -> xr.Dataset:
    """Latents in the order of their relevance, and the free energy.

    Returns:
      `relevance`, `divergence` (nats) and `variance` of the mean of each `latent` with standard errors, `latent_order`,
      the number `active`, and the `free_energy` of a datum.
    """
    of = {"relevance": relevance.snr, "divergence": relevance.kl, "variance": relevance.mean_variance}
    found = {name: measure(autoencoder, x) for name, measure in of.items()}
    order = np.argsort(-np.asarray(found["relevance"].value))
    columns = {name: np.asarray(estimate.value, float)[order] for name, estimate in found.items()}
    columns |= {f"{name}_stderr": np.asarray(estimate.stderr, float)[order] for name, estimate in found.items()}
    total = mean_estimate(np.asarray(autoencoder.free_energy(key, x).total, np.float64))
    scalars = {
        "free_energy": float(total.value),
        "free_energy_stderr": float(total.stderr),
        "active": float(np.sum(columns["variance"] > ACTIVE)),
    }
    return xr.Dataset(
        {**{name: ("latent", column) for name, column in columns.items()}, "latent_order": ("latent", order), **scalars}
    )


def matched(x: Float[np.ndarray, "n d"], covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "n d"]:
    """Data with mean 0 and exactly this covariance, as near to the given ones as a linear map leaves them.

    Raises:
      ValueError: if the data lie on fewer dimensions than the covariance has.
    """
    x = x - x.mean(0)
    values, axes = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float32).eps * values.max()
    along = x @ axes[:, kept]
    own, turn = np.linalg.eigh(along.T @ along / len(x))
    if not own.min() > 1e-6 * own.max():
        raise ValueError(f"num_data = {len(x)}: too few to match {int(kept.sum())} eigenvalues, give more")
    return along @ (turn / np.sqrt(own)) @ turn.T @ (np.sqrt(values[kept])[:, None] * axes[:, kept].T)
