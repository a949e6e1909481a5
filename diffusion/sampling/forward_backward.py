"""The forward-backward experiment: noise data up to time t, undo the noise, look at what has changed.

The same function serves exact, empirical and learned denoisers. Every trajectory noises and denoises on its own, so a
set of trajectories from one x_0 samples the regenerated data at fixed x_0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from hierarchical.arguments import AnyKey, Given, as_key

from ..denoise.denoiser import AbstractDenoiser
from ..noise.process import batch_axes, over_batch
from .choose import default_sampler
from .samplers import AbstractSampler, check_positive


def forward_backward(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    x0: Given,
    t: Given,
    *,
    num_trajectories: int = 1,
    sampler: AbstractSampler | None = None,
) -> Shaped[Array, "trajectories ..."]:
    """Regenerate each datum `num_trajectories` times from noise time `t`.

    Args:
      x0: clean data, (..., *denoiser.shape).
      t: noise time in the unit of the denoiser's process, one for all or an array whose axes are the first of x0's.
      sampler: how to undo noise; default the most exact that the denoiser allows, see `default_sampler`.

    Returns:
      Regenerated data, (num_trajectories, *x0.shape); symbols -1 or NaN where a datum could not be regenerated.

    Raises:
      ValueError: if a shape does not fit the denoiser, or a known symbol or time is out of range.
    """
    check_positive("num_trajectories", num_trajectories)
    clean = denoiser.process.clean(x0)
    batch = batch_axes(clean, denoiser.shape, "x0")
    times = over_batch(denoiser.process.time(t, clean), batch)
    repeated = jnp.broadcast_to(clean, (num_trajectories, *clean.shape)).reshape(-1, *denoiser.shape)
    repeated_times = jnp.broadcast_to(times, (num_trajectories, *batch)).reshape(-1)
    again = _regenerated(as_key(key), denoiser, repeated, repeated_times, sampler or default_sampler(denoiser))
    return again.reshape(num_trajectories, *clean.shape)


@eqx.filter_jit
def _regenerated(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    x0: Shaped[Array, "rows *datum"],
    t: Float[Array, " rows"],
    sampler: AbstractSampler,
) -> Shaped[Array, "rows *datum"]:
    noise_key, denoise_key = jax.random.split(key)
    x_t = jax.vmap(denoiser.process.draw_noised)(jax.random.split(noise_key, len(x0)), x0, t)
    return sampler(denoise_key, denoiser, x_t, t)
