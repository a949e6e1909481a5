"""A user's own experiment, written beside the library: how many of n coins show heads, as a plan of two stages."""

import dataclasses

import jax
import numpy as np
import xarray as xr

from diffusion.measure import Estimate
from phasetree.drawing.style import new_figure
from phasetree.experiment import Finding, Findings, Report, Stage, Table

GENERATION = 1
SUMMARY = "how many coins show heads"
CALLS = []  # names of the stages that were computed, for the tests


@dataclasses.dataclass(frozen=True)
class Config:
    """Throw coins."""

    preset: str = "default"
    seed: int = 0
    num_data: int = 100

    def __post_init__(self):
        if self.num_data < 2:
            raise ValueError(f"num_data = {self.num_data}: must be at least 2")

    @property
    def label(self):
        return self.preset


PRESETS = {"default": Config(), "many": Config("many", num_data=1000)}


def thrown(config, key, inputs, *, side):
    CALLS.append(f"side-{side}")
    inputs.advance(1)
    heads = jax.random.bernoulli(jax.random.fold_in(key, side), 0.5, (config.num_data,))
    return xr.Dataset({"heads": ("datum", np.asarray(heads, np.float32))})


def inside():
    """What tests let happen in the last stage."""


def added(config, key, inputs):
    CALLS.append("sum")
    inside()
    return inputs["side-0"] + inputs["side-1"]


def plan(config):
    sides = [Stage(f"side-{side}", thrown, options={"side": side}) for side in (0, 1)]
    return [*sides, Stage("sum", added, inputs=("side-0", "side-1"))]


def collect(config, results):
    return results["sum"]


def analyse(dataset):
    heads = dataset.heads.values.astype(float)
    mean, error = heads.mean(), heads.std(ddof=1) / len(heads) ** 0.5
    return Findings(
        [
            Finding("heads", Estimate(jax.numpy.asarray(mean), jax.numpy.asarray(error)), "measured", "coins"),
            Finding.exact("expected", 1.0, "predicted", "coins"),
        ]
    )


def draw(dataset, findings):
    figure, (axis,) = new_figure()
    axis.hist(dataset.heads, label=f"{findings['heads'].value:.2f}")
    return figure


def tell(dataset, findings):
    table = Table(("heads", "expected"), ((findings["heads"], findings["expected"]),))
    return Report("Two coins a throw:", (table,), f"Heads: {findings['heads'].value:.3f} of 2.")
