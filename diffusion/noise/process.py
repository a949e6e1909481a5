r"""Noise processes: how a datum x_0 becomes x_t, and the evidence that x_t gives for x_0.

A process acts on every part of a datum on its own. It corrupts,

    x_t ~ q(x_t | x_0),                                                                                            (1)

and, on strings, it judges what it may have corrupted: the *evidence* of a site is

    ln q(x_t^i | x_0^i = x)      of every symbol x, in nats,                                                       (2)

and a channel can be run backwards. Given the posterior p(x_0 | x_t) of one site, its exact reverse law is

    p(x_s | x_t) = sum_x q(x_s | x_t, x_0 = x) p(x_0 = x | x_t),   s < t,                                          (3)

and `reverse_step` draws from it, all sites at once. Sites are drawn independently, so a step is exact for one site and
has an error of second order in t - s for the string.

| process         | of      | t                           | x_t                              | range of t |
|-----------------|---------|-----------------------------|----------------------------------|------------|
| Masking         | strings | masked fraction             | x_0, or the mask symbol v        | [0, 1]     |
| UniformNoise    | strings | replaced fraction           | x_0, or a uniform symbol         | [0, 1]     |
| EpsilonBelief   | strings | epsilon                     | x_0; only the belief in it fades | [0, 1]     |
| GaussianProcess | strings | Ornstein-Uhlenbeck time     | alpha e_x + sigma z, a v-vector  | (0, 40]    |
| VectorProcess   | arrays  | Ornstein-Uhlenbeck time     | alpha x_0 + sigma z              | [0, 40]    |

Noise grows with t. Data may have batch axes before their own; t is one number, or an array whose axes are the first of
those. Strings are int32 once noised, whatever integers they were; arrays are float32 or float64. A time or symbol out
of range raises ValueError where it is known; inside `jax.jit` it makes what follows from it `NO_SYMBOL` or NaN.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key, Shaped

from hierarchical.arguments import NO_SYMBOL, AnyKey, Given, as_key, as_numbers, as_symbols, at_least_float32

Time = Float[Array, "..."]
Datum = Shaped[Array, "..."]
Posterior = Float[Array, "..."]
Shape = tuple[int, ...]


class AbstractProcess(eqx.Module):
    """A noise process, on each part of a datum on its own."""

    max_time: ClassVar[float] = 1.0
    """The time at which nothing of x_0 is left, or next to nothing: where generation may begin."""
    last_time: ClassVar[float] = 1.0
    """The largest time that is allowed."""

    @abc.abstractmethod
    def clean(self, x0: Given) -> Datum:
        """Clean data as an array; what is wrong is refused, or marked inside `jax.jit`."""

    @abc.abstractmethod
    def noised(self, x_t: Given) -> Datum:
        """Noised data likewise."""

    @abc.abstractmethod
    def noised_shape(self, shape: Shape) -> Shape:
        """That of x_t, given that of x_0; both of one datum."""

    def corrupt(self, key: AnyKey, x0: Given, t: Given) -> Datum:
        """Draw the noised data, equation (1).

        Raises:
          ValueError: if a symbol or a time is out of range.
        """
        x0 = self.clean(x0)
        return self.draw_noised(as_key(key), x0, per_datum(self.time(t, x0), x0))

    def time(self, t: Given, beside: Datum | None = None) -> Time:
        """Times as floats: of the dtype of `beside` if those are floats, else of their own; NaN out of range.

        Never narrower than float32: in bfloat16 the times of neighbouring steps of a sampler are equal.

        Raises:
          ValueError: if a time is known and outside [0, last_time].
        """
        dtype = beside.dtype if beside is not None and jnp.issubdtype(beside.dtype, jnp.floating) else None
        t = at_least_float32(as_numbers(t, dtype))
        if isinstance(t, Tracer):
            return jnp.where((t >= 0) & (t <= self.last_time), t, jnp.nan)
        host = np.asarray(t)
        wrong = host[~((host >= 0) & (host <= self.last_time))]
        if wrong.size:
            raise ValueError(
                f"t = {wrong[0]} is not a time of {type(self).__name__}: give numbers in [0, {self.last_time:g}]"
            )
        return t

    @abc.abstractmethod
    def draw_noised(self, key: Key[Array, ""], x0: Datum, t: Time) -> Datum:
        """`corrupt` of checked data; t has as many axes as x0, or none."""


class AbstractTokenProcess(AbstractProcess):
    """A noise process on strings of the symbols 0 .. num_symbols - 1, each site on its own."""

    num_symbols: eqx.AbstractVar[int]

    def clean(self, x0):
        return as_symbols(x0, self.num_symbols, "x0")

    def noised(self, x_t):
        return as_symbols(x_t, self.num_symbols, "x_t")

    def noised_shape(self, shape):
        return shape

    def log_likelihood(self, x_t: Given, t: Given) -> Float[Array, "*batch sites v"]:
        """Evidence of each site, equation (2), nats; `-inf` where the channel excludes a symbol.

        Raises:
          ValueError: if a symbol or a time is out of range.
        """
        x_t = self.noised(x_t)
        return self.site_evidence(x_t, per_datum(self.time(t, x_t), x_t))

    @abc.abstractmethod
    def site_evidence(self, x_t: Datum, t: Time) -> Float[Array, "*batch sites v"]:
        """`log_likelihood` of checked data; t has as many axes as x_t, or none."""


class AbstractChannel(AbstractProcess):
    """A process that is a probability law of x_t given x_0, so that it can be run backwards."""

    @abc.abstractmethod
    def prior(self, key: Key[Array, ""], shape: Shape, t: Time) -> Datum:
        """Draw x_t where nothing of x_0 is left, as at t = `max_time`; `shape` is that of x_0, t one time."""

    @abc.abstractmethod
    def reverse_step(self, key: Key[Array, ""], posterior: Posterior, x_t: Datum, t: Time, s: Time) -> Datum:
        """Draw x_s given x_t, 0 <= s < t, for times that are one number; `posterior` is a denoiser's, given x_t.

        For strings log p(x_0 | x_t) of each site (sites, v), and equation (3); for arrays the mean of x_0.
        """

    @abc.abstractmethod
    def decode(self, x_s: Datum) -> Datum:
        """The clean datum that a noised one at s = 0 is."""


def per_datum(t: Shaped[Array, "..."], x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Times, or other numbers, with as many axes as the data they belong to; one for all stays as it is.

    Raises:
      ValueError: if their axes are not the first of the data's.
    """
    if t.ndim == 0:
        return t
    if t.shape != x.shape[: t.ndim]:
        raise ValueError(f"t has shape {t.shape}, the data {x.shape}: give one time, or one for each datum")
    return t.reshape(*t.shape, *[1] * (x.ndim - t.ndim))


