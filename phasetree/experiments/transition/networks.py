"""The trained denoiser of a grammar, looked at on the way: losses beside exact ones, validity and retention by step."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from diffusion import AbstractNetworkDenoiser, TrainConfig
from diffusion.measure import mean_estimate
from hierarchical import RandomHierarchyModel, sample_trees
from phasetree.experiment import Inputs, Training
from phasetree.experiments.transition.config import Config
from phasetree.experiments.transition.sweeps import believed, regenerated
from phasetree.recipes.training import named_key, network_on_grammar

LOOK = 2048  # strings of a look on the way
LOOKS = 6  # each at half the steps of the next, the last at the end


def trained(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> Training:
    """A tree U-Net trained on fresh strings of grammar `number`.

    Its record: `training_loss` by step, the Bayes losses, `excess_loss` with its error (nats per site), and at a few
    steps `look_valid`, the share of valid strings, and `look_shift`, class retention minus the posterior's, where the
    class is lost (t in the middle of the close grid).
    """
    rhm = config.grammar(named_key(key, "grammar", number))
    t = jnp.asarray(float(np.median(inputs["close-grid"].t_close.values)))
    steps = look_steps(config.train)

    def look(step: int, denoiser: AbstractNetworkDenoiser) -> None:
        if step in steps:
            inputs.keep(f"look-{step}", lambda: _look(named_key(key, "look", number), config, rhm, denoiser, t))

    sizes = {"width": config.width, "seed": config.seed}
    result = network_on_grammar(key, inputs, number, rhm, config.noise, config.train, **sizes, observe=look)
    looks = [inputs.keep(f"look-{step}", _not_seen) for step in steps]  # a training that another run began
    return Training(result.model, result.record.merge(xr.concat(looks, xr.Variable("look", steps))))


def look_steps(config: TrainConfig) -> list[int]:
    """Steps at which training is looked at: ends of chunks, about halves of one another."""
    wanted = [config.steps / 2**k for k in reversed(range(LOOKS))]
    chunks = [config.steps_per_chunk * max(1, round(step / config.steps_per_chunk)) for step in wanted]
    return sorted({min(step, config.steps) for step in chunks} | {config.steps})


def _not_seen() -> xr.Dataset:
    return xr.Dataset({name + part: np.nan for name in ("look_valid", "look_shift") for part in ("", "_stderr")})


def _look(key, config: Config, rhm: RandomHierarchyModel, denoiser: AbstractNetworkDenoiser, t) -> xr.Dataset:
    data_key, noise_key = jax.random.split(key)
    data, rows = sample_trees(data_key, rhm, LOOK), slice(None)
    kept, valid = regenerated(rhm, denoiser, data.leaves)(noise_key, t, rows)
    (belief,) = believed(rhm, config.noise, data)(jax.random.clone(noise_key), t, rows)
    share = mean_estimate(jnp.asarray(np.asarray(valid), float))
    shift = mean_estimate(jnp.asarray(np.asarray(kept[:, 0]) - np.asarray(belief[:, 0]), float))
    return xr.Dataset(
        {
            "look_valid": float(share.value),
            "look_valid_stderr": float(share.stderr),
            "look_shift": float(shift.value),
            "look_shift_stderr": float(shift.stderr),
        }
    )
