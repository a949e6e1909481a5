"""Retention of every level of strings that are noised and denoised, measured and predicted, on a grid of noise times.

Whatever the denoiser, string i at time j has the same noise: differences between denoisers are paired.
"""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffusion import AbstractDenoiser, forward_backward
from diffusion.measure import is_valid, level_retention
from diffusion.noise.process import AbstractTokenProcess
from hierarchical import Derivation, RandomHierarchyModel
from theory import marginals

Keys = Callable[[int], Key[Array, ""]]


def pieces(num_data: int, rhm: RandomHierarchyModel) -> Iterator[slice]:
    """Rows that fit into about 200 MB of messages at a time."""
    size = max(1, 2**23 // (rhm.num_leaves * rhm.num_symbols))
    for start in range(0, num_data, size):
        yield slice(start, min(start + size, num_data))


def sweep(
    rhm: RandomHierarchyModel, num_data: int, times: Float[np.ndarray, " times"], keys: Keys, of: Callable, advance
) -> list[np.ndarray]:
    """`of(key, t, rows)` for all times and pieces of the data; its arrays as (data, times, ..)."""
    parts = list(pieces(num_data, rhm))
    columns = []
    for i, t in enumerate(times):
        found = [of(keys(i * len(parts) + j), jnp.asarray(t), rows) for j, rows in enumerate(parts)]
        columns.append([np.concatenate([np.asarray(x) for x in part]) for part in zip(*found, strict=True)])
        advance()
    return [np.stack(column, 1) for column in zip(*columns, strict=True)]


def regenerated(
    rhm: RandomHierarchyModel, denoiser: AbstractDenoiser, x0: Int[Array, "data leaves"]
) -> Callable[..., tuple[Array, Array]]:
    """Retention of every level, and whether the regenerated string is valid: a function for `sweep`."""
    return lambda key, t, rows: _regenerated(key, rhm, denoiser, x0[rows], t)


def believed(rhm: RandomHierarchyModel, process: AbstractTokenProcess, data: Derivation) -> Callable[..., tuple[Array]]:
    """The exact posterior's belief in the true symbol, mean over the nodes of a level: a function for `sweep`.

    Expected retention, without sampling the regenerated string.
    """
    return lambda key, t, rows: (_believed(key, rhm, process, jax.tree.map(lambda x: x[rows], data), t),)


@eqx.filter_jit
def _regenerated(key, rhm: RandomHierarchyModel, denoiser: AbstractDenoiser, x0, t) -> tuple[Array, Array]:
    times = jnp.full(len(x0), t, jnp.float32)
    x = forward_backward(key, denoiser, x0, times)[0]
    return level_retention(rhm, x0, x), is_valid(rhm, x)


@eqx.filter_jit
def _believed(key, rhm: RandomHierarchyModel, process: AbstractTokenProcess, data: Derivation, t) -> Array:
    tables = marginals(rhm, jax.vmap(process.log_likelihood, (0, None))(noised(key, process, data, t), t))
    truths = [
        jnp.take_along_axis(table, level[..., None], -1) for table, level in zip(tables, data.levels, strict=True)
    ]
    return jnp.stack([belief.mean((1, 2)) for belief in truths], -1)


def noised(key: Key[Array, ""], process: AbstractTokenProcess, data: Derivation, t) -> Array:
    """The noise of `forward_backward` with this key."""
    noise_key, _ = jax.random.split(key)
    return jax.vmap(process.corrupt, (0, 0, None))(jax.random.split(noise_key, len(data.leaves)), data.leaves, t)
