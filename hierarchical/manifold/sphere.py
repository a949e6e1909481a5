r"""The uniform law on a sphere of dimension k, and with noise: score, Hessian and density in closed form.

The sphere of radius R lies in the span of p = k + 1 orthonormal columns Q. With y = Q'x, r = |y|, R shrunk by alpha,
kappa = R r / sigma^2 and A(kappa) = I_{p/2}(kappa) / I_{p/2-1}(kappa) (`bessel`),

    E[alpha x_0 | x] = R A(kappa) Q y / r,                                                                         (1)
    ln p(x) = -(|x|^2 + R^2) / (2 sigma^2) + F_{p/2-1}(kappa) - (d/2) ln(2 pi sigma^2),                            (2)

F being ln of the mean of exp(kappa cos) over the sphere. sigma^2 H + 1 has the eigenvalue R A / r for each of the k
tangents, (R / sigma)^2 (1 - A^2 - (p - 1) A / kappa) along the radius, and 0 across the span. Derived here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arguments import AnyKey, Given, Whole, as_numbers, as_whole
from .bessel import bessel_ratio, log_bessel
from .embedded import AbstractEmbedded, embedding


class Sphere(AbstractEmbedded):
    """The uniform law on a k-sphere in R^d, with or without noise."""

    axes: Float[Array, "d p"]
    radius: Float[Array, ""]
    scale: Float[Array, ""]
    noise: Float[Array, ""]

    def __init__(self, key: AnyKey, dimension: Whole, ambient_dimension: Whole, radius: Given = 1.0):
        """A sphere around the origin, in a random direction.

        Args:
          dimension: k; a circle has 1. ambient_dimension: d, at least k + 1.
          radius: R.

        Raises:
          ValueError: if d < k + 1, or the radius is not positive.
        """
        self.axes = embedding(key, ambient_dimension, as_whole("dimension", dimension, 1) + 1)
        self.radius = as_numbers(radius, self.axes.dtype)
        if self.radius.shape != () or not self.radius > 0:
            raise ValueError(f"radius = {radius}: give one positive number")
        self.scale, self.noise = jnp.ones((), self.axes.dtype), jnp.zeros((), self.axes.dtype)

    @property
    def dimension(self) -> int:
        return self.axes.shape[1] - 1

    @property
    def _order(self) -> float:
        return self.axes.shape[1] / 2 - 1

    def _point(self, key):
        direction = jax.random.normal(key, self.axes.shape[1:], self.axes.dtype)
        direction /= jnp.linalg.norm(direction)
        return self.radius * (self.axes @ direction), direction

    def _log_density(self, x):
        shrunk, kappa, _ = self._at(x)
        gaussian = (x @ x + shrunk**2) / (2 * self.noise**2)
        volume = self.ambient_dimension / 2 * jnp.log(2 * jnp.pi * self.noise**2)
        return log_bessel(self._order, kappa) - gaussian - volume

    def _mean(self, x):
        shrunk, kappa, y = self._at(x)
        _, share = bessel_ratio(self._order, kappa)  # A / kappa, finite at the centre
        return (shrunk / self.noise) ** 2 * share * (self.axes @ y)

    def _at(self, x):
        y = self.axes.T @ x
        shrunk = self.scale * self.radius
        # the gradient of |y| at the centre is taken as 0, which is what all that follows needs
        square = y @ y
        r = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        return shrunk, shrunk * r / self.noise**2, y

    def _laplacian(self, x):
        shrunk, kappa, _ = self._at(x)
        ratio, _ = bessel_ratio(self._order, kappa)
        # k tangents and the radius together: what is taken from the radius is that of the tangents
        along = (shrunk / self.noise) ** 2 * (1 - ratio**2)
        return (along - self.ambient_dimension) / self.noise**2