def batch_axes(x: Shaped[Array, "..."], core: Shape, name: str) -> Shape:
    """Axes of data before those of one datum, `core`.

    Raises:
      ValueError: if the last axes are not `core`, or there is no datum.
    """
    batch = x.shape[: max(x.ndim - len(core), 0)]
    if x.shape[len(batch) :] != core:
        raise ValueError(f"{name} has shape {x.shape}: the last axes must be {core}")
    if 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}: it is empty, give at least one datum")
    return batch


def beside(numbers: Time, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Numbers that belong to data, with as many axes as they have and in their dtype."""
    return per_datum(numbers, x).astype(x.dtype)


def over_batch(t: Time, batch: Shape) -> Time:
    """A time for each datum of a batch, from one for all or one for each of its first axes.

    Raises:
      ValueError: if the axes of `t` are not the first of the batch.
    """
    if t.shape != batch[: t.ndim]:
        raise ValueError(f"t has shape {t.shape}, the batch {batch}: give one time, or one for each datum")
    return jnp.broadcast_to(t.reshape(*t.shape, *[1] * (len(batch) - t.ndim)), batch)


def draw_symbols(key: Key[Array, ""], log_probs: Float[Array, "*sites v"]) -> Int[Array, "*sites"]:
    """A symbol of each row, int32; `NO_SYMBOL` where a row is no law: NaN, infinite, or `-inf` throughout."""
    drawn = jax.random.categorical(key, log_probs).astype(jnp.int32)
    return jnp.where(jnp.isfinite(jnp.max(log_probs, -1)), drawn, NO_SYMBOL)


def check_num_symbols(num_symbols: Any) -> None:
    if not isinstance(num_symbols, int | np.integer) or not 2 <= num_symbols < 2**31 - 1:
        raise ValueError(f"num_symbols = {num_symbols}: a string needs at least 2 symbols, a whole number of them")
