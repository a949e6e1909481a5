"""Generation: data from noise alone.

It begins at the denoiser's `max_time`: where its training began, or where its process leaves next to nothing of x_0.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from hierarchical.arguments import AnyKey, as_key
from hierarchical.law import Shape, check_shape

from ..denoise.denoiser import AbstractDenoiser
from ..noise.process import AbstractChannel
from .choose import default_sampler
from .samplers import AbstractSampler


def generate(
    key: AnyKey, denoiser: AbstractDenoiser, shape: Shape = (), *, sampler: AbstractSampler | None = None
) -> Shaped[Array, "..."]:
    """New data, (*shape, *denoiser.shape).

    Args:
      shape: how many, a number or an array of them; () is one datum.
      sampler: how to undo noise; default the most exact that the denoiser allows, see `default_sampler`.

    Raises:
      ValueError: if a length of `shape` is not positive, or the process is not a channel and leaves no noise to begin
        with.
    """
    shape = check_shape(shape)
    if not isinstance(denoiser.process, AbstractChannel):
        raise ValueError(f"{type(denoiser.process).__name__} is not a channel: there is no noise to begin with")
    made = _generated(as_key(key), denoiser, math.prod(shape), sampler or default_sampler(denoiser))
    return made.reshape(*shape, *denoiser.shape)


@eqx.filter_jit
def _generated(
    key: Key[Array, ""], denoiser: AbstractDenoiser, count: int, sampler: AbstractSampler
) -> Shaped[Array, "count *datum"]:
    prior_key, sampler_key = jax.random.split(key)
    time = jnp.asarray(denoiser.max_time, jnp.float32)
    x_t = denoiser.process.prior(prior_key, (count, *denoiser.shape), time)
    return sampler(sampler_key, denoiser, x_t, jnp.full(count, time))
