"""A dense network for vectors: residual blocks whose inputs are scaled and shifted by features of the time.

For data without an order of their numbers, Gaussian mixtures above all. The last layer starts at 0, so an untrained
network returns what its parametrisation gives for f = 0: with `Preconditioned`, the best estimate of independent
numbers.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .time_features import TimeFeatures

Rows = Float[Array, "batch _width"]


class VectorMLP(nnx.Module):
    """f(x_t, t) for vectors (batch, dimension)."""

    def __init__(self, dimension: int, width: int = 256, num_blocks: int = 3, *, rngs: nnx.Rngs):
        if min(dimension, width, num_blocks) < 1:
            raise ValueError(f"dimension = {dimension}, width = {width}, num_blocks = {num_blocks}: at least 1 needed")
        self.dimension, self.width, self.num_blocks = dimension, width, num_blocks
        self.time = TimeFeatures(width, rngs=rngs)
        self.enter = nnx.Linear(dimension, width, rngs=rngs)
        self.blocks = nnx.List([_Block(width, rngs=rngs) for _ in range(num_blocks)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.leave = nnx.Linear(width, dimension, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x_t: Rows, t: Float[Array, " batch"]) -> Rows:
        features = self.time(t).astype(self.leave.kernel.dtype)
        h = self.enter(x_t.astype(self.leave.kernel.dtype))
        for block in self.blocks:
            h = h + block(h, features)
        return self.leave(self.norm(h))


class _Block(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.modulate = nnx.Linear(width, 2 * width, rngs=rngs)
        self.rise = nnx.Linear(width, 2 * width, rngs=rngs)
        self.fall = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, h: Rows, features: Rows) -> Rows:
        scale, shift = jnp.split(self.modulate(jax.nn.silu(features)), 2, -1)
        return self.fall(jax.nn.silu(self.rise(self.norm(h) * (1 + scale) + shift)))
