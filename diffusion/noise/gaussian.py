r"""Gaussian noise, on arrays and on strings as one-hot vectors, and its two numbers alpha and sigma.

    x_t = alpha(t) x_0 + sigma(t) z,   z ~ N(0, 1)                                                               (1)

is all that a path is. t is an Ornstein-Uhlenbeck (OU) time on every path: it is defined by the signal-to-noise ratio
alpha^2 / sigma^2 = 1 / (e^{2t} - 1), so variance-preserving and -exploding runs share one clock. With a = alpha_t /
alpha_s and b = sigma_t^2 - a^2 sigma_s^2, the variance of x_t given x_s, the *bridge* from x_0 to x_t is (Bayes' rule)

    q(x_s | x_t, x_0) = N(x_s; (a sigma_s^2 x_t + alpha_s b x_0) / sigma_t^2, b sigma_s^2 / sigma_t^2).             (2)

Backwards, x_0 is drawn from its posterior (strings) or replaced by its mean (arrays). Every number then has the mean of
its exact reverse law; its variance lacks (alpha_s b / sigma_t^2)^2 Var(x_0 | x_t), of second order in t - s.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hierarchical.arguments import at_least_float32

from .process import AbstractChannel, AbstractTokenProcess, Datum, Time, check_num_symbols, draw_symbols

MAX_TIME = 8.0  # signal-to-noise ratio 1e-7
LAST_TIME = 40.0  # signal-to-noise ratio 1e-35, near the smallest float32


class AbstractPath(eqx.Module):
    """The two numbers of Gaussian noise, x_t = alpha(t) x_0 + sigma(t) z, with t in OU units."""

    @abc.abstractmethod
    def alpha(self, t: Time | float) -> Time: ...

    @abc.abstractmethod
    def sigma(self, t: Time | float) -> Time: ...

    @abc.abstractmethod
    def alpha_minus_one(self, t: Time | float) -> Time:
        """alpha(t) - 1 without cancellation at small t."""


class VariancePreserving(AbstractPath):
    """The Ornstein-Uhlenbeck path: alpha = e^-t, sigma^2 = 1 - e^-2t (DDPM: alpha^2 = abar)."""

    def alpha(self, t):
        return jnp.exp(-jnp.asarray(t))

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(-2 * jnp.asarray(t)))

    def alpha_minus_one(self, t):
        return jnp.expm1(-jnp.asarray(t))


class VarianceExploding(AbstractPath):
    """alpha = 1, sigma^2 = e^2t - 1."""

    def alpha(self, t):
        return jnp.ones_like(jnp.asarray(t)) + 0 * jnp.asarray(t)  # NaN where t is

    def sigma(self, t):
        return jnp.sqrt(jnp.expm1(2 * jnp.asarray(t)))

    def alpha_minus_one(self, t):
        return 0 * jnp.asarray(t)


class AbstractGaussianProcess(AbstractChannel):
    """Gaussian noise of either kind of datum."""

    path: eqx.AbstractVar[AbstractPath]
    max_time: ClassVar[float] = MAX_TIME
    last_time: ClassVar[float] = LAST_TIME


class GaussianProcess(AbstractTokenProcess, AbstractGaussianProcess):
    """Gaussian noise on one-hot vectors: x_t = alpha e_x + sigma z; t > 0 where evidence is asked for."""

    num_symbols: int = eqx.field(static=True)
    path: AbstractPath = VariancePreserving()

    def __check_init__(self):
        check_num_symbols(self.num_symbols)

    def noised(self, x_t):
        x_t = at_least_float32(x_t)
        if x_t.shape[-1:] != (self.num_symbols,):
            raise ValueError(f"x_t has shape {x_t.shape}: its last axis is the symbols, {self.num_symbols} of them")
        return x_t

    def noised_shape(self, shape):
        return (*shape, self.num_symbols)

    def draw_noised(self, key, x0, t):
        noise = jax.random.normal(key, (*x0.shape, self.num_symbols), t.dtype)
        t = t[..., None] if t.ndim else t
        return self.path.alpha(t) * self._one_hot(x0, t.dtype) + self.path.sigma(t) * noise

    def site_evidence(self, x_t, t):
        alpha, variance = self.path.alpha(t), self.path.sigma(t) ** 2
        # |x_t - alpha e_x|^2 = |x_t|^2 - 2 alpha x_t[x] + alpha^2
        distance = jnp.sum(x_t**2, -1, keepdims=True) - 2 * alpha * x_t + alpha**2
        return -distance / (2 * variance) - self.num_symbols / 2 * jnp.log(2 * jnp.pi * variance)

    def prior(self, key, shape, t):
        return self.path.sigma(t) * jax.random.normal(key, (*shape, self.num_symbols), jnp.asarray(t).dtype)

    def reverse_step(self, key, posterior, x_t, t, s):
        symbol_key, noise_key = jax.random.split(key)
        x0 = self._one_hot(draw_symbols(symbol_key, posterior), x_t.dtype)
        return _bridge(noise_key, self.path, x0, x_t, t, s)

    def decode(self, x_s):
        return jnp.where(jnp.isnan(jnp.sum(x_s, -1)), -1, jnp.argmax(x_s, -1)).astype(jnp.int32)

    def _one_hot(self, x: Datum, dtype) -> Datum:
        """e_x; NaN where there is no symbol."""
        return jnp.where((x >= 0)[..., None], jax.nn.one_hot(x, self.num_symbols, dtype=dtype), jnp.nan)


class VectorProcess(AbstractGaussianProcess):
    """Gaussian noise on arrays of any shape, equation (1)."""

    path: AbstractPath = VariancePreserving()

    def clean(self, x0):
        return at_least_float32(x0)

    def noised(self, x_t):
        return at_least_float32(x_t)

    def noised_shape(self, shape):
        return shape

    def draw_noised(self, key, x0, t):
        return self.path.alpha(t) * x0 + self.path.sigma(t) * jax.random.normal(key, x0.shape, x0.dtype)

    def prior(self, key, shape, t):
        return self.path.sigma(t) * jax.random.normal(key, shape, jnp.asarray(t).dtype)

    def reverse_step(self, key, posterior, x_t, t, s):
        return _bridge(key, self.path, posterior, x_t, t, s)

    def decode(self, x_s):
        return x_s


def log_ratio(t: Float[Array, "*times"]) -> Float[Array, "*times"]:
    """lambda = ln(alpha / sigma) = -ln(e^2t - 1) / 2, half the log signal-to-noise ratio, on every path; t > 0."""
    return -t - jnp.log(-jnp.expm1(-2 * t)) / 2


def time_of_log_ratio(ratio: Float[Array, "*times"]) -> Float[Array, "*times"]:
    """The inverse of `log_ratio`."""
    return jax.nn.softplus(-2 * ratio) / 2


def time_of_noise(s: float) -> float:
    """The time at which the noise beside data that are not shrunk, sigma / alpha, is s, on every path."""
    return math.log1p(s**2) / 2


def _bridge(
    key: Key[Array, ""],
    path: AbstractPath,
    x0: Float[Array, "*datum"],
    x_t: Float[Array, "*datum"],
    t: Time,
    s: Time,
) -> Float[Array, "*datum"]:
    """Draw from equation (2)."""
    ratio = path.alpha(t) / path.alpha(s)
    variance_t, variance_s = path.sigma(t) ** 2, path.sigma(s) ** 2
    added = variance_t - ratio**2 * variance_s
    mean = (ratio * variance_s * x_t + path.alpha(s) * added * x0.astype(x_t.dtype)) / variance_t
    return mean + jnp.sqrt(variance_s * added / variance_t) * jax.random.normal(key, x_t.shape, x_t.dtype)
