"""The stages of the experiment `windows`, and how they become one dataset.

train                           the network
exact-level-L, trained-level-L  U-turns at noise times around that of level L
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Key

from diffusion import AbstractDenoiser, ReverseSDE, VectorProcess
from hierarchical import TreeMixture, tree_mixture
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.windows.config import Config
from phasetree.recipes.training import named_key, network_on_mixture
from theory.exact import MixtureDenoiser
from theory.gaussian.windows import level_times

SHORTEST = 0.005  # where the mean of x_0 is taken


def plan(config: Config) -> list[Stage]:
    """Train, then noise and denoise around the predicted time of every level."""
    levels, units = range(1, len(config.level_offsets) + 1), len(config.offsets)
    exact = [Stage(f"exact-level-{n}", measured, units=units, options={"level": n}) for n in levels]
    if config.no_train:
        return exact
    after = [
        Stage(f"trained-level-{n}", measured, ("train",), units, options={"level": n, "network": "train"})
        for n in levels
    ]
    return [*exact, Stage("train", trained, units=2 * units), *after]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      `kept`, whether a trajectory is below the same node, 1 or 0, for every `denoiser` (exact, trained), `window` (the
      level around whose time t lies), `offset`, `level` and trajectory; the noise time `t` of window and offset; the
      training loss.
    """
    levels = list(range(1, len(config.level_offsets) + 1))
    kinds = ["exact"] if config.no_train else ["exact", "trained"]
    kept = [xr.concat([results[f"{kind}-level-{level}"].kept for level in levels], "window") for kind in kinds]
    times = np.array([noise_times(config, jax.random.key(config.seed), level) for level in levels])
    dataset = xr.Dataset(
        {"kept": xr.concat(kept, xr.Variable("denoiser", kinds)), "t": (("window", "offset"), times)}
    ).assign_coords(window=levels, level=levels, offset=list(config.offsets))
    if not config.no_train:
        dataset["loss"] = results["train"].loss
    dataset.t.attrs = {"long_name": "noise time", "units": "1", "process": "Ornstein-Uhlenbeck"}
    return dataset


def tree_of_clusters(config: Config, key: Key[Array, ""]) -> TreeMixture:
    """The tree's directions are drawn."""
    tree_key = named_key(key, "tree", config.dimension)
    tree = tree_mixture(tree_key, config.dimension, config.level_offsets, variance=config.std**2)
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def noise_times(config: Config, key: Key[Array, ""], level: int) -> list[float]:
    """Around the predicted time of a level."""
    predicted = level_times(tree_of_clusters(config, key))[level - 1].time
    return [predicted + offset for offset in config.offsets]


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The network."""
    return network_on_mixture(key, inputs, tree_of_clusters(config, key).mixture, config.train, width=config.width)


def measured(
    config: Config, key: Key[Array, ""], inputs: Inputs, *, level: int, network: str | None = None
) -> xr.Dataset:
    """Which levels are kept, at noise times around that of `level`, by the exact denoiser or that of `network`."""
    tree, kind = tree_of_clusters(config, key), "trained" if network else "exact"
    exact = MixtureDenoiser(mixture=tree.mixture, process=VectorProcess())
    denoiser = inputs[network].model if network else exact
    sampler, rows = ReverseSDE(config.sampler_steps, SHORTEST), []
    for number, t in enumerate(noise_times(config, key, level)):
        draw_key = named_key(key, f"{kind}-level-{level}", number)
        kept = _kept(draw_key, tree, denoiser, sampler, jnp.float32(t), config.num_trajectories)
        rows.append(np.asarray(kept, np.int8))
        inputs.advance()
    return xr.Dataset({"kept": (("offset", "level", "trajectory"), np.stack(rows))})


@eqx.filter_jit
def _kept(
    key: Key[Array, ""],
    tree: TreeMixture,
    denoiser: AbstractDenoiser,
    sampler: ReverseSDE,
    t: Float[Array, ""],
    size: int,
) -> Bool[Array, "levels trajectories"]:
    """Whether a datum is below the same node of each level after a U-turn.

    The regenerated datum's cluster is drawn from its posterior: clusters overlap, and a datum alone does not say.
    """
    data_key, noise_key, reverse_key, cluster_key = jax.random.split(key, 4)
    data = tree.sample(data_key, (size,))
    x0, before = data.x, data.latent
    times = jnp.full(size, t)
    x_t = jax.vmap(denoiser.process.corrupt)(jax.random.split(noise_key, size), x0, times)
    posterior = jax.vmap(tree.mixture.component_posterior)(sampler(reverse_key, denoiser, x_t, times))
    after = jax.random.categorical(cluster_key, jnp.log(posterior))
    nodes = [jnp.asarray(tree.ancestors(level)) for level in range(1, len(tree.offsets) + 1)]
    return jnp.stack([node[before] == node[after] for node in nodes])
