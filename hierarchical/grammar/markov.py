r"""Markov chains: strings whose sites depend on the site before, and on nothing else. A control without hierarchy.

    p(x) = p_1(x_1) prod_i T_i(x_i | x_(i-1)),                                                                     (1)

with a transition table for every site, so that a chain can have the law of every pair of neighbours that other strings
have (`matched_chain`) and nothing of what reaches further.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..arguments import AnyKey, Given, as_numbers, as_symbols
from ..law import AbstractLaw, Sample, Shape, sample_each


class MarkovChain(AbstractLaw):
    """The law (1)."""

    initial: Float[Array, " v"]
    """p_1; sums to 1."""
    transitions: Float[Array, "steps _v _v"]
    """T_i(x | y) at [i, y, x]; rows sum to 1. One step less than there are sites."""

    def __init__(self, initial: Given, transitions: Given):
        """Raises ValueError if shapes do not fit, or a row does not hold probabilities that sum to 1."""
        self.initial, self.transitions = as_numbers(initial), as_numbers(transitions)
        v = len(self.initial)
        if self.transitions.ndim != 3 or self.transitions.shape[1:] != (v, v):
            raise ValueError(f"transitions are {self.transitions.shape}; {v} symbols need (sites - 1, {v}, {v})")
        for name, rows in (("initial", self.initial), ("transitions", self.transitions)):
            _check_probabilities(name, rows)

    @property
    def num_symbols(self) -> int:
        return len(self.initial)

    @property
    def num_sites(self) -> int:
        return len(self.transitions) + 1

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Strings; nothing is behind them, so `latent` is None."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key: Key[Array, ""]) -> Sample:
        noise = jax.random.gumbel(key, (self.num_sites, self.num_symbols), self.initial.dtype)
        first = jnp.argmax(jnp.log(self.initial) + noise[0]).astype(jnp.int32)

        def step(symbol, inputs):
            table, noise = inputs
            symbol = jnp.argmax(jnp.log(table[symbol]) + noise).astype(jnp.int32)
            return symbol, symbol

        _, rest = jax.lax.scan(step, first, (self.transitions, noise[1:]))
        return Sample(jnp.concatenate([first[None], rest]), None)

    def log_prob(self, x: Given) -> Float[Array, "*batch"]:
        """ln p(x), nats; `-inf` if impossible, inside `jax.jit` also where a symbol is outside the alphabet.

        Raises:
          ValueError: if a string has another length, or a symbol is outside 0 .. v - 1.
        """
        x = as_symbols(x, self.num_symbols)
        if x.shape[-1] != self.num_sites:
            raise ValueError(f"strings of this chain have {self.num_sites} sites, got shape {x.shape}")
        steps = jnp.log(self.transitions[jnp.arange(self.num_sites - 1), x[..., :-1], x[..., 1:]])
        total = jnp.log(self.initial[x[..., 0]]) + jnp.sum(steps, -1)
        return jnp.where(jnp.all(x >= 0, -1), total, -jnp.inf)


def _check_probabilities(name: str, rows: Float[Array, "*rows v"]) -> None:
    if isinstance(rows, Tracer):
        return
    host = np.asarray(rows, np.float64)
    sums = host.sum(-1)
    if not ((host >= 0).all() and np.allclose(sums, 1, atol=1e-5)):
        raise ValueError(
            f"{name} holds numbers from {host.min():.3g} and rows that sum to {sums.min():.3g} .. {sums.max():.3g}: "
            f"give probabilities, rows that sum to 1"
        )


def matched_chain(strings: Given, num_symbols: int) -> MarkovChain:
    """The chain with the pair statistics of neighbours that `strings` have: the most likely one for them.

    After a symbol that no string has at a site the next is uniform.

    Raises:
      ValueError: if there are fewer than 2 sites, or a symbol is outside 0 .. num_symbols - 1.
    """
    x = np.asarray(strings)
    if x.shape[1] < 2:
        raise ValueError("strings of one site have no neighbours: give at least 2 sites")
    if x.min() < 0 or x.max() >= num_symbols:
        raise ValueError(f"strings have symbols {x.min()} .. {x.max()}, expected 0 .. {num_symbols - 1}")
    v, sites = num_symbols, x.shape[1]
    codes = (np.arange(sites - 1)[None] * v + x[:, :-1]) * v + x[:, 1:]
    counts = np.bincount(codes.ravel(), minlength=(sites - 1) * v * v).reshape(sites - 1, v, v).astype(np.float64)
    totals = counts.sum(-1, keepdims=True)
    transitions = np.where(totals > 0, counts / np.maximum(totals, 1), 1 / v)
    initial = np.bincount(x[:, 0], minlength=v) / len(x)
    return MarkovChain(jnp.asarray(initial, float), jnp.asarray(transitions, float))
