r"""What the laws on linear subspaces and spheres share: a set of dimension k in R^d, shrunk by alpha, with noise.

    x_t = alpha x_0 + sigma z,        x_0 on the set,        z ~ N(0, 1_d)

A law on a set of lower dimension has no density; with sigma > 0 it has one, which is smooth, and so are its score and
Hessian. The eigenvalues of sigma^2 H + 1 tell the dimension: near 1 along the set, near 0 across it.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole
from ..law import AbstractNoisedLaw, Sample, Shape, one_noise, over_rows, sample_each

Point = Float[Array, " d"]


class AbstractEmbedded(AbstractNoisedLaw):
    """A law on a set whose smoothed density is known; a subclass writes `_point`, `_log_density` and `_mean`."""

    axes: eqx.AbstractVar[Float[Array, "d _span"]]
    """Orthonormal columns whose span holds the set, up to its centre."""
    scale: eqx.AbstractVar[Float[Array, ""]]
    """alpha: by how much the set is shrunk."""
    noise: eqx.AbstractVar[Float[Array, ""]]
    """sigma, 0 on the set itself."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """k, of the set."""

    @property
    def ambient_dimension(self) -> int:
        """d, numbers of a datum."""
        return self.axes.shape[0]

    @abc.abstractmethod
    def _point(self, key: Key[Array, ""]) -> tuple[Point, Any]:
        """A point of the set, not shrunk, and what made it."""

    @abc.abstractmethod
    def _log_density(self, x: Point) -> Float[Array, ""]:
        """ln p(x) with noise, nats."""

    @abc.abstractmethod
    def _mean(self, x: Point) -> Point:
        """E[alpha x_0 | x] with noise."""

    def noised(self, alpha: Given, sigma: Given) -> "AbstractEmbedded":
        """The law of alpha x + sigma z, for one alpha and one sigma.

        Raises:
          ValueError: if one of them is several numbers.
        """
        alpha, sigma = one_noise(alpha, sigma, self.noise.dtype)
        parts = alpha * self.scale, jnp.hypot(alpha * self.noise, sigma)
        return eqx.tree_at(lambda law: (law.scale, law.noise), self, parts)

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Data, with what made each as `latent`."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key: Key[Array, ""]) -> Sample:
        point_key, noise_key = jax.random.split(key)
        point, latent = self._point(point_key)
        noise = jax.random.normal(noise_key, point.shape, point.dtype)
        return Sample(self.scale * point + self.noise * noise, latent)

    def log_prob(self, x: Given) -> Float[Array, "*batch"]:
        """ln p(x), nats.

        Raises:
          ValueError: if the law has no noise, and so no density; inside `jax.jit` the result is NaN. Of all functions
            of x; or if x has another length than d.
        """
        return self._over_batch(self._log_density, x)

    def mean(self, x: Given) -> Float[Array, "*batch d"]:
        """E[alpha x_0 | x]: the mean of the points, shrunk, that x may be a noised one of."""
        return self._over_batch(self._mean, x)

    def score(self, x: Given) -> Float[Array, "*batch d"]:
        """grad ln p(x) = (E[alpha x_0 | x] - x) / sigma^2."""
        return self._over_batch(self._score, x)

    def _score(self, x: Point) -> Point:
        return (self._mean(x) - x) / self.noise**2

    def hessian_vector(self, x: Given, v: Given) -> Float[Array, "*batch d"]:
        """The Hessian of ln p at x times v."""
        return self._over_batch(self._hessian_vector, x, v)

    def laplacian(self, x: Given) -> Float[Array, "*batch"]:
        """The trace of that Hessian."""
        return self._over_batch(self._laplacian, x)

    def _hessian_vector(self, x: Point, v: Point) -> Point:
        return jax.jvp(self._score, (x,), (v,))[1]

    def _laplacian(self, x: Point) -> Float[Array, ""]:
        return jnp.trace(jax.jacfwd(self._score)(x))

    def _over_batch(self, function: Callable, *arrays: Given) -> Array:
        given = [as_numbers(array, self.noise.dtype) for array in arrays]
        for array in given:
            if array.shape[-1:] != (self.ambient_dimension,):
                raise ValueError(f"x has shape {array.shape}: give points (..., {self.ambient_dimension})")
        if not isinstance(self.noise, Tracer) and not np.asarray(self.noise) > 0:
            raise ValueError("noise = 0: a law on a set of lower dimension has no density; take law.noised(1, sigma)")
        given = jnp.broadcast_arrays(*given)
        batch, rows = given[0].shape[:-1], [array.reshape(-1, self.ambient_dimension) for array in given]
        result = over_rows(function, *rows)
        return jnp.where(self.noise > 0, result.reshape(*batch, *result.shape[1:]), jnp.nan)


def embedding(key: AnyKey, ambient_dimension: Whole, span: Whole) -> Float[Array, "d span"]:
    """Orthonormal columns in a uniformly random direction: an isometry from R^span into R^d.

    Raises:
      ValueError: if the span is larger than the space.
    """
    d, span = as_whole("ambient_dimension", ambient_dimension, 1), as_whole("span", span, 1)
    if span > d:
        raise ValueError(f"the set spans {span} dimensions: ambient_dimension = {d} must be at least that")
    return jnp.linalg.qr(jax.random.normal(as_key(key), (d, span)))[0]
