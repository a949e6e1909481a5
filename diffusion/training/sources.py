"""Where training data come from: drawn anew from any law, drawn from a finite set, or all of a finite set at once."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Shaped

from hierarchical import AbstractLaw
from hierarchical.arguments import Given


class AbstractSource(eqx.Module):
    """A supply of data for training."""

    @abc.abstractmethod
    def batch(self, key: Key[Array, ""], size: int) -> Shaped[Array, "size *datum"]:
        """`size` data in random order: the noise times of a batch increase along it, see `train.draw_times`."""


class Fresh(AbstractSource):
    """An endless supply: every batch is drawn anew from the law."""

    law: AbstractLaw

    def batch(self, key, size):
        return self.law.sample(key, (size,)).x


class Finite(AbstractSource):
    """A finite set of strings or arrays, (n, *datum), drawn with replacement."""

    data: Shaped[Array, "n *datum"]

    def __init__(self, data: Given):
        """Raises ValueError if there are no data, or a number is NaN or infinite."""
        self.data = _finite(data)

    def batch(self, key, size):
        return self.data[jax.random.randint(key, (size,), 0, len(self.data))]


class Whole(AbstractSource):
    """A finite set, (n, *datum), every batch of which is the set itself, in order: for losses that draw nothing.

    Gradient descent is then deterministic. `train` refuses it, because a datum would meet the same noise times always.
    """

    data: Shaped[Array, "n *datum"]

    def __init__(self, data: Given):
        """Raises ValueError if there are no data, or a number is NaN or infinite."""
        self.data = _finite(data)

    def batch(self, key, size):
        if size != len(self.data):
            raise ValueError(f"batch_size = {size}, the whole set has {len(self.data)} data: make them equal")
        return self.data


def check_shape(source: AbstractSource, batch_size: int, shape: tuple[int, ...]) -> None:
    """Compare the shape of a datum with what a network takes; no data are drawn.

    Raises:
      ValueError: if they differ.
    """
    got = jax.eval_shape(lambda: source.batch(jax.random.key(0), batch_size)).shape[1:]
    if got != shape:
        raise ValueError(f"data have shape {got}, the network takes {shape}: make them agree")


def _finite(data: Given) -> Shaped[Array, "n *datum"]:
    data = data if isinstance(data, jax.Array) else np.asarray(data)
    if data.dtype == object or data.ndim < 2 or data.size == 0:
        raise ValueError(f"data have shape {data.shape}: give (n, ...) data of one shape, at least one")
    if jnp.issubdtype(data.dtype, jnp.floating) and not np.isfinite(np.asarray(data)).all():
        raise ValueError("data hold NaN or infinite numbers: remove those data")
    return jnp.asarray(data)
