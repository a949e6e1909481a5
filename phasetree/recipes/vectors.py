"""A network trained on any set of vectors for the local field that its dimension is read off."""

import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key

from diffusion import (
    AbstractSource,
    LogSNRSchedule,
    Preconditioned,
    TrainConfig,
    VarianceExploding,
    VectorProcess,
    WhitenedMLP,
    from_flax,
    train,
)
from diffusion.noise.gaussian import time_of_noise
from phasetree.experiment import Inputs, Training
from phasetree.recipes.training import named_key

NOISES = 0.05, 5.0  # trained between these, in units of the standard deviation of a number


def network_on_vectors(
    key: Key[Array, ""],
    inputs: Inputs,
    name: str,
    source: AbstractSource,
    rows: Float[np.ndarray, "n d"],
    config: TrainConfig,
    *,
    width: int,
) -> Training:
    """A `WhitenedMLP` on the variance-exploding path; its record is the `loss` of every step.

    Args:
      key: of the run; weights and draws follow from it and `name`.
      rows: data of which the network takes mean, axes and variances.
    """
    rngs = nnx.Rngs(named_key(key, f"network-{name}", 0))
    std = float(np.var(rows, 0, dtype=np.float64).mean() ** 0.5)
    network = WhitenedMLP.of_data(rows, width, least_std=0.1 * NOISES[0] * std, rngs=rngs)
    process, shape = VectorProcess(VarianceExploding()), (rows.shape[1],)
    denoiser = from_flax(network, process, shape, parametrisation=Preconditioned(network.data_std))
    times = (time_of_noise(share * network.data_std) for share in NOISES)
    result = train(
        named_key(key, f"train-{name}", 0),
        denoiser,
        source,
        config,
        schedule=LogSNRSchedule(*times),
        folder=inputs.folder,
        report=inputs.training(config, "loss {:.3f}"),
    )
    attributes = {"long_name": "training loss", "units": "squared error of a number of variance 1"}
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses), attributes)}))
