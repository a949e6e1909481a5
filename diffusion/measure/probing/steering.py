r"""Moving what states say of a symbol, to see what a network does with it; a probe says what can be read off them.

States h are regressed on probabilities p of a symbol,

    h ~ W p + c,                                                                                                   (1)

so that a state goes from the belief p to certainty of the symbol b by

    strength W (e_b - p).                                                                                          (2)

A probe of `linear.py` goes from states to beliefs, and its weights tell beliefs apart whatever else states hold; W is
how far states lie from each other, on average, where beliefs differ. Probabilities sum to 1, so one direction of W is
not determined by (1); e_b - p has no part along it. Where states are linear in beliefs, (2) at strength 1 gives exactly
the state of one who is certain of b. Where beliefs were estimated with noise, or states hold several at once, W is too
small or points at what goes along with the symbol: hence strengths other than 1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical.arguments import NO_SYMBOL, Given, as_numbers, as_widest, mark_symbols

from .linear import fit_probe


class Directions(eqx.Module):
    """W of equation (1), or one for each place of leading axes."""

    weights: Float[Array, "*batch symbols width"]


class Shift(eqx.Module):
    """Adds to the states of one layer: a change for `NetworkDenoiser.steered`."""

    layer: str = eqx.field(static=True)
    move: Float[Array, "strings nodes width"]
    """Of one string for all, if that is their number."""

    def __call__(self, name: str, state: Float[Array, "batch nodes width"]) -> Float[Array, "batch nodes width"]:
        if name != self.layer:
            return state
        if self.move.shape[1:] != state.shape[1:] or len(self.move) not in (1, len(state)):
            raise ValueError(
                f"the move of layer {name!r} is of (strings, nodes, width) = {self.move.shape}, its states are of "
                f"{state.shape}: give beliefs of the strings that the denoiser is called with, or of one"
            )
        return state + self.move.astype(state.dtype)


def fit_directions(states: Given, beliefs: Given) -> Directions:
    """W of equation (1) by ridge regression, its strength chosen by leaving out as in `linear.py`.

    Args:
      states: (..., n, width) of n data; leading axes, as for the nodes of a layer, are fits of their own.
      beliefs: (..., n, symbols), probabilities of the symbol, from exact inference say; leading axes broadcast.

    Raises:
      ValueError: if shapes do not fit, there are fewer than two data, known beliefs are no probabilities, or known
        states are not finite.
    """
    h, p = as_widest(as_numbers(states), _probabilities(beliefs))
    if h.ndim < 2 or p.ndim < 2 or h.shape[-2] != p.shape[-2] or h.shape[-2] < 2 or 0 in (*h.shape, *p.shape):
        raise ValueError(
            f"states have shape {h.shape}, beliefs {p.shape}: give (..., n, width) and (..., n, symbols), n >= 2"
        )
    if not isinstance(h, Tracer) and not np.isfinite(np.asarray(h)).all():
        raise ValueError("the states hold NaN or infinite numbers: leave those data out")
    return Directions(fit_probe(p, h).weights)


def toward(layer: str, directions: Directions, beliefs: Given, symbols: Given, strength: Given = 1.0) -> Shift:
    """The change of a layer by equation (2), toward certainty of symbols, for `NetworkDenoiser.steered`.

    Args:
      layer: the name of its states.
      directions: of its nodes, (nodes, symbols, width), or one W for all of them.
      beliefs: (..., nodes, symbols), p of the strings that the denoiser will be given; without leading axes the same
        move for every string.
      symbols: (..., nodes), b; -1 where a state stays as it is.
      strength: one number.

    Raises:
      ValueError: if shapes do not fit, known beliefs are no probabilities, or a known symbol is another. Inside
        `jax.jit` the move of such a node is NaN.
    """
    weights, p, size = as_widest(directions.weights, _probabilities(beliefs), strength)
    given = symbols if isinstance(symbols, jax.Array) else np.asarray(symbols)
    wanted = mark_symbols(given, p.shape[-1] - 1)
    if not isinstance(wanted, Tracer) and (np.asarray(wanted == NO_SYMBOL) & (np.asarray(given) != NO_SYMBOL)).any():
        raise ValueError(f"a symbol is outside 0 .. {p.shape[-1] - 1}: give one of these, or -1 for no move")
    fits = weights.shape[:-2] in ((), p.shape[-2:-1]) and weights.shape[-2] == p.shape[-1]
    if p.ndim < 2 or wanted.shape != p.shape[:-1] or not fits or size.ndim:
        raise ValueError(
            f"directions {weights.shape}, beliefs {p.shape}, symbols {wanted.shape}, strength {size.shape}: give "
            "(nodes, symbols, width), (..., nodes, symbols), (..., nodes) and one number"
        )
    wanted = jnp.asarray(wanted)
    other = wanted != jnp.asarray(given).astype(wanted.dtype)  # of traced values; known ones are refused above
    odd = other | (jnp.abs(jnp.sum(p, -1) - 1) > 1e-3)
    away = jnp.where((wanted == NO_SYMBOL)[..., None], 0.0, jax.nn.one_hot(wanted, p.shape[-1], dtype=p.dtype) - p)
    rows = jnp.where(odd[..., None], jnp.nan, away).reshape(-1, *p.shape[-2:])
    weights = jnp.broadcast_to(weights, (*p.shape[-2:], weights.shape[-1]))
    return Shift(layer, size * jnp.einsum("bnv,nvw->bnw", rows, weights))


def _probabilities(beliefs: Given) -> Float[Array, "*batch symbols"]:
    p = as_numbers(beliefs)
    if not isinstance(p, Tracer) and p.ndim:
        known = np.asarray(p, np.float64)
        if not (known >= 0).all() or not np.allclose(known.sum(-1), 1, atol=1e-3):
            raise ValueError("the beliefs are no probabilities: give numbers from 0 on, of sum 1 over the last axis")
    return p
