r"""A Gaussian on a linear subspace: x_0 = mu + U L u, u ~ N(0, 1_k), U orthonormal (d, k).

With noise everything is Gaussian: variance alpha^2 L^2 + sigma^2 along the axes U, sigma^2 across them, so the
eigenvalues of sigma^2 H + 1 are alpha^2 L^2 / (alpha^2 L^2 + sigma^2), and zeros.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arguments import AnyKey, Given, Whole, as_numbers, as_whole
from .embedded import AbstractEmbedded, embedding


class LinearSubspace(AbstractEmbedded):
    """A Gaussian on a subspace of dimension k of R^d."""

    axes: Float[Array, "d k"]
    spreads: Float[Array, " k"]
    """L: standard deviations along the axes."""
    centre: Float[Array, " d"]
    scale: Float[Array, ""]
    noise: Float[Array, ""]

    def __init__(
        self,
        key: AnyKey,
        dimension: Whole,
        ambient_dimension: Whole,
        spreads: Given = 1.0,
        centre: Given | None = None,
    ):
        """A subspace in a random direction.

        Args:
          spreads: one standard deviation for all axes, or one for each.
          centre: mu, (d,), the mean of the data; by default the origin.

        Raises:
          ValueError: if k > d, a spread is not positive, or the centre is not of d numbers.
        """
        k = as_whole("dimension", dimension, 1)
        self.axes = embedding(key, ambient_dimension, k)
        given = as_numbers(spreads, self.axes.dtype)
        if given.shape not in ((), (k,)) or not bool(jnp.all(given > 0)):
            raise ValueError(f"spreads = {spreads}: give one positive number, or {k}")
        self.spreads = jnp.broadcast_to(given, (k,))
        d = self.axes.shape[0]
        self.centre = as_numbers(np.zeros(d) if centre is None else centre, self.axes.dtype)
        if self.centre.shape != (d,):
            raise ValueError(f"centre has shape {self.centre.shape}: give the {d} numbers of a point of the space")
        self.scale, self.noise = jnp.ones((), self.axes.dtype), jnp.zeros((), self.axes.dtype)

    @property
    def dimension(self) -> int:
        return self.axes.shape[1]

    def _point(self, key):
        along = self.spreads * jax.random.normal(key, self.spreads.shape, self.spreads.dtype)
        return self.centre + self.axes @ along, along

    def _log_density(self, x):
        along, across = self._split(x)
        variances = (self.scale * self.spreads) ** 2 + self.noise**2
        free = self.ambient_dimension - self.dimension
        quadratic = jnp.sum(along**2 / variances) + across @ across / self.noise**2
        volume = jnp.sum(jnp.log(variances)) + 2 * free * jnp.log(self.noise)
        return -(quadratic + volume + self.ambient_dimension * jnp.log(2 * jnp.pi)) / 2

    def _mean(self, x):
        along, _ = self._split(x)
        signal = (self.scale * self.spreads) ** 2
        return self.scale * self.centre + self.axes @ (signal / (signal + self.noise**2) * along)

    def _split(self, x):
        away = x - self.scale * self.centre
        along = self.axes.T @ away
        return along, away - self.axes @ along

    def _laplacian(self, x):
        variances = (self.scale * self.spreads) ** 2 + self.noise**2
        free = self.ambient_dimension - self.dimension
        return -jnp.sum(1 / variances) - free / self.noise**2
