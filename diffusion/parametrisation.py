r"""What a network of arrays is asked for, and how the mean of x_0 follows from it.

With x_t = alpha x_0 + sigma z, the network's output f is read as

    E[x_0 | x_t] = skip(t) x_t + scale(t) f(input(t) x_t, t)                                                       (1)

| parametrisation | f estimates                    | skip          | scale              | input      |
|-----------------|--------------------------------|---------------|--------------------|------------|
| Preconditioned  | the rest, in units of its size | alpha s^2/c^2 | sigma s / c        | 1 / c      |
| PredictMean     | x_0                            | 0             | 1                  | 1          |
| PredictNoise    | z                              | 1 / alpha     | -sigma / alpha     | 1          |
| PredictVelocity | v = alpha z - sigma x_0        | alpha / n     | -sigma / n         | 1          |

where s^2 is the variance of the data per number, c^2 = alpha^2 s^2 + sigma^2 that of x_t, and n = alpha^2 + sigma^2.
In the first, skip x_t is the best linear estimate of data with independent numbers and f has to supply the rest, with
inputs and targets of variance 1 at all times (Karras et al., arXiv:2206.00364, for alpha = 1; the same derivation holds
for any alpha). On a variance-preserving path and s = 1 it is the velocity with its sign turned.

The loss is the squared error of f, |E - x_0|^2 / scale^2 per number.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .gaussian import AbstractPath

Times = Float[Array, " batch"]


class AbstractParametrisation(eqx.Module):
    """The three factors of equation (1)."""

    @abc.abstractmethod
    def factors(self, path: AbstractPath, t: Times) -> tuple[Times, Times, Times]:
        """skip, scale, input; dimensionless."""


class Preconditioned(AbstractParametrisation):
    """For data whose numbers have mean 0 and variance `data_std`^2, roughly."""

    data_std: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not self.data_std > 0:
            raise ValueError(f"data_std = {self.data_std}: must be positive")

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = jnp.sqrt(alpha**2 * self.data_std**2 + sigma**2)
        return alpha * self.data_std**2 / total**2, sigma * self.data_std / total, 1 / total


class PredictMean(AbstractParametrisation):
    """The network gives the mean of x_0 itself."""

    def factors(self, path, t):
        return jnp.zeros_like(t), jnp.ones_like(t), jnp.ones_like(t)


class PredictNoise(AbstractParametrisation):
    """The network gives the mean of z, as DDPM's does; errors at large noise are multiplied by sigma / alpha."""

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        return 1 / alpha, -sigma / alpha, jnp.ones_like(t)


class PredictVelocity(AbstractParametrisation):
    """The network gives the mean of alpha z - sigma x_0 (Salimans & Ho, arXiv:2202.00512)."""

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha**2 + sigma**2
        return alpha / total, -sigma / total, jnp.ones_like(t)
