r"""What the eigenvalues of data say of a linear variational autoencoder: relevance, collapse, multiplets.

At the optimum (`optimum`) for the weight tau, latent j belongs to the j-th largest eigenvalue of the covariance, and

    rho_j = max(0, lambda_j / tau - 1),        KL_j = max(0, 1/2 ln(lambda_j / tau)),                              (1)
    F = 1/2 sum_{j <= k} [min(lambda_j, tau) + tau ln(max(lambda_j, tau) / tau)] + 1/2 sum_{j > k} lambda_j.       (2)

As tau grows a latent falls silent at tau = lambda_j, and the last one at the largest eigenvalue: equal eigenvalues
fall together. A symmetry of the data makes them equal: if the law is invariant under a group that acts linearly, the
covariance commutes with the group (Schur), so eigenvalues come in multiplets of the dimensions of its irreducible
representations. The leaves of a tree of Gaussians (`hierarchical.TreeGaussian`) are one example.

Source: arXiv:2510.01621 for the collapse of all latents at tau = lambda_max.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from hierarchical.arguments import Given, Whole, as_numbers, as_whole

from ...domain import Number, not_negative

UNDEFINED = -1
"""What `active` counts inside jit for what is refused outside: an integer has no NaN."""


class Multiplets(NamedTuple):
    """Groups of equal eigenvalues, largest first."""

    eigenvalues: Float[np.ndarray, " groups"]
    """The mean of each group."""
    sizes: tuple[int, ...]


class CollapseLevels(NamedTuple):
    """Where the number of active latents falls, as tau grows."""

    tau: Float[np.ndarray, " levels"]
    """Thresholds, rising."""
    above: tuple[int, ...]
    """Active latents just below each threshold in tau ..."""
    below: tuple[int, ...]
    """... and at it, or above up to the next; the last is 0."""


def relevance(eigenvalues: Given, tau: Given, num_latents: Whole | None = None) -> Float[Array, "*batch k"]:
    """rho_j of equation (1), signal over noise of each latent, falling.

    As in all functions of this file, NaN inside jit stands for what is refused outside.

    Args:
      eigenvalues: (..., d) of a covariance, in any order, not negative beyond rounding.
      tau: above 0; broadcast against the axes before the last one of the eigenvalues.
      num_latents: k, from 1 to d; None: d.

    Raises:
      ValueError: if an argument is out of range, or shapes do not fit.
    """
    largest, level = _latents(eigenvalues, tau, num_latents)
    return jnp.maximum(largest, level) / level - 1


def divergence(eigenvalues: Given, tau: Given, num_latents: Whole | None = None) -> Float[Array, "*batch k"]:
    """KL_j of equation (1), nats, falling; arguments and errors as in `relevance`."""
    largest, level = _latents(eigenvalues, tau, num_latents)
    return jnp.log(jnp.maximum(largest, level) / level) / 2


def active(eigenvalues: Given, tau: Given, num_latents: Whole | None = None) -> Int[Array, "*batch"]:
    """How many latents have lambda_j > tau; arguments and errors as in `relevance`, `UNDEFINED` for NaN."""
    largest, level = _latents(eigenvalues, tau, num_latents)
    count = jnp.sum(largest > level, -1, dtype=jnp.int32)
    return jnp.where(jnp.isnan(largest + level).any(-1), UNDEFINED, count)


def least_free_energy(eigenvalues: Given, tau: Given, num_latents: Whole | None = None) -> Float[Array, "*batch"]:
    """F of equation (2), the least value; arguments and errors as in `relevance`."""
    values, level = together(eigenvalues, tau)
    k = as_latents(num_latents, values.shape[-1])
    largest = values[..., :k]
    codes = jnp.minimum(largest, level) + level * jnp.log(jnp.maximum(largest, level) / level)
    return (jnp.sum(codes, -1) + jnp.sum(values[..., k:], -1)) / 2


def multiplets(eigenvalues: Given, rtol: Number = 1e-6) -> Multiplets:
    """Groups of eigenvalues that differ from the next one by at most `rtol` of it, or by rounding; of known values.

    Raises:
      ValueError: if the eigenvalues are not a list, one is negative, or rtol is.
    """
    values = _known(eigenvalues)
    rounding = _rounding(values)
    gaps = values[:-1] - values[1:]
    first = np.flatnonzero(gaps > not_negative("rtol", rtol) * values[:-1] + rounding) + 1
    groups = np.split(values, first)
    return Multiplets(np.array([group.mean() for group in groups]), tuple(map(len, groups)))


def collapse_levels(eigenvalues: Given, num_latents: Whole | None = None, rtol: Number = 1e-6) -> CollapseLevels:
    """The thresholds of tau, one for each multiplet of positive eigenvalues among the `num_latents` largest.

    Raises:
      ValueError: as in `multiplets`, or if num_latents is not from 1 to d.
    """
    values, sizes = multiplets(_known(eigenvalues)[: as_latents(num_latents, np.size(eigenvalues))], rtol)
    kept = int(np.sum(values > _rounding(values)))
    counts = np.cumsum([0, *sizes[:kept]]).tolist()
    return CollapseLevels(values[:kept][::-1], tuple(counts[:0:-1]), tuple(counts[-2::-1]))


def together(
    eigenvalues: Given, tau: Given, name: str = "tau"
) -> tuple[Float[Array, "*batch d"], Float[Array, "*batch 1"]]:
    """Falling eigenvalues and a weight with a last axis, broadcast against each other."""
    values = as_spectrum(eigenvalues)
    tau = positive(name, tau, values.dtype)
    try:
        batch = np.broadcast_shapes(values.shape[:-1], tau.shape)
    except ValueError as error:
        raise ValueError(
            f"eigenvalues of shape {values.shape}, {name} of {tau.shape}: give one {name}, or fit {values.shape[:-1]}"
        ) from error
    return jnp.broadcast_to(values, (*batch, values.shape[-1])), jnp.broadcast_to(tau, batch)[..., None]


def as_spectrum(eigenvalues: Given) -> Float[Array, "*batch d"]:
    """Eigenvalues of a covariance as floats, falling; rounding below 0 is 0, and NaN stands for a negative one in jit.

    Raises:
      ValueError: if there is none, one is not finite, or is negative beyond d epsilon of the largest.
    """
    values = as_numbers(eigenvalues)
    if values.ndim < 1 or not values.shape[-1]:
        raise ValueError(f"eigenvalues have shape {values.shape}: give (..., d)")
    least = -values.shape[-1] * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), -1, keepdims=True)
    fine = jnp.isfinite(values) & ~(values < least)
    _refuse("eigenvalues", values, fine, "finite numbers, none negative")
    values = jnp.where(fine.all(-1, keepdims=True), jnp.where(values > 0, values, 0 * values), jnp.nan)
    return jnp.sort(values, -1, descending=True)


def as_latents(num_latents: Whole | None, dimension: int) -> int:
    """k, from 1 to d; d for None.

    Raises:
      ValueError: if it is none of these.
    """
    k = dimension if num_latents is None else as_whole("num_latents", num_latents, 1)
    if k > dimension:
        raise ValueError(f"num_latents = {k}: data of {dimension} numbers have at most as many")
    return k


def positive(name: str, values: Given, dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """Finite numbers above 0; NaN inside jit for others.

    Raises:
      ValueError: naming the first number that is none.
    """
    numbers = as_numbers(values, dtype)
    fine = jnp.isfinite(numbers) & (numbers > 0)
    _refuse(name, numbers, fine, "finite numbers above 0")
    return jnp.where(fine, numbers, jnp.nan)


def _latents(eigenvalues: Given, tau: Given, num_latents: Whole | None) -> tuple[Array, Array]:
    values, level = together(eigenvalues, tau)
    return values[..., : as_latents(num_latents, values.shape[-1])], level


def _known(eigenvalues: Given) -> Float[np.ndarray, " d"]:
    if np.ndim(eigenvalues) != 1:
        raise ValueError(f"eigenvalues have shape {np.shape(eigenvalues)}: give a list of them")
    return np.asarray(as_spectrum(eigenvalues))


def _rounding(values: Float[np.ndarray, " d"]) -> float:
    return float(len(values) * np.finfo(values.dtype).eps * np.max(values))


def _refuse(name: str, values: Float[Array, "*shape"], fine: Bool[Array, "*shape"], wanted: str) -> None:
    if isinstance(values, Tracer) or isinstance(fine, Tracer):
        return
    wrong = np.asarray(values)[~np.asarray(fine)]
    if wrong.size:
        raise ValueError(f"{name} = {wrong.flat[0]:g}: give {wanted}")
