r"""The denoiser of a finite training set: what a network of unlimited capacity learns from n data. It memorises.

By Bayes' rule over the data x^1 .. x^n, all equally likely,

    p(x_0 = x^k | x_t) = w_k ~ prod_i q(x_t^i | x_0^i = x^k_i)      strings,                                       (1)
    w_k ~ exp( (alpha x_t . x^k - alpha^2 |x^k|^2 / 2) / sigma^2 )   arrays,                                        (2)

|x_t|^2 being common to all k. The mean of arrays, sum_k w_k x^k, is found in one pass over blocks of the set, with the
largest exponent so far and sums relative to it: two matrix products per block, and nothing of size (batch, n, d) is
ever formed. In float32, (2) has an error of about 1e-7 |x_t| |x^k| / sigma^2 nats.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Shaped

from diffusion.denoise.denoiser import AbstractJointDenoiser
from diffusion.noise.process import AbstractTokenProcess

from ..logspace import finite, log_sum

BLOCK = 4096  # points of the set that are looked at together


class EmpiricalDenoiser(AbstractJointDenoiser):
    """The posterior when the data are known to be one of `data`. Costs O(n d) per row."""

    data: Shaped[Array, "n *datum"]
    process: Any
    """Of strings, an `AbstractTokenProcess`, or a `VectorProcess`."""

    def __check_init__(self):
        if self.data.shape[0] == 0:
            raise ValueError("the training set is empty: give at least one datum")
        if isinstance(self.process, AbstractTokenProcess) and not isinstance(self.data, Tracer):
            low, high = int(np.min(self.data)), int(np.max(self.data))
            if low < 0 or high >= self.process.num_symbols:
                raise ValueError(
                    f"the training set has symbols {low} .. {high}, the process 0 .. {self.process.num_symbols - 1}: "
                    f"make them agree"
                )

    def __call__(self, x_t, t):
        if isinstance(self.process, AbstractTokenProcess):
            weights = self.log_weights(x_t, t)
            symbols = jax.nn.one_hot(self.data, self.process.num_symbols, dtype=weights.dtype)  # (n, sites, v)
            # TF32 would cost digits
            return jnp.log(jnp.einsum("bn,nsv->bsv", jnp.exp(weights), symbols, precision="highest"))
        rows = x_t.reshape(len(x_t), -1)
        return self._mean(rows, t).reshape(x_t.shape)

    def posterior_sample(self, key, x_t, t):
        return self.data[jax.random.categorical(key, self.log_weights(x_t, t))]

    def log_weights(self, x_t, t) -> Float[Array, "batch n"]:
        """ln w, nats; all `-inf` in a row that no string of the set can have become."""
        if isinstance(self.process, AbstractTokenProcess):
            total = self._evidence(x_t, t)
            return total - finite(log_sum(total, axis=1))[:, None]
        points = self.data.reshape(len(self.data), -1)
        return jax.nn.log_softmax(self._exponents(x_t.reshape(len(x_t), -1), t, points))

    def _evidence(self, x_t, t) -> Float[Array, "batch n"]:
        """ln of equation (1), a site at a time, so that no (batch, n, sites) array is formed."""
        evidence = jax.vmap(self.process.log_likelihood)(x_t, t)  # (batch, sites, v)
        total, _ = jax.lax.scan(
            lambda total, site: (total + site[0][:, site[1]], None),
            jnp.zeros((len(x_t), len(self.data)), evidence.dtype),
            (evidence.transpose(1, 0, 2), self.data.T),
        )
        return total

    def _exponents(
        self, x_t: Float[Array, "batch d"], t: Float[Array, " batch"], points: Float[Array, "points d"]
    ) -> Float[Array, "batch points"]:
        """The exponents of equation (2)."""
        alpha, sigma = (number.astype(x_t.dtype) for number in (self.process.path.alpha(t), self.process.path.sigma(t)))
        near = jnp.matmul((alpha / sigma**2)[:, None] * x_t, points.T, precision="highest")
        return near - (alpha / sigma)[:, None] ** 2 * (jnp.sum(points**2, 1) / 2)[None]

    def _mean(self, x_t: Float[Array, "batch d"], t: Float[Array, " batch"]) -> Float[Array, "batch d"]:
        """sum_k w_k x^k."""
        points, size = self.data.reshape(len(self.data), -1), min(BLOCK, len(self.data))

        def take(number: Int[Array, ""], sums):
            largest, total, mean = sums
            start = jnp.minimum(number * size, len(points) - size)  # the last block overlaps the one before
            block = jax.lax.dynamic_slice_in_dim(points, start, size)
            is_new = start + jnp.arange(size) >= number * size
            exponents = jnp.where(is_new[None], self._exponents(x_t, t, block), -jnp.inf)
            now = jnp.maximum(largest, jnp.max(exponents, 1))
            weights, shrink = jnp.exp(exponents - now[:, None]), jnp.exp(largest - now)
            added = jnp.matmul(weights, block, precision="highest")
            return now, total * shrink + jnp.sum(weights, 1), mean * shrink[:, None] + added

        nothing = (jnp.full(len(x_t), -jnp.inf, x_t.dtype), jnp.zeros(len(x_t), x_t.dtype), jnp.zeros_like(x_t))
        _, total, mean = jax.lax.fori_loop(0, -(-len(points) // size), take, nothing)
        return mean / total[:, None]


def seed_log_weights(
    denoiser: EmpiricalDenoiser,
    x_t: Shaped[Array, "batch *datum"],
    t: Float[Array, " batch"],
    seeds: Int[Array, " batch"],
) -> Float[Array, " batch"]:
    """ln w of the point that each row was noised from, nats; its -mean / d is the excess entropy f(t) of `collapse`."""
    return jnp.take_along_axis(denoiser.log_weights(x_t, t), seeds[:, None], 1)[:, 0]
