r"""Variational autoencoders of vectors, linear and dense.

An encoder maps a datum x to a Gaussian of k independent latents, q(z | x) = N(mu(x), diag sigma(x)^2), and a decoder
maps z back to D(z). Networks compute with y = (x - centre) / scale. The scale is one number for all features, so that
distances in y are those in x, and no feature counts more than it does in x.

What training needs of a network is the expected error of its reconstruction,

    E(x) = 1/2 E_q |x - D(z)|^2,                                                                                   (1)

which a dense network estimates from one draw z = mu + sigma xi. For the linear D(z) = W z + b, with columns W_j, it is

    E(x) = 1/2 |x - W mu - b|^2 + 1/2 sum_j sigma_j^2 |W_j|^2                                                      (2)

exactly, so that a linear autoencoder is trained without noise.

Source: Kingma & Welling, arXiv:1312.6114; Lucas et al., arXiv:1911.02469, for the linear one.
"""

import abc
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from hierarchical.arguments import Given

from .mlp import Rows

Latents = Float[Array, "batch k"]
Errors = Float[Array, " batch"]


class AbstractVAE(nnx.Module):
    """An encoder and a decoder, which a subclass writes for standardised data y; it sets the four attributes, too."""

    dimension: int
    """Number of features d."""
    num_latents: int
    centre: nnx.Variable
    """(d,), not trained."""
    scale: nnx.Variable
    """One number, not trained."""

    @abc.abstractmethod
    def encode_standard(self, y: Rows) -> tuple[Latents, Latents]:
        """Mean and log variance of the latents, in any float dtype, as of `decode_standard`."""

    @abc.abstractmethod
    def decode_standard(self, z: Latents) -> Rows:
        """D(z) in the unit of y."""

    def standard_error(self, key: Key[Array, ""], y: Rows, mean: Latents, log_variance: Latents) -> Errors:
        """Equation (1) in the unit of y, by one draw; a network that knows it exactly writes its own."""
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape, mean.dtype)
        return jnp.sum((y - self.decode_standard(z).astype(y.dtype)) ** 2, -1) / 2

    def encode(self, x: Rows) -> tuple[Latents, Latents]:
        """Mean and log variance of the latents, in the dtype of x."""
        mean, log_variance = self.encode_standard(self._standard(x))
        return mean.astype(x.dtype), log_variance.astype(x.dtype)

    def decode(self, z: Latents) -> Rows:
        """D(z), in the dtype of z."""
        scale, centre = self.scale[...].astype(z.dtype), self.centre[...].astype(z.dtype)
        return scale * self.decode_standard(z).astype(z.dtype) + centre[None]

    def expected_error(self, key: Key[Array, ""], x: Rows, mean: Latents, log_variance: Latents) -> Errors:
        """Equation (1) in the unit of x^2; `key` decides the draw, where there is one."""
        return self.scale[...].astype(x.dtype) ** 2 * self.standard_error(key, self._standard(x), mean, log_variance)

    def _standard(self, x: Rows) -> Rows:
        return (x - self.centre[...].astype(x.dtype)[None]) / self.scale[...].astype(x.dtype)


class LinearVAE(AbstractVAE):
    """Affine encoder and decoder, and one log variance for each latent."""

    def __init__(
        self, dimension: int, num_latents: int, *, centre: Given | None = None, scale: Given = 1.0, rngs: nnx.Rngs
    ):
        """A network for data around `centre` (dimension,), default 0, with numbers of the size of `scale`.

        Raises:
          ValueError: if a size is below 1, `centre` has another shape or is not finite, or `scale` is not positive.
        """
        if min(dimension, num_latents) < 1:
            raise ValueError(f"dimension = {dimension}, num_latents = {num_latents}: at least 1 needed")
        self.dimension, self.num_latents = dimension, num_latents
        self.centre, self.scale = _constants(dimension, centre, scale)
        self.encoder = nnx.Linear(dimension, num_latents, rngs=rngs)
        self.log_variance = nnx.Param(jnp.zeros(num_latents, jnp.float32))
        self.decoder = nnx.Linear(num_latents, dimension, rngs=rngs)

    @classmethod
    def of_data(cls, rows: Given, num_latents: int, *, rngs: nnx.Rngs) -> "LinearVAE":
        """A network that takes centre and scale, the root of the mean variance of a feature, from data (n, d).

        Raises:
          ValueError: if data are not finite, fewer than two, or all equal.
        """
        centre, scale = _centre_and_scale(rows)
        return cls(len(centre), num_latents, centre=centre, scale=scale, rngs=rngs)

    def encode_standard(self, y):
        mean = self.encoder(y.astype(self.encoder.kernel.dtype))
        return mean, jnp.broadcast_to(self.log_variance[...][None], mean.shape)

    def decode_standard(self, z):
        return self.decoder(z.astype(self.decoder.kernel.dtype))

    def standard_error(self, key, y, mean, log_variance):
        """Equation (2) in the unit of y: `key` does not count."""
        squares = jnp.sum(self.decoder.kernel[...].astype(y.dtype) ** 2, -1)  # |W_j|^2 of each latent
        spread = jnp.sum(jnp.exp(log_variance).astype(y.dtype) * squares[None], -1)
        return (jnp.sum((y - self.decode_standard(mean).astype(y.dtype)) ** 2, -1) + spread) / 2


