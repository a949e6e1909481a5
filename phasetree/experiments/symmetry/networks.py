"""Stages that train: denoisers, and linear and dense autoencoders."""

import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from diffusion import DenseVAE, Finite, LinearVAE, TrainConfig, Whole, from_vae, full_batch
from phasetree.experiment import Inputs, Training
from phasetree.experiments.symmetry.config import Config
from phasetree.experiments.symmetry.sets import CASES, OWN, Rows, covariance, rows_of, spectrum_of, switching
from phasetree.recipes.autoencoders import autoencoder_on, matched
from phasetree.recipes.training import named_key
from phasetree.recipes.vectors import network_on_vectors

MANY = 40_000  # data of dense networks and denoisers
NUM_LINEAR = 1024  # data of linear networks, which know them by their covariance alone
NUM_SHOWN = 400  # data of a latent map
LAYERS = 3  # hidden, in encoder and decoder


def scored(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> Training:
    """A denoiser of a set."""
    x = rows_of(config, key, name, 0.0, MANY)
    how = TrainConfig(steps=config.score_steps, batch_size=256, ema_decay=0.998)
    return network_on_vectors(key, inputs, name, Finite(x), x, how, width=config.width)


def dense(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, trial: int) -> Training:
    """A dense network at knob 0 and a small tau, with the means of some data."""
    x = rows_of(config, key, name, 0.0, MANY)
    network = _dense(config, x, named_key(key, f"dense-{name}", trial), config.num_latents)
    made = from_vae(network, tau=config.tau)
    how = _how(config.dense_steps)
    trained = autoencoder_on(named_key(key, f"train-{name}", trial), inputs, made, Finite(x), how, x[: config.num_data])
    order = trained.record.latent_order.values.astype(int)
    means = np.asarray(trained.model.encode(x[:NUM_SHOWN]).mean)[:, order]
    angle = np.arctan2(x[:NUM_SHOWN, 1], x[:NUM_SHOWN, 0])
    return trained._replace(record=trained.record.assign(means=(("datum", "latent"), means), angle=("datum", angle)))


def linear(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, tau: float) -> Training:
    """A linear network at knob 0."""
    return _linear(config, key, inputs, _matched(config, key, name, 0.0), tau)


def broken(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, factor: float) -> Training:
    """A linear network at `factor` times the knob at which theory says that a latent switches."""
    knob = factor * _critical(name)
    trained = _linear(config, key, inputs, _matched(config, key, name, knob), CASES[name].tau)
    return trained._replace(record=trained.record.assign(knob=knob))


def switched(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, factor: float, seed: int) -> Training:
    """A dense network at such a knob."""
    knob = factor * _critical(name)
    x = rows_of(config, key, name, knob, MANY)
    made = from_vae(_dense(config, x, named_key(key, f"switch-{name}", seed)), tau=CASES[name].tau)
    how = _how(config.switch_steps)
    purpose = named_key(key, f"switch-train-{name}", seed)
    return autoencoder_on(purpose, inputs, made, Finite(x), how, x[: config.num_data])


def _critical(name: str) -> float:
    """The knob at which a latent switches, of a set that has one."""
    switch = switching(name, CASES[name].tau)
    assert switch is not None  # of sets with factors
    return switch.knob


def _matched(config: Config, key: Key[Array, ""], name: str, knob: float) -> Rows:
    """Data moved linearly to the covariance of the law, so that their own scatter does not count; one's own as is."""
    x = rows_of(config, key, name, knob, NUM_LINEAR)
    return x if name == OWN else matched(x, covariance(name, knob)).astype(np.float32)


def _linear(config: Config, key: Key[Array, ""], inputs: Inputs, x: Rows, tau: float) -> Training:
    network = LinearVAE.of_data(x, x.shape[1], rngs=nnx.Rngs(named_key(key, "linear", 0)))
    source = Whole(x)
    made = from_vae(network, tau=tau)
    trained = autoencoder_on(
        named_key(key, "linear-train", 0), inputs, made, source, full_batch(source, config.steps), x
    )
    return trained._replace(record=trained.record.assign(eigenvalue=("latent", spectrum_of(x, ddof=0))))


def _dense(config: Config, x: Rows, key: Key[Array, ""], num_latents: int | None = None) -> DenseVAE:
    return DenseVAE.of_data(x, num_latents or x.shape[1], config.width, LAYERS, rngs=nnx.Rngs(key))


def _how(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=256, learning_rate=1e-3, weight_decay=0.0, ema_decay=0.998, steps_per_chunk=500
    )
