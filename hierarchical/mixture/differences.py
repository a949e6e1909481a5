r"""Terms of a Gaussian mixture beside each other: right however far away x is.

The posterior of component k is decided by differences of energies E_k = |y_k|^2/2 of y_k = x - mu_k, measured in the
variances v_k along the axes A_k. Far from all means energies are huge and nearly equal, their squares overflow, and
their rounding is larger than any difference. So nothing is subtracted that was squared before: beside a component j,
with y = y_j, t_k = A_k' y and s_k = A_k' (mu_j - mu_k),

    E_k - E_j = sum over axes of  s_k (t_k + s_k/2) / v_k                                                          (1)
                + (t_k - t_j)(t_k + t_j) / (2 v_k)  +  t_j^2 (v_j - v_k) / (2 v_j v_k),

of which the second part is 0 where axes are the same, and the third where variances are: then (1) is linear in x. Its
error of rounding is a fraction of it; hence j is the likeliest component as far as rounded energies tell, and all that
matter are near it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Terms(NamedTuple):
    """ln w_k N(x; mu_k, C_k) of all components, as `largest` + `below`."""

    largest: Float[Array, ""]
    """Of a component that is all but the likeliest, nats; `-inf` below the most negative number of the dtype."""
    below: Float[Array, " K"]
    """Less that."""


def log_terms(
    x: Float[Array, " d"],
    log_masses: Float[Array, " K"],
    means: Float[Array, "K d"],
    variances: Float[Array, "K axes"],
    axes: Float[Array, "K d d"] | None,
) -> Terms:
    """The terms at x; NaN if x is not finite.

    Args:
      log_masses: ln w_k - ln|2 pi C_k| / 2; `-inf` for a component without weight.
      variances: along the axes, above 0; one number may stand for all axes of a component.
      axes: as columns; None: those of the coordinates.
    """
    most = float(jnp.finfo(x.dtype).max)
    x = jnp.where(jnp.isfinite(x), x, jnp.nan)
    # products are taken of numbers in this unit, so that none overflows; a power of 2 keeps its inverse above 0
    unit = jax.lax.stop_gradient(jnp.maximum(1, jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(means))) * 2.0**-20))

    j = _likely(*jax.lax.stop_gradient((x, log_masses, means, variances, axes, unit)))
    away, shift = jnp.clip(x - means[j], -most, most), _turned(axes, means[j][None] - means)
    turned = away[None] if axes is None else _turned(axes, jnp.broadcast_to(away, means.shape))
    own = away if axes is None else turned[j]
    linear = _sum(shift * ((turned + shift / 2) / unit), variances)
    if axes is not None:
        linear += _sum((turned - own[None]) * ((turned + own[None]) / unit), variances) / 2
    narrower = (variances[j][None] - variances) / variances / variances[j][None]  # 1/v_k - 1/v_j
    squares = (own / unit) ** 2 / 2
    quadratic = narrower[:, 0] * jnp.sum(squares) if variances.shape[1] == 1 else jnp.sum(squares[None] * narrower, 1)
    below = log_masses - log_masses[j] - unit * (linear + unit * quadratic)
    energy = jnp.sum((own / jnp.sqrt(2 * variances[j])) ** 2)
    return Terms(log_masses[j] - energy, jnp.minimum(below, most))


def _likely(x, log_masses, means, variances, axes, unit) -> Int[Array, ""]:
    """The likeliest component as far as rounded energies tell; along the coordinates by products of matrices."""
    log_masses = log_masses / unit / unit
    if axes is not None:
        return jnp.argmax(log_masses - _sum(_turned(axes, (x / unit)[None] - means / unit) ** 2, variances) / 2)
    centre = jnp.mean(means, 0)
    away, means, precisions = (x - centre) / unit, means - centre[None], 1 / variances
    weighted = means * precisions
    squares = away**2 if variances.shape[1] > 1 else jnp.sum(away**2, keepdims=True)
    # what all components share of |y|^2 is left out: beside it the rest would be lost far away
    quadratic = jnp.matmul(precisions - jnp.min(precisions, 0, keepdims=True), squares, precision="highest") / 2
    linear = jnp.matmul(weighted, away, precision="highest")
    return jnp.argmax(log_masses - quadratic + (linear - jnp.sum(weighted * means, 1) / unit / 2) / unit)


def _turned(axes: Float[Array, "K d d"] | None, vectors: Float[Array, "K d"]) -> Float[Array, "K d"]:
    """A_k' of a vector for each component."""
    return vectors if axes is None else jnp.einsum("kia,ki->ka", axes, vectors)


def _sum(along: Float[Array, "K d"], variances: Float[Array, "K axes"]) -> Float[Array, " K"]:
    """The sum over axes, each over its variance."""
    if variances.shape[1] == 1:
        return jnp.sum(along, 1) / variances[:, 0]
    return jnp.sum(along / variances, 1)
