"""Features of the time for networks of arrays: waves of lambda = ln(alpha / sigma), and a small network of them."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..noise.gaussian import log_ratio

FREQUENCIES = 16


class TimeFeatures(nnx.Module):
    """Sines and cosines of lambda with periods from 25 down to .8, and two dense layers."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.rise = nnx.Linear(2 * FREQUENCIES, features, rngs=rngs)
        self.fall = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, t: Float[Array, " batch"]) -> Float[Array, "batch features"]:
        frequencies = jnp.asarray(2.0 ** (jnp.arange(FREQUENCIES) / 3 - 2), t.dtype)
        angles = log_ratio(t)[:, None] * frequencies[None]
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        return self.fall(jax.nn.silu(self.rise(waves.astype(self.rise.kernel.dtype))))
