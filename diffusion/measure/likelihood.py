r"""The likelihood of arrays under a denoiser: the change of variables along its probability flow.

    ln p_t(x_t) = ln p_T(x_T) - int_{l_T}^{l_t} a (tr dD/dx - a d) dl,      p_T = N(0, 1),                        (1)

with l = ln(alpha / sigma), a the alpha of the variance-preserving path and D the mean of x_0, is equation (2) of
`sampling/flow.py`.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from diffusion.denoise.denoiser import AbstractDenoiser, BatchCorrupted, Times
from diffusion.noise.process import beside
from diffusion.sampling.flow import flown, path_scale
from hierarchical.arguments import AnyKey, Given, as_key


def log_density(
    denoiser: AbstractDenoiser,
    x_t: Given,
    t: Given,
    *,
    key: AnyKey | None = None,
    num_probes: int = 0,
    max_time: float = 8.0,
    tolerance: float = 1e-5,
) -> Float[Array, "*batch"]:
    """ln p_t(x_t) of arrays under the flow of a denoiser, nats, equation (1).

    Args:
      x_t: (..., *denoiser.shape).
      t: OU units, positive, `max_time` at most, one for all or one for each datum. For a model's likelihood of data,
        the data themselves at a t below their resolution: p_t is the data's law blurred by sigma(t), and a law on a
        finite set has no other density.
      key: draws the probes; needed where there are any.
      num_probes: random signs for the trace, drawn per row and kept at all steps; 0: the exact trace, d times the work.
      max_time: where x is taken as N(0, 1), OU units: e^-max_time times the size of the data is forgotten.
      tolerance: of each step of the solver, as of `AdaptiveFlow`, with the logarithm as one more number beside those of
        x. The result's error is not bounded: 1e-5 left 5e-5 nats at most for d = 2 and .001 for d = 32, over 64 data of
        the clusters described there, at t = .01.

    Raises:
      ValueError: if the denoiser is one of strings or has no derivative (one of `from_host`), probes have no key,
        `num_probes` is negative, tolerance or max_time is not positive and finite, there is no datum, or a known time
        is out of range (inside `jax.jit` its density is NaN).
      RuntimeError: if the solver does not reach the end.

    Source: Chen et al., arXiv:1806.07366; Song et al., arXiv:2011.13456.
    """
    if num_probes < 0:
        raise ValueError(f"num_probes = {num_probes}: give 0 for the exact trace, or a positive number and a key")
    if num_probes and key is None:
        raise ValueError(f"num_probes = {num_probes} are drawn with a key: give one")
    if not (0 < tolerance < math.inf and 0 < max_time < math.inf):
        raise ValueError(f"tolerance = {tolerance}, max_time = {max_time}: both must be positive, finite")
    rows, times, batch = denoiser.rows(x_t, t)
    if not isinstance(times, Tracer):
        host = np.asarray(times)
        outside = host[(host <= 0) | (host > max_time)]
        if outside.size:
            raise ValueError(f"t = {outside[0]} is not in (0, max_time = {max_time}]: change either")
    probe_key = None if key is None else as_key(key)
    return _log_density(denoiser, rows, times, probe_key, num_probes, max_time, tolerance).reshape(batch)


@eqx.filter_jit
def _log_density(
    denoiser: AbstractDenoiser,
    x_t: BatchCorrupted,
    t: Times,
    key: Key[Array, ""] | None,
    num_probes: int,
    max_time: float,
    tolerance: float,
) -> Times:
    t = jnp.where((t > 0) & (t <= max_time), t, jnp.nan)
    count, size = len(x_t), math.prod(x_t.shape[1:])
    scale = path_scale(denoiser, t)
    # probes are rows beside the data; without probes each row makes the unit vectors of the exact trace
    probes = (
        jax.random.rademacher(key, (count, num_probes, size), x_t.dtype) if num_probes and key is not None else None
    )
    start = x_t / beside(scale, x_t), jnp.zeros(count, x_t.dtype)
    end, gathered = flown(denoiser, start, t, jnp.full_like(t, max_time), tolerance, probes, traced=True)
    log_normal = -jnp.sum(end.reshape(count, -1) ** 2, 1) / 2 - size / 2 * jnp.log(2 * jnp.pi).astype(x_t.dtype)
    return log_normal + gathered - size * jnp.log(scale).astype(x_t.dtype)
