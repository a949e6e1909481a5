"""The stages of the experiment `collapse`, one for each dimension, and how they become one dataset."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from diffusion import ReverseSDE, VectorProcess
from phasetree.experiments.collapse.config import CollapseConfig
from phasetree.recipes.training import named_key
from phasetree.results import ResultFolder
from theory.exact.empirical import EmpiricalDenoiser, seed_log_weights
from theory.gaussian.collapse import isotropic_collapse_time
from theory.gaussian.seed_weight import isotropic_seed_weight


def run(config: CollapseConfig, folder: ResultFolder) -> xr.Dataset:
    """Draw sets, noise their points, weigh and undo at every noise time. Resumes from what `folder` holds.

    Returns:
      For every `dimension`, set and `time` (in units of its `collapse_time`), means over the seeds of a set: the
      `weight` of the seed, its `entropy` -ln w / d, whether a U-turn has `returned` to the seed; the same by theory in
      `exact_weight` and `exact_entropy`.
    """
    parts = []
    with tqdm(desc="seeds and U-turns", total=len(config.dimensions) * len(config.times), unit="time") as bar:
        for number, d in enumerate(config.dimensions):
            parts.append(folder.stage(f"dimension-{d}", lambda d=d: _measured(config, d, bar.update)))
            bar.update((number + 1) * len(config.times) - bar.n)
    dataset = xr.concat(parts, xr.Variable("dimension", list(config.dimensions)))
    dataset = dataset.assign_coords(time=list(config.times))
    dataset.time.attrs = {"long_name": "noise time over the collapse time", "units": "1"}
    return dataset.assign_attrs(
        config=folder.config,
        seed=config.seed,
        std=config.std,
        alpha=config.alpha,
        seeds=config.seeds,
        turns=config.turns,
    )


def _measured(config: CollapseConfig, dimension: int, tell: Callable) -> xr.Dataset:
    """One dimension, at all times; `tell` is called after each."""
    n, variance = config.points(dimension), config.std**2
    collapse_time = isotropic_collapse_time(n, dimension, variance)
    sampler, shape = ReverseSDE(config.sampler_steps), (n, dimension, config.seeds, config.turns)
    found, exact = [], []
    for number, time in enumerate(config.times):
        t = time * collapse_time
        # the same sets at all times, with noise of its own
        sets = jax.random.split(named_key(config.seed, "sets", dimension), config.sets)
        noise_key = named_key(config.seed, f"noise-{dimension}", number)
        found.append([np.asarray(part) for part in _seeds(sets, noise_key, sampler, jnp.float32(t), config.std, shape)])
        exact.append(isotropic_seed_weight(n, dimension, t, variance))
        tell()
    names = ("weight", "entropy", "returned")
    parts = {name: (("time", "set"), np.stack([row[i] for row in found])) for i, name in enumerate(names)}
    theory = {f"exact_{name}": ("time", np.array([row[i] for row in exact])) for i, name in enumerate(names[:2])}
    return xr.Dataset({**parts, **theory, "collapse_time": collapse_time, "points": n})


@eqx.filter_jit
def _seeds(
    keys: Key[Array, " sets"],
    noise_key: Key[Array, ""],
    sampler: ReverseSDE,
    t: Float[Array, ""],
    std: float,
    shape: tuple[int, int, int, int],
) -> tuple[Float[Array, " sets"], Float[Array, " sets"], Float[Array, " sets"]]:
    """Weight and entropy of the seeds of every set, and how many U-turns return to theirs; one set after the other."""
    n, d, seeds, turns = shape

    def one(inputs):
        data_key, noise_key = inputs
        denoiser = EmpiricalDenoiser(
            data=std * jax.random.normal(data_key, (n, d), jnp.float32), process=VectorProcess()
        )
        corrupt_key, reverse_key = jax.random.split(noise_key)
        x0, times = denoiser.data[:seeds], jnp.full(seeds, t)
        x_t = jax.vmap(denoiser.process.corrupt)(jax.random.split(corrupt_key, seeds), x0, times)
        logs = seed_log_weights(denoiser, x_t, times, jnp.arange(seeds))
        back = sampler(reverse_key, denoiser, x_t[:turns], times[:turns])
        # the nearest point of the set; |x|^2 is common to all
        nearest = jnp.argmin(jnp.sum(denoiser.data**2, 1)[None] - 2 * back @ denoiser.data.T, 1)
        returned = jnp.mean((nearest == jnp.arange(turns)).astype(jnp.float32))
        return jnp.mean(jnp.exp(logs)), -jnp.mean(logs) / d, returned

    return jax.lax.map(one, (keys, jax.random.split(noise_key, len(keys))))
