"""The stages of the experiment `representations`, and how they become one dataset.

train-KIND-N     the network of a kind (tree, transformer, causal) on grammar N, with its loss beside the exact one
read-KIND-N      what its states hold, and those of the same network with its initial weights
steer-KIND-N     what it concludes, and the same with its initial weights, if a hidden symbol is forced
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from diffusion import NetworkDenoiser
from hierarchical import sample_trees
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.representations.beliefs import beliefs
from phasetree.experiments.representations.config import KINDS, Config
from phasetree.experiments.representations.networks import random_network, trained
from phasetree.experiments.representations.readings import read_features, read_layers, read_neighbours
from phasetree.experiments.representations.steering import steer
from phasetree.recipes.training import named_key


def plan(config: Config) -> list[Stage]:
    """Every network, trained, read and steered."""
    stages, units = [], 2 * len(config.times)
    for number in range(config.num_grammars):
        for kind in KINDS:
            options, name = {"kind": kind, "number": number}, f"train-{kind}-{number}"
            stages.append(Stage(name, trained, (), 4, options))
            stages.append(Stage(f"read-{kind}-{number}", read, (name,), units, options))
            stages.append(Stage(f"steer-{kind}-{number}", steer, (name,), config.depth, options))
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `network`, `grammar`, `weights` (trained, random), `layer`, `level` and `t`: held-out R^2 of probes of
      the `true` symbols and their `accuracy`, R^2 of the exact `posterior`, CKA with the messages (`upward`, `cavity`);
      `window_distance` for each `window`; of a layer its `rank`, `participation`, `enrichment` and coding `rate`; at
      one time neighbours in common with the exact posterior (`neighbours`), and `f1` of sparse features in the last
      layer; `loss`, `bayes` and `excess`, nats per masked site. For every level above the leaves (`inner`), `forced`
      symbol and `strength` what `steering.py` calls `followed`; the mean probability of true symbols at `rest` and
      `moved`, and by exact inference, `exact_rest` and `exact_moved`. A layer that a network does not have, or in which
      no symbol of a level is forced, is NaN.
    """
    kinds: list[xr.Dataset] = []
    for kind in KINDS:
        numbers = range(config.num_grammars)
        readings = xr.concat([results[f"read-{kind}-{n}"] for n in numbers], "grammar")
        steered = xr.concat([results[f"steer-{kind}-{n}"] for n in numbers], "grammar")
        losses = xr.concat([results[f"train-{kind}-{n}"] for n in numbers], "grammar")
        kinds.append(readings.merge(steered, join="outer").merge(losses))
    dataset = xr.concat(kinds, xr.Variable("network", list(KINDS)), join="outer")
    dataset.t.attrs = {"long_name": "masked fraction", "units": "1", "process": "masking"}
    return dataset


def read(config: Config, key: Key[Array, ""], inputs: Inputs, *, kind: str, number: int) -> xr.Dataset:
    """The readings of a trained network and of its control, on the same strings and noise."""
    networks = {
        "trained": inputs[f"train-{kind}-{number}"].model,
        "random": random_network(config, key, kind, number),
    }
    parts: list[xr.Dataset] = [_of_network(config, key, inputs, network, kind, number) for network in networks.values()]
    return xr.concat(parts, xr.Variable("weights", list(networks)))


def _of_network(
    config: Config, key: Key[Array, ""], inputs: Inputs, denoiser: NetworkDenoiser, kind: str, number: int
) -> xr.Dataset:
    rhm = config.grammar(named_key(key, "grammar", number))
    truth = sample_trees(named_key(key, "data", number), rhm, config.num_data).levels
    x0, features, near = truth[-1], None, None
    parts: list[xr.Dataset] = []
    for place, t in enumerate(config.times):
        keys = jax.random.split(named_key(key, f"noise-{place}", number), len(x0))
        x_t = jax.vmap(config.noise.corrupt, (0, 0, None))(keys, x0, jnp.float32(t))
        known = beliefs(rhm, config.noise, x_t, jnp.float32(t), kind == "causal")
        states = eqx.filter_jit(denoiser.states)(x_t, jnp.float32(t))
        masked = (x_t == config.num_symbols).astype(jnp.float32)
        parts.append(read_layers(states, truth, known, masked))
        if t == config.middle:
            near = np.stack([read_neighbours(state, known) for state in states.values()])
            last = next(reversed(states.values()))
            sizes = config.num_symbols, config.num_features, config.num_active, config.feature_steps
            features = read_features(named_key(key, "features", number), last, truth, *sizes)
        inputs.advance(1, f"{kind}, t = {t:g}")
    over_times = xr.concat(parts, xr.Variable("t", np.array(config.times)))
    return over_times.assign(f1=("level", features), neighbours=(("layer", "level"), near))
