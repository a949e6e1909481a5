"""The stages of the experiment `collapse`, `dimension-D` for each dimension D, and how they become one dataset."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from diffusion import ReverseSDE, VectorProcess
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.collapse.config import Config
from phasetree.recipes.training import named_key
from theory.exact.empirical import EmpiricalDenoiser, seed_log_weights
from theory.gaussian.collapse import isotropic_collapse_time
from theory.gaussian.seed_weight import isotropic_seed_weight

SHORTEST = 0.002  # where the mean of x_0 is taken, OU units


def plan(config: Config) -> list[Stage]:
    """One stage for each dimension."""
    units = len(config.times)
    return [Stage(f"dimension-{d}", measured, units=units, options={"dimension": d}) for d in config.dimensions]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `dimension`, set and noise time `t` (in units of its `collapse_time`), means over the seeds of a set:
      the `weight` of the seed, its `entropy` -ln w / d, whether a U-turn has `returned` to the seed; the same by theory
      in `exact_weight` and `exact_entropy`.
    """
    parts = [results[f"dimension-{d}"] for d in config.dimensions]
    dataset = xr.concat(parts, xr.Variable("dimension", list(config.dimensions))).assign_coords(t=list(config.times))
    name = "noise time over the collapse time"
    dataset.t.attrs = {"long_name": name, "units": "1", "process": "Ornstein-Uhlenbeck"}
    return dataset


def measured(config: Config, key: Key[Array, ""], inputs: Inputs, *, dimension: int) -> xr.Dataset:
    """One dimension, at all times."""
    n, variance = config.points(dimension), config.std**2
    collapse_time = isotropic_collapse_time(n, dimension, variance)
    sampler = ReverseSDE(config.sampler_steps, SHORTEST)
    shape = (n, dimension, config.num_data, config.num_trajectories)
    found, exact = [], []
    for number, time in enumerate(config.times):
        t = time * collapse_time
        # the same sets at all times, with noise of its own
        sets = jax.random.split(named_key(key, "sets", dimension), config.num_sets)
        noise_key = named_key(key, f"noise-{dimension}", number)
        found.append([np.asarray(part) for part in _seeds(sets, noise_key, sampler, jnp.float32(t), config.std, shape)])
        exact.append(isotropic_seed_weight(n, dimension, t, variance))
        inputs.advance()
    names = ("weight", "entropy", "returned")
    parts = {name: (("t", "set"), np.stack([row[i] for row in found])) for i, name in enumerate(names)}
    theory = {f"exact_{name}": ("t", np.array([row[i] for row in exact])) for i, name in enumerate(names[:2])}
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
