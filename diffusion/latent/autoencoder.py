r"""One interface for variational autoencoders: x -> latents, latents -> x, and the free energy of a datum.

Of a datum x a network gives q(z | x) = N(mu, diag sigma^2) and the decoded mean D(z) (`networks/vae.py`). The latents'
prior is N(0, 1) each, so what q says beyond it is, latent by latent and in nats,

    KL_j = (mu_j^2 + sigma_j^2 - ln sigma_j^2 - 1) / 2.                                                            (1)

The free energy is error plus information, at the price tau = beta eta^2 that `decoder_noise.py` states. For a linear
network and data with covariance eigenvalues lambda_1 >= lambda_2 >= ..., it is least where latent j is active if and
only if lambda_j > tau, and then

    Var mu_j / sigma_j^2 = lambda_j / tau - 1,     KL_j = ln(lambda_j / tau) / 2,     Var mu_j + sigma_j^2 = 1.    (2)
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

from hierarchical.arguments import AnyKey, Given, as_key, at_least_float32

from ..denoise.apply import FlaxApply
from ..networks.vae import AbstractVAE
from ..noise.process import batch_axes
from .decoder_noise import AbstractDecoderNoise, FixedNoise, LearnedNoise

BATCH = 2  # of the call that checks shapes


class Latent(eqx.Module):
    """q(z | x): independent Gaussians."""

    mean: Float[Array, "*batch k"]
    log_variance: Float[Array, "*batch k"]

    @property
    def variance(self) -> Float[Array, "*batch k"]:
        return jnp.exp(self.log_variance)

    @property
    def kl(self) -> Float[Array, "*batch k"]:
        """Equation (1), nats."""
        return (self.mean**2 + jnp.expm1(self.log_variance) - self.log_variance) / 2


class FreeEnergy(eqx.Module):
    """The free energy of data, its terms apart."""

    reconstruction: Float[Array, "*batch"]
    """1/2 E_q |x - D(z)|^2, in the unit of x^2."""
    kl: Float[Array, "*batch k"]
    """Equation (1), nats."""
    total: Float[Array, "*batch"]
    """In the unit of x^2 where tau is given, nats where the noise is learned; see `decoder_noise.py`."""


class Autoencoder(eqx.Module):
    """A variational autoencoder: a network's definition and its parameters, and the noise of the decoder.

    Data have any batch axes before their features. Numbers come back in the dtype of the data, at least float32.
    """

    apply: FlaxApply
    params: PyTree
    noise: AbstractDecoderNoise
    dimension: int = eqx.field(static=True)
    """Number of features d."""
    num_latents: int = eqx.field(static=True)

    @property
    def tau(self) -> Float[Array, ""]:
        """beta eta^2, in the unit of x^2: the variance that a latent must explain to be used."""
        return self.noise.threshold(self.scale)

    @property
    def noise_variance(self) -> Float[Array, ""] | None:
        """The learned eta^2, in the unit of x^2; None where tau is given."""
        return self.noise.variance(self.scale)

    @property
    def scale(self) -> Float[Array, ""]:
        """The size of a feature, by which the network divides."""
        return self.network.scale[...]

    @property
    def network(self) -> AbstractVAE:
        """The network with its parameters, a new copy."""
        network = self.apply.network(self.params)
        assert isinstance(network, AbstractVAE)
        return network

    @property
    def trainable(self) -> dict[str, PyTree]:
        """What training changes."""
        return {"network": self.params, "noise": self.noise.parameters}

    def with_trainable(self, trainable: dict[str, PyTree]) -> "Autoencoder":
        noise = self.noise.with_parameters(trainable["noise"])
        return dataclasses.replace(self, params=trainable["network"], noise=noise)

    def encode(self, x: Given) -> Latent:
        """q(z | x) of data (..., d): mean, variance and KL (..., k).

        Raises:
          ValueError: if the last axis is not d, or there is no datum.
        """
        rows, batch = _rows(x, self.dimension, "x")
        mean, log_variance = self.network.encode(rows)
        shape = (*batch, self.num_latents)
        return Latent(mean.reshape(shape), log_variance.reshape(shape))

    def decode(self, z: Given) -> Float[Array, "*batch d"]:
        """D(z) of latents (..., k).

        Raises:
          ValueError: if the last axis is not k, or there is no latent vector.
        """
        rows, batch = _rows(z, self.num_latents, "z")
        return self.network.decode(rows).reshape(*batch, self.dimension)

    def reconstruct(self, x: Given) -> Float[Array, "*batch d"]:
        """D(mu(x)) of data (..., d)."""
        return self.decode(self.encode(x).mean)

    def free_energy(self, key: AnyKey, x: Given) -> FreeEnergy:
        """The free energy of each datum (..., d), its terms apart.

        Args:
          key: decides the draw of z that estimates the error; the error of a `LinearVAE` is exact, without a draw.

        Raises:
          ValueError: if the last axis is not d, or there is no datum.
        """
        rows, batch = _rows(x, self.dimension, "x")
        found = self.free_energy_of_rows(as_key(key), rows)
        return jax.tree.map(lambda numbers: numbers.reshape(*batch, *numbers.shape[1:]), found)

    def free_energy_of_rows(self, key: Key[Array, ""], x: Float[Array, "batch d"]) -> FreeEnergy:
        """`free_energy` of checked data with one batch axis."""
        network, scale = self.network, self.scale.astype(x.dtype)
        mean, log_variance = network.encode(x)
        error, kl = network.expected_error(key, x, mean, log_variance), Latent(mean, log_variance).kl
        return FreeEnergy(error, kl, self.noise.total(error, jnp.sum(kl, -1), self.dimension, scale))

    def loss(self, key: Key[Array, ""], x: Float[Array, "batch d"]) -> Float[Array, " batch"]:
        """What training lowers, of checked data: the free energy over d scale^2, or over d where the noise is learned.

        Where tau is given, d scale^2 is the variance of the data, and the loss without latents is 1/2. Otherwise the
        loss is in nats per feature.
        """
        unit = self.noise.loss_unit(self.dimension, self.scale.astype(x.dtype))
        return self.free_energy_of_rows(key, x).total / unit


def from_vae(network: AbstractVAE, *, tau: Given | None = None, beta: Given | None = None) -> Autoencoder:
    """An autoencoder of a Flax (nnx) network: `LinearVAE`, `DenseVAE`, or a subclass of `AbstractVAE` of one's own.

    The network is split once into a definition and parameters, so later changes to it do not reach the autoencoder. Its
    `nnx.Param`s are trained, and all other state (centre and scale) stays.

    Args:
      tau: beta eta^2 of a decoder noise that is not learned, > 0, in the unit of x^2. An error that is averaged over d
        features plus beta KL is tau = beta d / 2.
      beta: weight of the information, > 0, beside a decoder noise eta^2 that is learned.

    Raises:
      ValueError: if both of tau and beta are given or neither, the number is not positive and finite, or the network's
        methods give other shapes than (batch, num_latents) twice and (batch, dimension).
    """
    if tau is not None and beta is None:
        noise = FixedNoise(tau)
    elif beta is not None and tau is None:
        noise = LearnedNoise(beta)
    else:
        raise ValueError(f"tau = {tau}, beta = {beta}: give tau for a fixed noise of the decoder, or beta to learn it")
    network = nnx.clone(network)
    network.eval()
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    made = Autoencoder(FlaxApply(definition, rest), params, noise, network.dimension, network.num_latents)
    return _checked(made)


def _checked(autoencoder: Autoencoder) -> Autoencoder:
    """Trace the network once, without running it."""
    d, k = autoencoder.dimension, autoencoder.num_latents
    y, z = (jax.ShapeDtypeStruct((BATCH, size), jnp.float32) for size in (d, k))
    for name, call, given, wanted in (
        ("encode_standard", lambda y: autoencoder.network.encode_standard(y), y, ((BATCH, k), (BATCH, k))),
        ("decode_standard", lambda z: autoencoder.network.decode_standard(z), z, (BATCH, d)),
    ):
        got = jax.tree.map(lambda array: array.shape, eqx.filter_eval_shape(call, given))
        if got != wanted:
            raise ValueError(f"{name} maps shape {given.shape} to {got}; expected {wanted}")
    return autoencoder


def _rows(x: Given, size: int, name: str) -> tuple[Float[Array, "rows size"], tuple[int, ...]]:
    """Vectors with one batch axis, and the batch axes that were given."""
    numbers = at_least_float32(x)
    batch = batch_axes(numbers, (size,), name)
    return numbers.reshape(-1, size), batch
