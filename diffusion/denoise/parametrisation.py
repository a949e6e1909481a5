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

The score (alpha E[x_0 | x_t] - x_t) / sigma^2 is linear in x_t and f too,

    grad ln p_t(x_t) = a x_t + b f(input(t) x_t, t),   a = (alpha skip - 1) / sigma^2,   b = alpha scale / sigma^2,  (2)

where in the first, third and fourth sigma^2 cancels out of a: -1 / c^2, 0, -1 / n. So no small number is the difference
of large ones as t goes to 0.

The loss is the squared error of E, |E - x_0|^2 per number, times a weight of the time. Weights change how much of a
network goes to which noise, never what the exact answer is. With q = alpha^2 / sigma^2 the signal-to-noise ratio,

| weighting     | weight       | what it is                                                                            |
|---------------|--------------|---------------------------------------------------------------------------------------|
| OutputWeight  | 1 / scale^2  | the squared error of f itself                                                         |
| MeanWeight    | 1            | of x_0                                                                                |
| NoiseWeight   | q            | of z, DDPM's; times spread as `LogSNRSchedule` does make it the bound on likelihood   |
| MinSNRWeight  | min(q, g)    | of x_0, at small noise no more than g times (Hang et al., arXiv:2303.09556)           |

(The bound is -ln p(x_0) <= 1/2 int |E - x_0|^2 dq + const: Kingma, Salimans, Poole & Ho, arXiv:2107.00630.)
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..noise.gaussian import AbstractPath

Times = Float[Array, " batch"]


class AbstractParametrisation(eqx.Module):
    """The factors of equations (1) and (2)."""

    @abc.abstractmethod
    def factors(self, path: AbstractPath, t: Times) -> tuple[Times, Times, Times]:
        """skip, scale, input; dimensionless."""

    @abc.abstractmethod
    def score_factors(self, path: AbstractPath, t: Times) -> tuple[Times, Times]:
        """The factors of x_t and f in equation (2); dimensionless."""


class Preconditioned(AbstractParametrisation):
    """For data whose numbers have mean 0 and variance `data_std`^2, roughly."""

    data_std: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not 0 < self.data_std < math.inf:
            raise ValueError(f"data_std = {self.data_std}: must be positive and finite")

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = jnp.sqrt(alpha**2 * self.data_std**2 + sigma**2)
        return alpha * self.data_std**2 / total**2, sigma * self.data_std / total, 1 / total

    def score_factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        square = alpha**2 * self.data_std**2 + sigma**2
        return -1 / square, alpha * self.data_std / (sigma * jnp.sqrt(square))


class PredictMean(AbstractParametrisation):
    """The network gives the mean of x_0 itself."""

    def factors(self, path, t):
        return jnp.zeros_like(t), jnp.ones_like(t), jnp.ones_like(t)

    def score_factors(self, path, t):
        variance = path.sigma(t) ** 2
        return -1 / variance, path.alpha(t) / variance


class PredictNoise(AbstractParametrisation):
    """The network gives the mean of z, as DDPM's does; errors at large noise are multiplied by sigma / alpha."""

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        return 1 / alpha, -sigma / alpha, jnp.ones_like(t)

    def score_factors(self, path, t):
        return jnp.zeros_like(t), -1 / path.sigma(t)


class PredictVelocity(AbstractParametrisation):
    """The network gives the mean of alpha z - sigma x_0 (Salimans & Ho, arXiv:2202.00512)."""

    def factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha**2 + sigma**2
        return alpha / total, -sigma / total, jnp.ones_like(t)

    def score_factors(self, path, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha**2 + sigma**2
        return -1 / total, -alpha / (sigma * total)


class AbstractWeighting(eqx.Module):
    """How much the squared error of the mean of x_0 counts at a time."""

    @abc.abstractmethod
    def factor(self, path: AbstractPath, t: Times, scale: Times) -> Times:
        """What the squared error of f is multiplied by, scale^2 times the weight; dimensionless, not negative."""


class OutputWeight(AbstractWeighting):
    """The squared error of the network's output."""

    def factor(self, path, t, scale):
        return jnp.ones_like(t)


class MeanWeight(AbstractWeighting):
    """The squared error of x_0, large noise above all."""

    def factor(self, path, t, scale):
        return scale**2


class NoiseWeight(AbstractWeighting):
    """The squared error of z, small noise above all."""

    def factor(self, path, t, scale):
        return (scale * path.alpha(t) / path.sigma(t)) ** 2


class MinSNRWeight(AbstractWeighting):
    """The squared error of x_0 times the signal-to-noise ratio, at most `largest`."""

    largest: float = eqx.field(static=True, default=5.0)

    def __check_init__(self):
        if not self.largest > 0:
            raise ValueError(f"largest = {self.largest}: must be positive")

    def factor(self, path, t, scale):
        return scale**2 * jnp.minimum((path.alpha(t) / path.sigma(t)) ** 2, self.largest)
