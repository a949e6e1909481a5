"""The stages of the experiment `level-collapse`, and how they become one dataset.

data                     the training set
linear-TAU, dense-TAU    a network at each tau, and what it makes of its latents
"""

from collections.abc import Mapping

import jax
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key

from diffusion import (
    Autoencoder,
    DenseVAE,
    Fresh,
    LinearVAE,
    TrainConfig,
    Whole,
    from_vae,
    full_batch,
    train_autoencoder,
)
from diffusion.measure import mean_estimate, relevance
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.level_collapse.config import Config
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
        xr.concat([results[f"{kind}-{tau:g}"].drop_vars("loss") for tau in config.grid], "tau").expand_dims(
            network=[kind]
        )
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


def linear(config: Config, key: Key[Array, ""], inputs: Inputs, *, tau: float) -> Training:
    """A linear network, by descent on the whole set."""
    x = inputs["data"].x.values
    network = LinearVAE.of_data(x, config.latents, rngs=nnx.Rngs(named_key(key, "linear", 0)))
    source = Whole(x)
    how = full_batch(source, config.steps)
    return _trained(named_key(key, "train", 0), inputs, from_vae(network, tau=tau), source, how, x)


def dense(config: Config, key: Key[Array, ""], inputs: Inputs, *, tau: float) -> Training:
    """A dense network, trained and measured on fresh data."""
    x = inputs["data"].x.values
    network = DenseVAE.of_data(x, config.latents, config.width, rngs=nnx.Rngs(named_key(key, "dense", 0)))
    fresh = np.asarray(config.law.sample(named_key(key, "fresh", 0), config.num_data).x)
    how = TrainConfig(steps=config.dense_steps, batch_size=256, weight_decay=0.0, ema_decay=0.998, steps_per_chunk=500)
    return _trained(named_key(key, "dense-train", 0), inputs, from_vae(network, tau=tau), Fresh(config.law), how, fresh)


def _trained(
    key: Key[Array, ""],
    inputs: Inputs,
    autoencoder: Autoencoder,
    source: Whole | Fresh,
    how: TrainConfig,
    x: Float[np.ndarray, "n d"],
) -> Training:
    """The network after training, with what it makes of the data `x`."""
    train_key, draw_key = jax.random.split(key)
    report = inputs.training(how)
    found = train_autoencoder(train_key, autoencoder, source, how, folder=inputs.folder, report=report)
    record = measured(draw_key, found.autoencoder, x)
    return Training(found.autoencoder, record.assign(loss=("step", np.asarray(found.losses))))


def measured(key: Key[Array, ""], autoencoder: Autoencoder, x: Float[np.ndarray, "n d"]) -> xr.Dataset:
    """Latents in the order of their relevance, and the free energy."""
    of = {"relevance": relevance.snr, "divergence": relevance.kl, "variance": relevance.mean_variance}
    found = {name: measure(autoencoder, x) for name, measure in of.items()}
    order = np.argsort(-np.asarray(found["relevance"].value))
    columns = {name: np.asarray(estimate.value, float)[order] for name, estimate in found.items()}
    columns |= {f"{name}_stderr": np.asarray(estimate.stderr, float)[order] for name, estimate in found.items()}
    total = mean_estimate(np.asarray(autoencoder.free_energy(key, x).total, np.float64))
    scalars = {"free_energy": float(total.value), "free_energy_stderr": float(total.stderr)}
    return xr.Dataset({**{name: ("latent", column) for name, column in columns.items()}, **scalars})
