r"""What a law of data is: something that draws data, with what made them; and one whose noised law is known too.

    x, latent ~ law,            x_t = alpha x + sigma z,   z ~ N(0, 1)                                             (1)

Every law can be trained on (`diffusion.Fresh`), noised and sampled. To add one, subclass `AbstractLaw` and write
`sample`; if the density of (1) is known in closed form, subclass `AbstractNoisedLaw`.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped

from .arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole

Shape = Whole | Sequence[Whole]
"""How many draws, as a user says it: a number, or the lengths of an array of them."""

POINTS_AT_ONCE = 2048
"""Points that `over_rows` computes together. From 4096 on XLA's simplification of sums gave wrong densities on CPUs
(jax 0.10 and 0.12, by .004 nats and more: a term was taken twice, another left out); smaller arrays are right."""


class Sample(eqx.Module):
    """Drawn data and what made them. Batch axes come first."""

    x: Shaped[Array, "..."]
    """The data, batch axes before those of a datum."""
    latent: Any
    """What made each: a derivation, a component, a position on a manifold, physical parameters; None if nothing."""


class AbstractLaw(eqx.Module):
    """A law of data."""

    @abc.abstractmethod
    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Independent draws, an array of them of the given shape; () is one datum."""


class AbstractNoisedLaw(AbstractLaw):
    """A law of vectors of d numbers whose density is known, also with Gaussian noise added.

    Functions of x take (..., d): the last axis is a datum, axes before it are a batch.
    """

    @abc.abstractmethod
    def noised(self, alpha: Given, sigma: Given) -> "AbstractNoisedLaw":
        """The law of x_t, equation (1), for one alpha and one sigma."""

    @abc.abstractmethod
    def log_prob(self, x: Given) -> Float[Array, "*batch"]:
        """ln p(x), nats."""

    @abc.abstractmethod
    def score(self, x: Given) -> Float[Array, "*batch d"]:
        """grad ln p(x)."""

    @abc.abstractmethod
    def hessian_vector(self, x: Given, v: Given) -> Float[Array, "*batch d"]:
        """The Hessian of ln p at x times v."""

    @abc.abstractmethod
    def laplacian(self, x: Given) -> Float[Array, "*batch"]:
        """The trace of that Hessian."""


def one_noise(alpha: Given, sigma: Given, dtype: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """alpha and sigma of equation (1) as floats.

    Raises:
      ValueError: if one of them is several numbers.
    """
    alpha, sigma = (as_numbers(number, dtype) for number in (alpha, sigma))
    for name, number in (("alpha", alpha), ("sigma", sigma)):
        if number.shape != ():
            raise ValueError(f"{name} has shape {number.shape}: give one number, or vmap over several")
    return alpha, sigma


def sample_each(draw: Callable[[Key[Array, ""]], Sample], key: AnyKey, shape: Shape) -> Sample:
    """Independent calls of `draw`, which draws one datum, as an array of draws of the given shape.

    Args:
      draw: compiled once if it is a method of a law, whose arrays are then arguments; else at every call.

    Raises:
      ValueError: if a length of `shape` is not positive.
    """
    key, shape = as_key(key), check_shape(shape)
    if shape == ():
        return _drawn(draw, key)
    rows = _drawn_rows(draw, jax.random.split(key, math.prod(shape)))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), rows)


@eqx.filter_jit
def _drawn(draw: Callable[[Key[Array, ""]], Sample], key: Key[Array, ""]) -> Sample:
    return draw(key)


@eqx.filter_jit
def _drawn_rows(draw: Callable[[Key[Array, ""]], Sample], keys: Key[Array, " rows"]) -> Sample:
    return jax.vmap(draw)(keys)


@eqx.filter_jit
def over_batch(function: Callable[..., Array], signature: str, *arguments: Array) -> Array:
    """A function of one datum over the leading axes of its arguments, as `jnp.vectorize`, in one program.

    Args:
      function: compiled once if it is a method of a law, whose arrays are then arguments; else at every call.
    """
    return jnp.vectorize(function, signature=signature)(*arguments)


@eqx.filter_jit
def over_rows(function: Callable[..., Array], *rows: Array) -> Array:
    """A function of one datum over the first axis of its arguments, in blocks of `POINTS_AT_ONCE`, in one program.

    Args:
      function: compiled once if it is a method of a law, whose arrays are then arguments; else at every call.
    """
    return jax.lax.map(lambda row: function(*row), rows, batch_size=min(POINTS_AT_ONCE, max(1, len(rows[0]))))


def check_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of Python integers; a single length may be given as a number.

    Raises:
      ValueError: if a length is no positive whole number.
    """
    lengths = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    try:
        return tuple(as_whole("length", length, 1) for length in lengths)
    except ValueError as error:
        raise ValueError(f"shape = {shape}: give positive whole numbers") from error
