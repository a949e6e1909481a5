"""Nodes and weights for means over the laws of parameters: normal, or of a density on an interval."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Rule(NamedTuple):
    """Means of a function are sums over nodes, of weights that sum to 1."""

    nodes: Float[Array, " n"]
    weights: Float[Array, " n"]


def normal_rule(n: int) -> Rule:
    """Of a standard normal number; exact for polynomials of degree below 2 n."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return Rule(jnp.asarray(nodes), jnp.asarray(weights / weights.sum()))


def interval_rule(n: int, low: float, high: float, density: Callable[[np.ndarray], np.ndarray] = np.ones_like) -> Rule:
    """Of a number from `low` to `high` of a density that need not be normalised: Gauss and Legendre's nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    nodes = low + (high - low) * (nodes + 1) / 2
    weights = weights * density(nodes)
    return Rule(jnp.asarray(nodes), jnp.asarray(weights / weights.sum()))


def length_rule(n: int, num_dimensions: int) -> Rule:
    """Of the length of a standard normal vector."""
    reach = math.sqrt(num_dimensions) + 9.0  # beyond it the density is below rounding
    return interval_rule(n, 0.0, reach, lambda r: r ** (num_dimensions - 1) * np.exp(-(r**2) / 2))


def weighted_covariance(points: Float[Array, "n d"], weights: Float[Array, " n"]) -> Float[Array, "d d"]:
    """The covariance of weighted points; weights are relative."""
    share = (weights / jnp.sum(weights))[:, None]
    away = points - jnp.sum(share * points, 0, keepdims=True)
    return (share * away).T @ away
