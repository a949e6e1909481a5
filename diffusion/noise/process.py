r"""Noise processes: how a datum is destroyed, and what a noised site still says about the clean one.

A process acts on every site of a string, or every number of an array, independently. A process on strings is read in
two ways at noise time t,

    corrupt          draw x_t ~ q(. | x_0),                                                                      (1)
    log_likelihood   the *evidence* log q(x_t | x_0 = x) of every symbol x, in nats,                             (2)

and a channel can be run backwards. Given the posterior p(x_0 | x_t) of one site, its exact reverse law is

    p(x_s | x_t) = sum_x q(x_s | x_t, x_0 = x) p(x_0 = x | x_t),   s < t,                                        (3)

and `reverse_step` draws from it, all sites at once. Sites are drawn independently, so a step is exact for one site and
has an error of second order in t - s for the string.

| process         | of      | t                           | x_t                              | range of t |
|-----------------|---------|-----------------------------|----------------------------------|------------|
| Masking         | strings | masked fraction             | x_0, or the mask symbol v        | [0, 1]     |
| UniformNoise    | strings | replaced fraction           | x_0, or a uniform symbol         | [0, 1]     |
| EpsilonBelief   | strings | epsilon                     | x_0; only the belief in it fades | [0, 1]     |
| GaussianProcess | strings | Ornstein-Uhlenbeck time     | alpha e_x + sigma z, a v-vector  | [0, inf)   |
| VectorProcess   | arrays  | Ornstein-Uhlenbeck time     | alpha x_0 + sigma z              | [0, inf)   |

Noise grows with t. The two Gaussian ones are in `gaussian.py`.
"""

import abc
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Key, Shaped

Time = Float[Array, ""] | float
Datum = Shaped[Array, "*datum"]
Corrupted = Shaped[Array, "sites *vector"]
Posterior = Float[Array, "*posterior"]


class AbstractProcess(eqx.Module):
    """A noise process, on each part of a datum on its own."""

    max_time: ClassVar[float]
    """The largest t, at which nothing of x_0 is left, or next to nothing."""

    @abc.abstractmethod
    def corrupt(self, key: Key[Array, ""], x0: Datum, t: Time) -> Datum:
        """Draw the noised datum, equation (1)."""


class AbstractTokenProcess(AbstractProcess):
    """A noise process on strings of the symbols 0 .. num_symbols - 1, each site on its own."""

    num_symbols: eqx.AbstractVar[int]

    @abc.abstractmethod
    def log_likelihood(self, x_t: Corrupted, t: Time) -> Float[Array, "sites v"]:
        """Evidence of each site, equation (2), nats; `-inf` where the channel excludes a symbol."""


class AbstractChannel(AbstractProcess):
    """A process that is a probability law of x_t given x_0, so that it can be run backwards."""

    @abc.abstractmethod
    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Datum:
        """Draw x_t at `max_time`, where nothing of x_0 is left; `shape` is that of x_0."""

    @abc.abstractmethod
    def reverse_step(self, key: Key[Array, ""], posterior: Posterior, x_t: Datum, t: Time, s: Time) -> Datum:
        """Draw x_s given x_t, 0 <= s < t; `posterior` is what a denoiser says of x_t.

        For strings log p(x_0 | x_t) of each site (sites, v), and equation (3); for arrays the mean of x_0.
        """

    @abc.abstractmethod
    def decode(self, x_s: Datum) -> Datum:
        """The clean datum that a noised one at s = 0 is."""


def check_num_symbols(num_symbols: int) -> None:
    if num_symbols < 2:
        raise ValueError(f"num_symbols = {num_symbols}: a string needs at least 2 symbols")
