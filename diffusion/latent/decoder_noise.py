r"""The noise of a decoder, p(x | z) = N(D(z), eta^2): a given number, or learned.

With E the expected error of the reconstruction and KL_j the information of latent j in nats, the free energy of a datum
is

    fixed       E + tau sum_j KL_j                                             in the unit of x^2,                 (1)
    learned     E / eta^2 + d/2 ln(2 pi eta^2) + beta sum_j KL_j               nats.                               (2)

Both ask for the same encoder and decoder where tau = beta eta^2. So beta alone says nothing before the noise is known,
and a latent is worth its cost if it explains more variance than tau. An error that is averaged over the d features,
instead of E, makes beta KL the free energy of tau = beta d / 2.

(2) is least at eta^2 = 2 E / d, E its mean over data. For a linear network whose k active latents have the eigenvalues
lambda_1 .. lambda_k that is eta^2 = (lambda_{k+1} + ... + lambda_d) / (d - k beta). Where latents can explain all of x,
eta goes to 0 and (2) to minus infinity.

Source: (1), (2) and their linear optimum: Lucas et al., arXiv:1911.02469, for beta = 1; any beta is derived alike.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from hierarchical.arguments import Given, as_numbers

Scalar = Float[Array, ""]


class AbstractDecoderNoise(eqx.Module):
    """How error and information are added; `scale` is that of the network, the unit of a feature."""

    parameters: eqx.AbstractVar[PyTree]
    """What training changes."""

    @abc.abstractmethod
    def threshold(self, scale: Scalar) -> Scalar:
        """tau = beta eta^2, in the unit of x^2: the variance that a latent must explain."""

    @abc.abstractmethod
    def variance(self, scale: Scalar) -> Scalar | None:
        """eta^2, in the unit of x^2; None where it is not learned."""

    @abc.abstractmethod
    def with_parameters(self, parameters: PyTree) -> "AbstractDecoderNoise":
        """This noise with other parameters."""

    @abc.abstractmethod
    def total(
        self, error: Float[Array, "..."], kl: Float[Array, "..."], dimension: int, scale: Scalar
    ) -> Float[Array, "..."]:
        """The free energy of data with these errors, and information summed over latents."""

    @abc.abstractmethod
    def loss_unit(self, dimension: int, scale: Scalar) -> Scalar:
        """What training divides the free energy by, so that gradients do not depend on the unit of the data."""


class FixedNoise(AbstractDecoderNoise):
    """Equation (1)."""

    tau: Scalar

    def __init__(self, tau: Given):
        """Raises ValueError if tau is not one positive, finite number."""
        self.tau = _positive("tau", tau)

    @property
    def parameters(self):
        return ()

    def threshold(self, scale):
        return self.tau.astype(scale.dtype)

    def variance(self, scale):
        return None

    def with_parameters(self, parameters):
        return self

    def total(self, error, kl, dimension, scale):
        return error + self.threshold(scale) * kl

    def loss_unit(self, dimension, scale):
        """The total variance of the data."""
        return dimension * scale**2


class LearnedNoise(AbstractDecoderNoise):
    """Equation (2); the parameter is ln(eta^2 / scale^2)."""

    beta: Scalar
    log_variance: Scalar

    def __init__(self, beta: Given, log_variance: Scalar | None = None):
        """Raises ValueError if beta is not one positive, finite number."""
        self.beta = _positive("beta", beta)
        self.log_variance = jnp.zeros((), jnp.float32) if log_variance is None else log_variance

    @property
    def parameters(self):
        return self.log_variance

    def threshold(self, scale):
        return self.beta.astype(scale.dtype) * self.variance(scale)

    def variance(self, scale):
        return scale**2 * jnp.exp(self.log_variance.astype(scale.dtype))

    def with_parameters(self, parameters):
        return LearnedNoise(self.beta, parameters)

    def total(self, error, kl, dimension, scale):
        variance, beta = self.variance(scale), self.beta.astype(scale.dtype)
        return error / variance + dimension / 2 * jnp.log(2 * jnp.pi * variance) + beta * kl

    def loss_unit(self, dimension, scale):
        """The number of features: the loss is nats per feature."""
        return jnp.full_like(scale, dimension)


def _positive(name: str, number: Given) -> Scalar:
    """One number; inside `jax.jit` it is not compared.

    Raises:
      ValueError: if it is not one number, or it is known and not positive and finite.
    """
    found = as_numbers(number)
    if found.shape != ():
        raise ValueError(f"{name} has shape {found.shape}: give one number")
    if not isinstance(found, Tracer) and not 0 < np.asarray(found) < np.inf:
        raise ValueError(f"{name} = {number}: must be positive and finite")
    return found
