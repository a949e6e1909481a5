r"""Points in the plane, flat or hyperbolic, whose distances are nearest to given ones.

A tree's leaves grow exponentially in number with its depth, and so does the area of a hyperbolic disc with its radius:
trees fit into the hyperbolic plane with little distortion, and not into the flat one. A point of it is given by x in
R^k, lifted to the hyperboloid,

    X = (sqrt(1 + |x|^2), x),        d(x, y) = arccosh(X_0 Y_0 - x . y),                                           (1)

and the points descend the relative stress  sum_ij (c d_ij / D_ij - 1)^2 / pairs, with the scale c too. The flat
embedding descends the same with Euclidean d. Descents end in local optima: the best of several starts is kept.

Source: Nickel & Kiela, arXiv:1806.03417 (the hyperboloid); the stress is ours.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole

STARTS = 8
STEPS = 3000
RATE = 0.03
NEAR = 1e-12  # squares that are rounded to 0 have no gradient


class Embedded(eqx.Module):
    """Points and what became of the distances."""

    points: Float[Array, "leaves k"]
    """x of equation (1), or flat coordinates."""
    distances: Float[Array, "leaves leaves"]
    """c d_ij, to be compared with those given."""
    stress: Float[Array, ""]
    """The root of the mean square of c d_ij / D_ij - 1."""


def hyperbolic(key: AnyKey, distances: Given, num_dimensions: Whole = 2) -> Embedded:
    """An embedding into hyperbolic space, equation (1).

    Args:
      distances: D, (leaves, leaves), symmetric, positive off the diagonal.

    Raises:
      ValueError: if they are not that.
    """
    return _embedded(as_key(key), _checked(distances), as_whole("num_dimensions", num_dimensions, 1), True)


def euclidean(key: AnyKey, distances: Given, num_dimensions: Whole = 2) -> Embedded:
    """An embedding into flat space; arguments and errors as of `hyperbolic`."""
    return _embedded(as_key(key), _checked(distances), as_whole("num_dimensions", num_dimensions, 1), False)


def _checked(distances: Given) -> Float[Array, "leaves leaves"]:
    given = as_numbers(distances)
    rows = np.asarray(given)
    off = ~np.eye(len(rows), dtype=bool) if rows.ndim == 2 and rows.shape[0] == rows.shape[1] > 1 else None
    if off is None or not (np.isfinite(rows[off]).all() and (rows[off] > 0).all() and np.allclose(rows, rows.T)):
        raise ValueError(f"distances of shape {rows.shape}: give a symmetric matrix, positive off its diagonal")
    return given


@functools.partial(jax.jit, static_argnums=(2, 3))
def _embedded(key: Key[Array, ""], given: Float[Array, "leaves leaves"], k: int, curved: bool) -> Embedded:
    leaves, dtype = len(given), given.dtype
    off = ~jnp.eye(leaves, dtype=bool)

    def ratios(state):
        points, log_scale = state
        square = jnp.sum((points[:, None] - points[None]) ** 2, -1)
        if curved:
            lift = jnp.sqrt(1 + jnp.sum(points**2, -1))
            # 2 sinh^2(d / 2) = X_0 Y_0 - x . y - 1, without the difference of large numbers
            rise = (square - (lift[:, None] - lift[None]) ** 2) / 4
            length = 2 * jnp.arcsinh(jnp.sqrt(jnp.maximum(rise, NEAR)))
        else:
            length = jnp.sqrt(jnp.maximum(square, NEAR))
        return jnp.where(off, jnp.exp(log_scale) * length / jnp.where(off, given, 1), 1)

    def stress(state):
        return jnp.sum((ratios(state) - 1) ** 2) / (leaves * (leaves - 1))

    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    def step(carry, _):
        state, memory = carry
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimiser.update(jax.grad(stress)(state), memory)
        return (optax.apply_updates(state, updates), memory), None

    def descended(key: Key[Array, ""]) -> Any:
        scale = jnp.log(jnp.sum(jnp.where(off, given, 0)) / (leaves * (leaves - 1)))
        state = jax.random.normal(key, (leaves, k), dtype), scale
        (state, _), _ = jax.lax.scan(step, (state, optimiser.init(state)), None, STEPS)
        return state, stress(state)

    states, stresses = jax.vmap(descended)(jax.random.split(key, STARTS))
    best = jax.tree.map(lambda leaf: leaf[jnp.argmin(stresses)], states)
    return Embedded(best[0], jnp.where(off, ratios(best) * given, 0), jnp.sqrt(jnp.min(stresses)))
