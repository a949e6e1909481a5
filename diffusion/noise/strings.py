"""Noise on strings of discrete symbols: masking, uniform replacement, and beliefs that fade without noise.

The table of all processes is in `process.py`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hierarchical.arguments import NO_SYMBOL, as_symbols

from .process import AbstractChannel, AbstractTokenProcess, Datum, Time, check_num_symbols, draw_symbols


class Masking(AbstractTokenProcess, AbstractChannel):
    """Each site is hidden with probability t: it becomes the mask symbol `num_symbols`."""

    num_symbols: int = eqx.field(static=True)

    def __check_init__(self):
        check_num_symbols(self.num_symbols)

    def noised(self, x_t):
        return as_symbols(x_t, self.num_symbols, "x_t", masked=True)

    def draw_noised(self, key, x0, t):
        masked = jax.random.bernoulli(key, jnp.broadcast_to(t, x0.shape))
        return _where_known(t, jnp.where(masked & (x0 >= 0), self.num_symbols, x0))

    def site_evidence(self, x_t, t):
        t = _per_symbol(t)
        shown = jnp.where(is_symbol(x_t, self.num_symbols), jnp.log1p(-t), -jnp.inf)
        return jnp.where((x_t == self.num_symbols)[..., None], jnp.log(t), shown)

    def prior(self, key, shape, t):
        return jnp.full(shape, self.num_symbols, jnp.int32)

    def reverse_step(self, key, posterior, x_t, t, s):
        symbol_key, show_key = jax.random.split(key)
        x0 = draw_symbols(symbol_key, posterior)
        show = jax.random.bernoulli(show_key, (t - s) / t, x_t.shape)
        return jnp.where((x_t == self.num_symbols) & show, x0, x_t)

    def decode(self, x_s):
        return jnp.where(x_s == self.num_symbols, NO_SYMBOL, x_s)  # nothing is masked at s = 0


class UniformNoise(AbstractTokenProcess, AbstractChannel):
    """Each site is replaced with probability t by a uniformly drawn symbol (possibly itself): uniform D3PM.

    The keep-probability of the papers is a = 1 - t.
    """

    num_symbols: int = eqx.field(static=True)

    def __check_init__(self):
        check_num_symbols(self.num_symbols)

    def draw_noised(self, key, x0, t):
        replace_key, symbol_key = jax.random.split(key)
        noise = jax.random.randint(symbol_key, x0.shape, 0, self.num_symbols, x0.dtype)
        replaced = jax.random.bernoulli(replace_key, jnp.broadcast_to(t, x0.shape))
        return _where_known(t, jnp.where(replaced & (x0 >= 0), noise, x0))

    def site_evidence(self, x_t, t):
        return uniform_log_likelihood(self.num_symbols, x_t, t)

    def prior(self, key, shape, t):
        return jax.random.randint(key, shape, 0, self.num_symbols, jnp.int32)

    def reverse_kernel(
        self,
        cavity_log_probs: Float[Array, "sites v"],
        x_t: Int[Array, " sites"],
        t: Float[Array, ""],
        s: Float[Array, ""],
    ) -> Float[Array, "sites v"]:
        """Log probabilities of x_s given x_t: proportional to q(x_t | x_s) sum_x q(x_s | x) c(x).

        c is the *cavity*, p(x_0 | x_t at the other sites): the site's own evidence enters through q(x_t | x_s), and
        putting the full posterior here counts it twice (derivation: Bayes' rule on the chain x_0 -> x_s -> x_t).
        """
        keep = (1 - t) / (1 - s)
        likelihood = jnp.where(is_symbol(x_t, self.num_symbols), keep, 0) + (1 - keep) / self.num_symbols
        predictive = (1 - s) * jax.nn.softmax(cavity_log_probs) + s / self.num_symbols
        return jax.nn.log_softmax(jnp.log(likelihood * predictive))

    def reverse_step(self, key, posterior, x_t, t, s):
        kernel = self.reverse_kernel(cavity(posterior, self.site_evidence(x_t, t)), x_t, t, s)
        return jnp.where(x_t >= 0, draw_symbols(key, kernel), NO_SYMBOL)

    def decode(self, x_s):
        return x_s


class EpsilonBelief(AbstractTokenProcess):
    """Not a channel: the string stays, and every site believes in its symbol with 1 - eps + eps/v, eps/v in others.

    The process that annealed mean field solves; t is eps.

    Source: Sclocchi, Favero & Wyart, arXiv:2402.16991.
    """

    num_symbols: int = eqx.field(static=True)

    def __check_init__(self):
        check_num_symbols(self.num_symbols)

    def draw_noised(self, key, x0, t):
        return _where_known(t, x0)

    def site_evidence(self, x_t, t):
        return uniform_log_likelihood(self.num_symbols, x_t, t)


def uniform_log_likelihood(num_symbols: int, x_t: Datum, t: Time) -> Float[Array, "*batch sites v"]:
    """ln((1 - t) [x = x_t] + t / v), nats; `-inf` throughout where x_t is no symbol."""
    t = _per_symbol(t)
    evidence = jnp.log(jnp.where(is_symbol(x_t, num_symbols), 1 - t, 0.0) + t / num_symbols)
    return jnp.where(((x_t >= 0) & (x_t < num_symbols))[..., None], evidence, -jnp.inf)


def cavity(log_probs: Float[Array, "*sites v"], evidence: Float[Array, "*sites v"]) -> Float[Array, "*sites v"]:
    """What the other sites say of each site: the posterior with the site's own evidence divided out, normalised.

    `evidence` must be finite (it is for uniform noise at t > 0 and for Gaussian noise); where the posterior is `-inf`
    the cavity is.
    """
    return jax.nn.log_softmax(log_probs - evidence)


def is_symbol(x: Int[Array, "*sites"], num_symbols: int) -> Bool[Array, "*sites v"]:
    """Which symbol stands at a site; none where there is none."""
    return jax.nn.one_hot(x, num_symbols, dtype=bool)


def _per_symbol(t: Time) -> Time:
    """Times of sites with an axis for symbols; one time for all stays as it is."""
    t = jnp.asarray(t)
    return t[..., None] if t.ndim else t


def _where_known(t: Time, x_t: Datum) -> Datum:
    """Noised symbols; none where the time is NaN, out of range."""
    return jnp.where(jnp.isnan(t), NO_SYMBOL, x_t)
