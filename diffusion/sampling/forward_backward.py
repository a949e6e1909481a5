"""The forward-backward experiment: noise a datum up to time t, undo the noise, look at what has changed.

The same function serves exact, empirical and learned denoisers. Every trajectory noises and denoises on its own, so a
set of trajectories from one x_0 samples the regenerated data at fixed x_0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from ..denoise.denoiser import AbstractDenoiser
from ..noise.process import AbstractProcess, Time
from .samplers import AbstractSampler, default_sampler


def forward_backward(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    process: AbstractProcess,
    x0: Shaped[Array, "*datum"],
    t: Time,
    *,
    num_trajectories: int = 1,
    sampler: AbstractSampler | None = None,
) -> Shaped[Array, "trajectories *datum"]:
    """Regenerate one datum `num_trajectories` times from noise time `t`.

    Args:
      t: noise time, in the unit of `process`; positive.
      sampler: how to undo noise; default the most exact one the denoiser allows, see `default_sampler`.

    Raises:
      ValueError: if the denoiser was made for another process.
    """
    repeated = jnp.broadcast_to(x0, (num_trajectories, *x0.shape))
    return batched_forward_backward(key, denoiser, process, repeated, jnp.full(num_trajectories, t), sampler=sampler)


@eqx.filter_jit
def batched_forward_backward(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    process: AbstractProcess,
    x0: Shaped[Array, "batch *datum"],
    t: Float[Array, " batch"],
    *,
    sampler: AbstractSampler | None = None,
) -> Shaped[Array, "batch *datum"]:
    """Regenerate every row of `x0` once, each from its own time. Arguments and errors as in `forward_backward`."""
    if denoiser.process != process:
        raise ValueError(f"the denoiser was made for {denoiser.process}, not for {process}: noise with the former")
    noise_key, denoise_key = jax.random.split(key)
    x_t = jax.vmap(process.corrupt)(jax.random.split(noise_key, len(x0)), x0, t)
    return (sampler or default_sampler(denoiser))(denoise_key, denoiser, x_t, t)