class DenseVAE(AbstractVAE):
    """Encoder and decoder with `num_layers` hidden layers each, of `width` smooth units."""

    def __init__(
        self,
        dimension: int,
        num_latents: int,
        width: int = 128,
        num_layers: int = 2,
        *,
        centre: Given | None = None,
        scale: Given = 1.0,
        rngs: nnx.Rngs,
    ):
        """A network for data around `centre` (dimension,), default 0, with numbers of the size of `scale`.

        Raises:
          ValueError: if a size is below 1, `centre` has another shape or is not finite, or `scale` is not positive.
        """
        if min(dimension, num_latents, width, num_layers) < 1:
            raise ValueError(
                f"dimension = {dimension}, num_latents = {num_latents}, width = {width}, num_layers = {num_layers}: at "
                f"least 1 needed"
            )
        self.dimension, self.num_latents, self.width, self.num_layers = dimension, num_latents, width, num_layers
        self.centre, self.scale = _constants(dimension, centre, scale)
        self.encoder = _Hidden(dimension, width, num_layers, rngs=rngs)
        self.mean = nnx.Linear(width, num_latents, rngs=rngs)
        self.log_variance = nnx.Linear(width, num_latents, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.decoder = _Hidden(num_latents, width, num_layers, rngs=rngs)
        self.leave = nnx.Linear(width, dimension, rngs=rngs)

    @classmethod
    def of_data(
        cls, rows: Given, num_latents: int, width: int = 128, num_layers: int = 2, *, rngs: nnx.Rngs
    ) -> "DenseVAE":
        """A network that takes centre and scale, the root of the mean variance of a feature, from data (n, d).

        Raises:
          ValueError: if data are not finite, fewer than two, or all equal.
        """
        centre, scale = _centre_and_scale(rows)
        return cls(len(centre), num_latents, width, num_layers, centre=centre, scale=scale, rngs=rngs)

    def encode_standard(self, y):
        h = self.encoder(y.astype(self.mean.kernel.dtype))
        return self.mean(h), self.log_variance(h)

    def decode_standard(self, z):
        return self.leave(self.decoder(z.astype(self.leave.kernel.dtype)))


class _Hidden(nnx.Module):
    def __init__(self, inputs: int, width: int, num_layers: int, *, rngs: nnx.Rngs):
        sizes = [inputs, *[width] * num_layers]
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])

    def __call__(self, h: Rows) -> Rows:
        for layer in self.layers:
            h = jax.nn.silu(layer(h))
        return h


def _constants(dimension: int, centre: Given | None, scale: Given) -> tuple[nnx.Variable, nnx.Variable]:
    """Centre and scale as arrays that are not trained."""
    where = np.zeros(dimension) if centre is None else np.asarray(centre, np.float64)
    if where.shape != (dimension,) or not np.isfinite(where).all():
        raise ValueError(f"centre has shape {where.shape}: give {dimension} finite numbers")
    size = np.asarray(scale, np.float64)
    if size.shape != () or not 0 < size < np.inf:
        raise ValueError(f"scale = {scale}: give one number, positive and finite")
    return nnx.Variable(jnp.asarray(where, jnp.float32)), nnx.Variable(jnp.asarray(size, jnp.float32))


def _centre_and_scale(rows: Given) -> tuple[np.ndarray, float]:
    data = np.asarray(rows, np.float64)
    if data.ndim != 2 or len(data) < 2 or not np.isfinite(data).all() or not data.var(0).sum() > 0:
        raise ValueError(f"data of shape {data.shape}: give (n, d) finite numbers, n at least 2, not all equal")
    return data.mean(0), float(data.var(0).mean() ** 0.5)
