r"""Markov chains: strings whose sites depend on the site before, and on nothing else. A control without hierarchy.

    p(x) = p_1(x_1) prod_i T_i(x_i | x_(i-1)),                                                                     (1)

with a transition table for every site, so that a chain can have the law of every pair of neighbours that other strings
have (`matched_chain`) and nothing of what reaches further.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key


class MarkovChain(eqx.Module):
    """The law (1)."""

    initial: Float[Array, " v"]
    """p_1; sums to 1."""
    transitions: Float[Array, "steps _v _v"]
    """T_i(x | y) at [i, y, x]; rows sum to 1. One step less than there are sites."""

    def __check_init__(self):
        v = len(self.initial)
        if self.transitions.shape[1:] != (v, v):
            raise ValueError(f"transitions are {self.transitions.shape}; {v} symbols need (sites - 1, {v}, {v})")

    @property
    def num_symbols(self) -> int:
        return len(self.initial)

    @property
    def num_sites(self) -> int:
        return len(self.transitions) + 1

    def sample(self, key: Key[Array, ""]) -> Int[Array, " sites"]:
        """One string."""
        noise = jax.random.gumbel(key, (self.num_sites, self.num_symbols), self.initial.dtype)
        first = jnp.argmax(jnp.log(self.initial) + noise[0]).astype(jnp.int32)

        def step(symbol, inputs):
            table, noise = inputs
            symbol = jnp.argmax(jnp.log(table[symbol]) + noise).astype(jnp.int32)
            return symbol, symbol

        _, rest = jax.lax.scan(step, first, (self.transitions, noise[1:]))
        return jnp.concatenate([first[None], rest])

    def log_prob(self, x: Int[Array, " sites"]) -> Float[Array, ""]:
        """ln p(x), nats; `-inf` if impossible."""
        steps = jnp.log(self.transitions[jnp.arange(self.num_sites - 1), x[:-1], x[1:]])
        return jnp.log(self.initial[x[0]]) + jnp.sum(steps)


def matched_chain(strings: Int[Array, "n sites"], num_symbols: int) -> MarkovChain:
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
