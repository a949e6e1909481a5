"""The stages of the experiment `windows`, each kept in the folder when done, and how they become one dataset."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Key
from tqdm import tqdm

from diffusion import AbstractDenoiser, ReverseSDE, VectorProcess
from hierarchical import TreeMixture, tree_mixture
from phasetree.experiments.windows.config import WindowsConfig
from phasetree.recipes.training import named_key, trained_on_mixture
from phasetree.results import ResultFolder
from theory.exact import MixtureDenoiser
from theory.gaussian.windows import level_times

SHORTEST = 0.005  # where the mean of x_0 is taken


def run(config: WindowsConfig, folder: ResultFolder) -> xr.Dataset:
    """Train, noise and denoise around the predicted time of every level. Resumes from what `folder` holds.

    Returns:
      `kept`, whether a trajectory is below the same node, 1 or 0, for every `denoiser` (exact, trained), `window` (the
      level around whose time t lies), `offset`, `level` and trajectory; the `time` of window and offset; losses.
    """
    tree = tree_of_clusters(config)
    times = np.array([[level.time + offset for offset in config.offsets] for level in level_times(tree)])
    denoisers: dict[str, AbstractDenoiser] = {"exact": MixtureDenoiser(mixture=tree.mixture, process=VectorProcess())}
    losses = None
    if config.trained:
        denoisers["trained"], losses = trained_on_mixture(
            config.seed, folder, tree.mixture, config.train, width=config.width
        )
    parts = {}
    with tqdm(desc="U-turns", total=times.size * len(denoisers), unit="time") as bar:
        for number, (kind, denoiser) in enumerate(denoisers.items()):
            rows = []
            for window, row in enumerate(times):
                stage = f"{kind}-level-{window + 1}"
                rows.append(
                    folder.stage(stage, lambda d=denoiser, r=row, s=stage: _measured(config, tree, d, r, s, bar.update))
                )
                bar.update(number * times.size + (window + 1) * len(row) - bar.n)
            parts[kind] = xr.concat(rows, "window").kept
    levels = np.arange(1, len(config.level_offsets) + 1)
    dataset = xr.Dataset(
        {
            "kept": xr.concat(list(parts.values()), xr.Variable("denoiser", list(parts))),
            "time": (("window", "offset"), times),
        }
    ).assign_coords(window=levels, level=levels, offset=list(config.offsets))
    if losses is not None:
        dataset["loss"] = ("step", losses, {"units": "squared error of a number of variance 1"})
    dataset.time.attrs = {"long_name": "Ornstein-Uhlenbeck time", "units": "1"}
    return dataset.assign_attrs(
        config=folder.config, seed=config.seed, std=config.std, level_offsets=list(config.level_offsets)
    )


def tree_of_clusters(config: WindowsConfig) -> TreeMixture:
    """The tree's directions come from the seed."""
    key = named_key(config.seed, "tree", config.dimension)
    tree = tree_mixture(key, config.dimension, config.level_offsets, variance=config.std**2)
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def _measured(
    config: WindowsConfig, tree: TreeMixture, denoiser: AbstractDenoiser, times: np.ndarray, name: str, tell: Callable
) -> xr.Dataset:
    """Which levels are kept, for every noise time around that of one level; `tell` is called after each."""
    sampler, found = ReverseSDE(config.sampler_steps, SHORTEST), []
    for number, t in enumerate(times):
        key = named_key(config.seed, name, number)
        found.append(np.asarray(_kept(key, tree, denoiser, sampler, jnp.float32(t), config.trajectories), np.int8))
        tell()
    return xr.Dataset({"kept": (("offset", "level", "trajectory"), np.stack(found))})


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
