r"""Data that a function makes of k latent numbers, uniform in [0, 1).

A curve, images of squares and of blobs, spheres that are not uniform.
Their dimension is k wherever the function's Jacobian has full rank. The smoothed density of a curve is known by
quadrature (`Curve`); that of the others is not.

Source of the sets: Stanczuk et al., arXiv:2212.12611.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole
from ..law import AbstractLaw, Sample, Shape, sample_each
from ..mixture.gaussian import GaussianMixture
from .embedded import embedding


class Generated(AbstractLaw):
    """The law of f(u), u uniform in [0, 1)^k."""

    function: Callable[[Float[Array, " k"]], Float[Array, " d"]]
    """A function of JAX arrays; an `eqx.Module` if it has arrays of its own."""
    dimension: int = eqx.field(static=True)
    """k."""

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Data (..., d), with u (..., k) as `latent`."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key):
        u = jax.random.uniform(key, (self.dimension,))
        return Sample(self.function(u), u)


class Curve(Generated):
    """A law of dimension 1, whose smoothed density is known."""

    def __init__(self, function: Callable[[Float[Array, " 1"]], Float[Array, " d"]]):
        self.function, self.dimension = function, 1

    def midpoints(self, points: Whole) -> tuple[Float[Array, "points d"], float]:
        """f(u_k) at u_k = (k + 1/2) / points, and the largest distance of neighbours; made outside jit.

        Raises:
          ValueError: if there are fewer than two points.
        """
        points = as_whole("points", points, 2)
        data = jax.vmap(self.function)((jnp.arange(points, dtype=float)[:, None] + 0.5) / points)
        return data, float(jnp.max(jnp.linalg.norm(jnp.diff(data, axis=0), axis=1)))

    def noised(self, alpha: Given, sigma: Given, points: Whole = 4096) -> GaussianMixture:
        """The law of alpha f(u) + sigma z by the midpoint rule in u.

        The error falls faster than any power of the number of points once neighbours are closer than sigma, but for
        what the ends of an open curve leave, of second order.

        Raises:
          ValueError: if sigma is 0, or neighbours on the grid are further apart than sigma.
        """
        alpha, sigma = float(np.asarray(alpha)), float(np.asarray(sigma))
        data, spacing = self.midpoints(points)
        step = abs(alpha) * spacing
        if not sigma > 0:
            raise ValueError(f"sigma = {sigma}: a curve has no density; give a positive one")
        if step > sigma:
            raise ValueError(
                f"points = {points}: neighbours are {step:.3g} apart, more than sigma = {sigma:.3g}: give "
                f"{int(len(data) * step / sigma) + 1} or more"
            )
        return GaussianMixture(jnp.ones(len(data)), alpha * data, as_numbers(sigma, data.dtype) ** 2)


class Harmonics(eqx.Module):
    """u -> (sin u, sin 2u, ..., sin du)."""

    multiples: Float[Array, " d"]

    def __call__(self, u):
        return jnp.sin(self.multiples * u)


def line(ambient_dimension: Whole = 100) -> Curve:
    """The curve (sin t, sin 2t, ..., sin dt), t in [0, 1)."""
    return Curve(Harmonics(jnp.arange(1.0, as_whole("ambient_dimension", ambient_dimension, 1) + 1)))


class Squares(eqx.Module):
    """An image to which squares are added, each of an intensity of its own."""

    masks: Float[Array, "k height width"]

    def __call__(self, u):
        return jnp.einsum("k,khw->hw", u, self.masks).reshape(-1)


def squares(key: AnyKey, dimension: Whole, side: Whole = 3, size: Whole = 32) -> Generated:
    """Images (size, size), flat, of k squares at random fixed places, of intensities uniform in [0, 1).

    Squares may overlap; the dimension is k as long as no two are at the same place, so places are drawn without
    repetition.

    Raises:
      ValueError: if a square does not fit the image, or there are more squares than places.
    """
    k, side, size = as_whole("dimension", dimension, 1), as_whole("side", side, 1), as_whole("size", size, 1)
    places = max(size - side + 1, 0) ** 2
    if k > places:
        raise ValueError(f"{k} squares of side {side} have {places} places in an image of size {size}: give fewer")
    corner = jax.random.choice(as_key(key), places, (k,), replace=False)
    return Generated(Squares(_masks(corner, side, size)), k)


def _masks(corner: Int[Array, " k"], side: int, size: int) -> Float[Array, "k size size"]:
    row, column = jnp.divmod(corner, size - side + 1)
    pixel = jnp.arange(size)

    def covers(first):
        return (pixel[None] >= first[:, None]) & (pixel[None] < first[:, None] + side)

    return (covers(row)[:, :, None] & covers(column)[:, None]).astype(float)


class Blobs(eqx.Module):
    """A sum of Gaussian spots of different widths, brought to the range 0 to 1."""

    centres: Float[Array, "k 2"]
    size: int = eqx.field(static=True)

    def __call__(self, u):
        pixel = jnp.arange(self.size, dtype=u.dtype)
        width = 1 + 4 * u  # of the distribution U[1, 5], in pixels
        along = [jnp.exp(-(((pixel[None] - centre[:, None]) / width[:, None]) ** 2) / 2) for centre in self.centres.T]
        image = jnp.einsum("kh,kw,k->hw", *along, 1 / (2 * jnp.pi * width**2))
        darkest = jnp.min(image)
        return ((image - darkest) / (jnp.max(image) - darkest)).reshape(-1)


def blobs(key: AnyKey, dimension: Whole, size: Whole = 32) -> Generated:
    """Images (size, size), flat, of k Gaussian spots at random fixed centres, of widths uniform in [1, 5) pixels."""
    k, size = as_whole("dimension", dimension, 2), as_whole("size", size, 2)
    return Generated(Blobs(jax.random.uniform(as_key(key), (k, 2), maxval=size - 1.0), size), k)


class SphericalAngles(eqx.Module):
    """Spherical coordinates with normal angles, in the span of orthonormal axes."""

    axes: Float[Array, "d p"]
    spread: Float[Array, ""]

    def __call__(self, u):
        angle = self.spread * jax.scipy.special.ndtri(u)
        sines = jnp.cumprod(jnp.sin(angle))
        before = jnp.concatenate([jnp.ones(1, u.dtype), sines[:-1]])
        return self.axes @ jnp.concatenate([before * jnp.cos(angle), sines[-1:]])


def uneven_sphere(key: AnyKey, dimension: Whole, ambient_dimension: Whole, spread: Given) -> Generated:
    """A unit k-sphere in R^d whose k angles are normal, N(0, spread^2): data crowd around a pole."""
    k = as_whole("dimension", dimension, 1)
    axes = embedding(key, ambient_dimension, k + 1)
    given = as_numbers(spread, axes.dtype)
    if given.shape != () or not given > 0:
        raise ValueError(f"spread = {spread}: give a positive number of radians")
    return Generated(SphericalAngles(axes, given), k)
