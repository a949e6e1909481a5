r"""Noise processes: how a string is destroyed, and what a noised site still says about the clean one.

A process acts on every site independently. At noise time t it is read in two ways,

    corrupt          draw x_t ~ q(. | x_0),                                                                      (1)
    log_likelihood   the *evidence* log q(x_t | x_0 = x) of every symbol x, in nats,                             (2)

and a channel can be run backwards. Given the posterior p(x_0 | x_t) of one site, its exact reverse law is

    p(x_s | x_t) = sum_x q(x_s | x_t, x_0 = x) p(x_0 = x | x_t),   s < t,                                        (3)

and `reverse_step` draws from it, all sites at once. Sites are drawn independently, so a step is exact for one site and
has an error of second order in t - s for the string.

| process         | t                           | x_t                              | range of t |
|-----------------|-----------------------------|----------------------------------|------------|
| Masking         | masked fraction             | x_0, or the mask symbol v        | [0, 1]     |
| UniformNoise    | replaced fraction           | x_0, or a uniform symbol         | [0, 1]     |
| GaussianProcess | Ornstein-Uhlenbeck time     | alpha e_x + sigma z, a v-vector  | [0, inf)   |
| EpsilonBelief   | epsilon                     | x_0; only the belief in it fades | [0, 1]     |

Noise grows with t. Gaussian times are Ornstein-Uhlenbeck (OU) times on every path: t is defined by the
signal-to-noise ratio alpha^2 / sigma^2 = 1 / (e^{2t} - 1), so variance-preserving and -exploding runs share one clock.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

Time = Float[Array, ""] | float
Corrupted = Shaped[Array, "sites *vector"]


class AbstractProcess(eqx.Module):
    """A noise process on strings of the symbols 0 .. num_symbols - 1, each site on its own."""

    num_symbols: eqx.AbstractVar[int]
    max_time: ClassVar[float]
    """The largest t, at which nothing of x_0 is left, or next to nothing."""

    @abc.abstractmethod
    def corrupt(self, key: Key[Array, ""], x0: Int[Array, " sites"], t: Time) -> Corrupted:
        """Draw the noised string, equation (1)."""

    @abc.abstractmethod
    def log_likelihood(self, x_t: Corrupted, t: Time) -> Float[Array, "sites v"]:
        """Evidence of each site, equation (2), nats; `-inf` where the channel excludes a symbol."""


class AbstractChannel(AbstractProcess):
    """A process that is a probability law of x_t given x_0, so that it can be run backwards."""

    @abc.abstractmethod
    def prior(self, key: Key[Array, ""], num_sites: int) -> Corrupted:
        """Draw x_t at `max_time`, where nothing of x_0 is left."""

    @abc.abstractmethod
    def reverse_step(
        self,
        key: Key[Array, ""],
        log_probs: Float[Array, "sites v"],
        x_t: Corrupted,
        t: Time,
        s: Time,
    ) -> Corrupted:
        """Draw x_s from equation (3), where `log_probs` = log p(x_0 | x_t) per site and 0 <= s < t."""

    @abc.abstractmethod
    def decode(self, x_s: Corrupted) -> Int[Array, " sites"]:
        """The symbols of a string at s = 0."""


class Masking(AbstractChannel):
    """Each site is hidden with probability t: it becomes the mask symbol `num_symbols`."""

    num_symbols: int = eqx.field(static=True)
    max_time: ClassVar[float] = 1.0

    def __check_init__(self):
        _check_num_symbols(self.num_symbols)

    def corrupt(self, key, x0, t):
        return jnp.where(jax.random.bernoulli(key, t, x0.shape), self.num_symbols, x0)

    def log_likelihood(self, x_t, t):
        t = jnp.asarray(t)
        shown = jnp.where(_is_symbol(x_t, self.num_symbols), jnp.log1p(-t), -jnp.inf)
        return jnp.where(x_t[:, None] == self.num_symbols, jnp.log(t), shown)

    def prior(self, key, num_sites):
        return jnp.full(num_sites, self.num_symbols, jnp.int32)

    def reverse_step(self, key, log_probs, x_t, t, s):
        symbol_key, show_key = jax.random.split(key)
        x0 = jax.random.categorical(symbol_key, log_probs).astype(x_t.dtype)
        show = jax.random.bernoulli(show_key, (t - s) / t, x_t.shape)
        return jnp.where((x_t == self.num_symbols) & show, x0, x_t)

    def decode(self, x_s):
        return x_s


class UniformNoise(AbstractChannel):
    """Each site is replaced with probability t by a uniformly drawn symbol (possibly itself): uniform D3PM.

    The keep-probability of the papers is a = 1 - t.
    """

    num_symbols: int = eqx.field(static=True)
    max_time: ClassVar[float] = 1.0

    def __check_init__(self):
        _check_num_symbols(self.num_symbols)

    def corrupt(self, key, x0, t):
        replace_key, symbol_key = jax.random.split(key)
        noise = jax.random.randint(symbol_key, x0.shape, 0, self.num_symbols, x0.dtype)
        return jnp.where(jax.random.bernoulli(replace_key, t, x0.shape), noise, x0)

    def log_likelihood(self, x_t, t):
        t = jnp.asarray(t)
        evidence = jnp.log(jnp.where(_is_symbol(x_t, self.num_symbols), 1 - t, 0.0) + t / self.num_symbols)
        return jnp.where(((x_t >= 0) & (x_t < self.num_symbols))[:, None], evidence, -jnp.inf)

    def prior(self, key, num_sites):
        return jax.random.randint(key, (num_sites,), 0, self.num_symbols, jnp.int32)

    def reverse_kernel(
        self,
        cavity_log_probs: Float[Array, "sites v"],
        x_t: Int[Array, " sites"],
        t: Time,
        s: Time,
    ) -> Float[Array, "sites v"]:
        """Log probabilities of x_s given x_t: proportional to q(x_t | x_s) sum_x q(x_s | x) c(x).

        c is the *cavity*, p(x_0 | x_t at the other sites): the site's own evidence enters through q(x_t | x_s), and
        putting the full posterior here counts it twice (derivation: Bayes' rule on the chain x_0 -> x_s -> x_t).
        """
        keep = (1 - t) / (1 - s)
        likelihood = jnp.where(_is_symbol(x_t, self.num_symbols), keep, 0) + (1 - keep) / self.num_symbols
        predictive = (1 - s) * jax.nn.softmax(cavity_log_probs) + s / self.num_symbols
        return jax.nn.log_softmax(jnp.log(likelihood * predictive))

    def reverse_step(self, key, log_probs, x_t, t, s):
        kernel = self.reverse_kernel(cavity(log_probs, self.log_likelihood(x_t, t)), x_t, t, s)
        return jax.random.categorical(key, kernel).astype(x_t.dtype)

    def decode(self, x_s):
        return x_s


class AbstractPath(eqx.Module):
    """The two numbers of Gaussian noise, x_t = alpha(t) x_0 + sigma(t) z, with t in OU units."""

    @abc.abstractmethod
    def alpha(self, t: Time) -> Float[Array, ""]: ...

    @abc.abstractmethod
    def sigma(self, t: Time) -> Float[Array, ""]: ...


class VariancePreserving(AbstractPath):
    """The Ornstein-Uhlenbeck path: alpha = e^-t, sigma^2 = 1 - e^-2t (DDPM: alpha^2 = abar)."""

    def alpha(self, t):
        return jnp.exp(-jnp.asarray(t))

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(-2 * jnp.asarray(t)))


class VarianceExploding(AbstractPath):
    """alpha = 1, sigma^2 = e^2t - 1."""

    def alpha(self, t):
        return jnp.ones_like(jnp.asarray(t))

    def sigma(self, t):
        return jnp.sqrt(jnp.expm1(2 * jnp.asarray(t)))


class GaussianProcess(AbstractChannel):
    """Gaussian noise on one-hot vectors: x_t = alpha e_x + sigma z; t > 0 where evidence is asked for."""

    num_symbols: int = eqx.field(static=True)
    path: AbstractPath = VariancePreserving()
    max_time: ClassVar[float] = 8.0  # signal-to-noise ratio 1e-7

    def __check_init__(self):
        _check_num_symbols(self.num_symbols)

    def corrupt(self, key, x0, t):
        t = jnp.asarray(t)
        noise = jax.random.normal(key, (*x0.shape, self.num_symbols), t.dtype)
        return self.path.alpha(t) * jax.nn.one_hot(x0, self.num_symbols, dtype=t.dtype) + self.path.sigma(t) * noise

    def log_likelihood(self, x_t, t):
        alpha, variance = self.path.alpha(t), self.path.sigma(t) ** 2
        # |x_t - alpha e_x|^2 = |x_t|^2 - 2 alpha x_t[x] + alpha^2
        distance = jnp.sum(x_t**2, -1, keepdims=True) - 2 * alpha * x_t + alpha**2
        return -distance / (2 * variance) - self.num_symbols / 2 * jnp.log(2 * jnp.pi * variance)

    def prior(self, key, num_sites):
        return self.path.sigma(self.max_time) * jax.random.normal(key, (num_sites, self.num_symbols))

    def reverse_step(self, key, log_probs, x_t, t, s):
        symbol_key, noise_key = jax.random.split(key)
        x0 = jax.nn.one_hot(jax.random.categorical(symbol_key, log_probs), self.num_symbols, dtype=x_t.dtype)
        path = self.path
        ratio = path.alpha(t) / path.alpha(s)
        variance_t, variance_s = path.sigma(t) ** 2, path.sigma(s) ** 2
        added = variance_t - ratio**2 * variance_s  # variance of x_t given x_s
        mean = (ratio * variance_s * x_t + path.alpha(s) * added * x0) / variance_t
        noise = jax.random.normal(noise_key, x_t.shape, x_t.dtype)
        return mean + jnp.sqrt(variance_s * added / variance_t) * noise

    def decode(self, x_s):
        return jnp.argmax(x_s, -1).astype(jnp.int32)


class EpsilonBelief(AbstractProcess):
    """Not a channel: the string stays, and every site believes in its symbol with 1 - eps + eps/v, eps/v in others.

    The process that annealed mean field solves (Sclocchi, Favero & Wyart, arXiv:2402.16991); t is eps.
    """

    num_symbols: int = eqx.field(static=True)
    max_time: ClassVar[float] = 1.0

    def __check_init__(self):
        _check_num_symbols(self.num_symbols)

    def corrupt(self, key, x0, t):
        return x0

    def log_likelihood(self, x_t, t):
        return UniformNoise(self.num_symbols).log_likelihood(x_t, t)


def cavity(log_probs: Float[Array, "*sites v"], evidence: Float[Array, "*sites v"]) -> Float[Array, "*sites v"]:
    """What the other sites say of each site: the posterior with the site's own evidence divided out, normalised.

    `evidence` must be finite (it is for uniform noise at t > 0 and for Gaussian noise); where the posterior is `-inf`
    the cavity is.
    """
    return jax.nn.log_softmax(log_probs - evidence)


def _is_symbol(x: Int[Array, " sites"], num_symbols: int) -> Bool[Array, "sites v"]:
    return jax.nn.one_hot(x, num_symbols, dtype=bool)


def _check_num_symbols(num_symbols: int) -> None:
    if num_symbols < 2:
        raise ValueError(f"num_symbols = {num_symbols}: a string needs at least 2 symbols")
