"""A user's own experiment that trains two small networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx

from diffusion import Fresh, TrainConfig, VectorMLP, VectorProcess, from_flax, train
from hierarchical import GaussianMixture
from phasetree.drawing.style import new_figure
from phasetree.experiment import Finding, Findings, Report, Stage, Training

GENERATION = 1
SUMMARY = "the last loss of two small networks"


@dataclasses.dataclass(frozen=True)
class Config:
    """Train two networks."""

    preset: str = "default"
    seed: int = 0
    train: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(20, 8, final_rate=1.0, warmup_steps=2, steps_per_chunk=10)
    )

    @property
    def label(self):
        return self.preset


PRESETS = {"default": Config()}


def trained(config, key, inputs, *, number):
    mixture = GaussianMixture(jnp.ones(2), jnp.array([[1.0, 0.0], [-1.0, 0.0]]), jnp.array(0.1))
    denoiser = from_flax(VectorMLP(2, 8, rngs=nnx.Rngs(number)), VectorProcess(), (2,))
    result = train(
        jax.random.fold_in(key, number),
        denoiser,
        Fresh(mixture),
        config.train,
        folder=inputs.folder,
        report=inputs.training(config.train),
    )
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses))}))


def plan(config):
    return [Stage(f"train-{number}", trained, options={"number": number}) for number in (0, 1)]


def collect(config, results):
    return xr.concat([results["train-0"], results["train-1"]], "network")


def analyse(dataset):
    return Findings(Finding.exact(f"loss/{n}", float(dataset.loss[n, -1]), "measured", "squared error") for n in (0, 1))


def draw(dataset, findings):
    return new_figure()[0]


def tell(dataset, findings):
    return Report("Two networks.", (), f"Losses {findings['loss/0'].value:.3f}, {findings['loss/1'].value:.3f}.")
