r"""A dense network for vectors near a subspace: the best linear estimate, and what a network adds to it.

With mean mu, axes U and variances L of the data, and y = x_0 + s z, the best linear estimate of x_0 is

    mu + U L / (L + s^2) U' (y - mu),          its error s (L / (L + s^2))^(1/2) along each axis.                  (1)

The network g adds the rest, in units of that error, from whitened numbers w = (L + s^2)^(-1/2) U' (y - mu):

    E[x_0 | y] = (1) + s U (L / (L + s^2))^(1/2) g(w, t, size of w).                                               (2)

So what is across the data's span is exact from the start, and g does not spend itself on it. The length of w, which for
a sphere tells the radius, is a feature of its own: ln of its mean square l, and tanh(l (1 + data_std^2 / s^2)^(1/2)).
Networks tried without that feature found a dimension too many on spheres, 11 and 51, as those of the literature do.

A block is a product: fall(silu(a) b) with (a, b) = rise(norm(h) (1 + scale) + shift), scale and shift from features of
the time and the size. Read by `Preconditioned(data_std)`: (2) is written as what that asks of a network, where
nothing small is the difference of large numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from hierarchical.arguments import Given

from ..noise.gaussian import log_ratio
from .mlp import Rows
from .time_features import TimeFeatures

FEATURES = 128  # of the time and the size
Features = Float[Array, "batch features"]


class WhitenedMLP(nnx.Module):
    """f(x_t, t) for vectors (batch, dimension), to be read by `Preconditioned(data_std)`; made by `of_data`."""

    def __init__(
        self, dimension: int, span: int, data_std: float, width: int = 192, num_blocks: int = 3, *, rngs: nnx.Rngs
    ):
        """A network whose mean, axes and variances are 0 until they are read from a file or set.

        Args:
          span: number of axes. data_std: the root of the mean variance of a number.
        """
        if min(dimension, span, width, num_blocks) < 1 or span > dimension or not data_std > 0:
            raise ValueError(
                f"dimension = {dimension}, span = {span}, data_std = {data_std}, width = {width}, num_blocks = "
                f"{num_blocks}: give positive ones, span at most dimension"
            )
        self.dimension, self.span, self.data_std = dimension, span, data_std
        self.width, self.num_blocks = width, num_blocks
        self.mean, self.axes, self.variances = (
            nnx.Variable(jnp.zeros(shape, jnp.float32)) for shape in ((dimension,), (dimension, span), (span,))
        )
        self.time = TimeFeatures(FEATURES, rngs=rngs)
        self.size = nnx.Linear(2, FEATURES, rngs=rngs)
        self.enter = nnx.Linear(span, width, rngs=rngs)
        self.lift = nnx.Linear(FEATURES, width, rngs=rngs)
        self.blocks = nnx.List([_Product(width, rngs=rngs) for _ in range(num_blocks)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.leave = nnx.Linear(width, span, kernel_init=nnx.initializers.zeros, rngs=rngs)

    @classmethod
    def of_data(
        cls, data: Given, width: int = 192, num_blocks: int = 3, *, least_std: float = 0.0, rngs: nnx.Rngs
    ) -> "WhitenedMLP":
        """A network for data (n, d), whose mean, axes and variances it takes.

        Args:
          least_std: axes with this standard deviation or less are left out, and those with a millionth of the largest.

        Raises:
          ValueError: if data are not finite, fewer than two, or all equal.
        """
        rows = np.asarray(data, np.float64)
        if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all() or not rows.var(0).sum() > 0:
            raise ValueError(f"data of shape {rows.shape}: give (n, d) finite numbers, n at least 2, not all equal")
        variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(rows.T)))
        kept = variances > max(least_std**2, 1e-12 * variances[-1])
        std = float(variances.mean() ** 0.5)
        network = cls(rows.shape[1], int(kept.sum()), std, width, num_blocks, rngs=rngs)
        constants = (network.mean, rows.mean(0)), (network.axes, axes[:, kept]), (network.variances, variances[kept])
        for variable, value in constants:
            variable[...] = jnp.asarray(value, jnp.float32)
        return network

    def __call__(self, x_t: Rows, t: Float[Array, " batch"]) -> Rows:
        mean, axes, variances = (of[...] for of in (self.mean, self.axes, self.variances))
        std, s = self.data_std, jnp.exp(-log_ratio(t))[:, None].astype(jnp.float32)
        c = jnp.sqrt(std**2 + s**2)  # x_t comes in units of c
        away = x_t.astype(jnp.float32) - mean[None] / c
        inside = away @ axes
        total = variances[None] + s**2
        g = self._rest(inside * c / jnp.sqrt(total), t, jnp.sqrt(1 + (std / s) ** 2))
        across = -std / s  # E has nothing across the axes
        along = s * (variances[None] - std**2) / (total * std)
        rest = jnp.sqrt(variances[None] / total) * c / std * g
        return across * away + ((along - across) * inside + rest) @ axes.T + mean[None] * s / (c * std)

    def _rest(self, w: Rows, t: Float[Array, " batch"], gain: Float[Array, "batch 1"]) -> Rows:
        size = jnp.log(jnp.mean(w**2, -1, keepdims=True) + 1e-12)
        features = self.time(t) + self.size(jnp.concatenate([size, jnp.tanh(size * gain)], -1))
        features = jax.nn.silu(features)
        h = self.enter(w) + self.lift(features)
        for block in self.blocks:
            h = h + block(h, features)
        return self.leave(self.norm(h))


class _Product(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.modulate = nnx.Linear(FEATURES, 2 * width, rngs=rngs)
        self.rise = nnx.Linear(width, 2 * width, rngs=rngs)
        self.fall = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, h: Rows, features: Features) -> Rows:
        scale, shift = jnp.split(self.modulate(features), 2, -1)
        gate, value = jnp.split(self.rise(self.norm(h) * (1 + scale) + shift), 2, -1)
        return self.fall(jax.nn.silu(gate) * value)
