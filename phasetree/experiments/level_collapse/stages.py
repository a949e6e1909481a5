"""The stages of the experiment `level-collapse`, and how they become one dataset.

data                     the training set
linear-TAU, dense-TAU    a network at each tau, and what it makes of its latents
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Key

from diffusion import (
    DenseVAE,
    Fresh,
    LinearVAE,
    TrainConfig,
    Whole,
    from_vae,
    full_batch,
)
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.level_collapse.config import Config
from phasetree.recipes.autoencoders import autoencoder_on, matched
from phasetree.recipes.training import named_key


def plan(config: Config) -> list[Stage]:
    """The data, then the networks."""
    stages = [Stage("data", drawn)]
    for kind, function in (("linear", linear), ("dense", dense)):
        if kind == "linear" or config.dense:
            stages += [Stage(f"{kind}-{tau:g}", function, ("data",), 10, {"tau": tau}) for tau in config.grid]
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `network` (linear, dense), `tau` and `latent`, latents by falling relevance: the `relevance`, the
      `divergence` (nats) and the `variance` of the mean, over data, with standard errors; the `free_energy` of a datum.
      For every `place` the eigenvalue of the covariance, largest first, of the `law` and of the `data`, and the `level`
      of the tree that it belongs to in the law.
    """
    kinds = ["linear", "dense"] if config.dense else ["linear"]
    parts = [
        xr.concat(
            [results[f"{kind}-{tau:g}"].drop_vars(["loss", "latent_order", "active"]) for tau in config.grid], "tau"
        ).expand_dims(network=[kind])
        for kind in kinds
    ]
    law = config.law
    dataset = xr.concat(parts, "network").assign_coords(tau=list(config.grid))
    dataset["law"] = ("place", np.asarray(law.spectrum, float))
    dataset["data"] = ("place", results["data"].eigenvalues.values)
    dataset["level"] = ("place", law.depth - law.heights)
    dataset.tau.attrs = {"long_name": "weight of the KL", "units": "variance of the data"}
    return dataset


def drawn(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """The training set, and the eigenvalues of its covariance."""
    x = np.asarray(config.law.sample(named_key(key, "data", 0), config.num_data).x, np.float64)
    if config.matched:
        x = matched(x, np.asarray(config.law.covariance, np.float64))
    x = x.astype(np.float32)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True, dtype=np.float64))[::-1]
    return xr.Dataset({"x": (("datum", "leaf"), x), "eigenvalues": ("place", values.copy())})


def linear(config: Config, key: Key[Array, ""], inputs: Inputs, *, tau: float) -> Training:
    """A linear network, by descent on the whole set."""
    x = inputs["data"].x.values
    network = LinearVAE.of_data(x, config.latents, rngs=nnx.Rngs(named_key(key, "linear", 0)))
    source = Whole(x)
    how = full_batch(source, config.steps)
    return autoencoder_on(named_key(key, "train", 0), inputs, from_vae(network, tau=tau), source, how, x)


def dense(config: Config, key: Key[Array, ""], inputs: Inputs, *, tau: float) -> Training:
    """A dense network, trained and measured on fresh data."""
    x = inputs["data"].x.values
    network = DenseVAE.of_data(x, config.latents, config.width, rngs=nnx.Rngs(named_key(key, "dense", 0)))
    fresh = np.asarray(config.law.sample(named_key(key, "fresh", 0), config.num_data).x)
    how = TrainConfig(steps=config.dense_steps, batch_size=256, weight_decay=0.0, ema_decay=0.998, steps_per_chunk=500)
    made, source = from_vae(network, tau=tau), Fresh(config.law)
    return autoencoder_on(named_key(key, "dense-train", 0), inputs, made, source, how, fresh)
