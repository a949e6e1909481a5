r"""Correlated changes: which sites of a datum change together when it is noised and denoised.

sigma_i of a trajectory says how site i has changed: +1 or -1 for a symbol that differs or does not, the length of the
displacement for a vector. Over the R trajectories of one datum, each with noise of its own,

    C_ij(x_0) = R/(R-1) (<sigma_i sigma_j> - <sigma_i><sigma_j>)                                                   (1)

is an unbiased estimate of their covariance at fixed x_0. Data are averaged afterwards: trajectories of several data
taken together would add the differences between data to the correlation. With distances r between sites (`geometry`),

    S(r) = sum over ordered pairs at distance r of C_ij,  n(r) such pairs,     C(r) = S(r)/n(r),                   (2)
    chi  = sum_r S(r) / S(0)                            susceptibility: sites that change with one site, itself
                                                        included; of symbols, 4 Var(number of changes) / (d C(0)),
    xi_q = sum_r r^(q+1) S(r) / sum_r r^q S(r)          correlation length, in sites.                              (3)

xi_0 counts the site itself, at distance 0: it is (chi - 1)/chi times the mean distance of the *others* that change with
a site (`distance_of_others`), so that part of its rise is that of chi. Its denominator cannot come near 0, which makes
it the quieter of the two; the distance of the others needs chi clearly above 1. Where C(r) ~ r^-a f(r/xi), on a line or
a tree, xi_q is proportional to xi only for q > a - 1: on theory curves, where exponents are asked for and a < 2, take q
= 1.

(1) is needed only inside sums over pairs, which are quadratic forms of sigma - <sigma>: memory is that of the
trajectories. Errors come from a bootstrap over data (`estimate.bootstrap` of the sums and one of the functions below).

Source: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770, for sigma, C and chi; (3) is ours.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key, PyTree, Shaped

from diffusion.denoise.denoiser import AbstractDenoiser
from diffusion.sampling.forward_backward import forward_backward
from diffusion.sampling.samplers import AbstractSampler
from hierarchical.arguments import Given, as_numbers, as_widest, mark_symbols

from .geometry import AbstractGeometry, LineGeometry

Sums = Float[Array, "*grid distances"]

LARGEST = 2**31 - 1  # a symbol


def changed(x0: Given, regenerated: Given) -> Float[Array, "*batch trajectories sites"]:
    """sigma of symbols: +1 where they differ, -1 where they do not, NaN where one is no symbol; float32.

    Args:
      x0: strings, (..., sites).
      regenerated: of each, (..., trajectories, sites).

    Raises:
      ValueError: if the strings do not hold integers, or shapes do not fit.
    """
    before, after = mark_symbols(x0, LARGEST), mark_symbols(regenerated, LARGEST)
    _refuse_others(before, after, 1)
    before = before[..., None, :]
    sigma = jnp.where(after != before, 1.0, -1.0).astype(jnp.float32)
    return jnp.where((before >= 0) & (after >= 0), sigma, jnp.nan)


def displacement(x0: Given, regenerated: Given) -> Float[Array, "*batch trajectories sites"]:
    """sigma of vectors: the Euclidean length of the change.

    Args:
      x0: vectors, (..., sites, size).
      regenerated: of each, (..., trajectories, sites, size).

    Raises:
      ValueError: if they are not real numbers, or shapes do not fit.
    """
    before, after = as_widest(x0, regenerated)
    _refuse_others(before, after, 2)
    return jnp.linalg.norm(after - before[..., None, :, :], axis=-1)


def _refuse_others(x0: Shaped[Array, "..."], regenerated: Shaped[Array, "..."], axes: int) -> None:
    """Refuse regenerated data that are not of the same batch and sites, of `axes` axes."""
    batch, datum = x0.shape[: x0.ndim - axes], x0.shape[x0.ndim - axes :]
    place = len(batch)
    if x0.ndim < axes or regenerated.shape[:place] + regenerated.shape[place + 1 :] != batch + datum:
        wanted = "(..., trajectories, sites)" if axes == 1 else "(..., trajectories, sites, size)"
        raise ValueError(f"x0 has shape {x0.shape}, regenerated {regenerated.shape}: give {wanted}, as x0 has them")


def connected_sums(sigma: Given, geometry: AbstractGeometry) -> Float[Array, "*batch distances"]:
    """S(r) of equation (2) for each datum; its mean over data estimates that of the ensemble without bias.

    Args:
      sigma: (..., trajectories, sites).

    Raises:
      ValueError: if there is a single trajectory, which has no covariance, or the sites are not those of the geometry.

    Source: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770.
    """
    deviation = _deviation(sigma)
    return jnp.sum(geometry.pair_sums(deviation), -2) / (deviation.shape[-2] - 1)


def connected_sums_within(sigma: Given, groups: Given) -> Float[Array, "*batch grouped"]:
    """The part of S(r) on a line, r = 0 .. d - 1, that is of pairs in one group: tokens of one word, say.

    Args:
      sigma: (..., trajectories, sites).
      groups: a whole number for each site, (sites,) or (..., sites); sites with equal numbers belong together. S(0) is
        of every site with itself.

    Raises:
      ValueError: if there is a single trajectory, or `groups` and the sites differ in number.
    """
    deviation = _deviation(sigma)
    numbers = groups if isinstance(groups, jax.Array) else np.asarray(groups)
    *batch, _, sites = deviation.shape
    if numbers.shape not in ((sites,), (*batch, sites)) or not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise ValueError(
            f"groups of {numbers.dtype}, shape {numbers.shape}, for {sites} sites: give each site its number"
        )
    return jnp.vectorize(_within, signature="(r,s),(s)->(s)")(deviation, jnp.broadcast_to(numbers, (*batch, sites)))


@jax.jit
def _within(deviation: Float[Array, "trajectories sites"], groups: Integer[Array, " sites"]) -> Float[Array, " sites"]:
    sites = jnp.arange(len(groups))

    def at_distance(r):
        partner = (sites + r) % len(groups)
        together = (groups[partner] == groups) & (sites + r < len(groups))
        return jnp.sum(jnp.where(together[None], deviation * deviation[:, partner], 0))

    sums = jax.lax.map(at_distance, sites) / (len(deviation) - 1)
    return sums.at[1:].multiply(2)


def _deviation(sigma: Given) -> Float[Array, "*batch trajectories sites"]:
    """sigma less its mean over trajectories.

    Raises:
      ValueError: if there is a single trajectory.
    """
    sigma = as_numbers(sigma)
    if sigma.ndim < 2:
        raise ValueError(f"sigma has shape {sigma.shape}: give (..., trajectories, sites)")
    if sigma.shape[-2] < 2:
        raise ValueError("a covariance needs at least 2 trajectories of each datum, got 1: raise num_trajectories")
    return sigma - jnp.mean(sigma, -2, keepdims=True)


class Changes(NamedTuple):
    """Sums of correlated changes and the fraction changed, a row per datum."""

    sums: Float[Array, "data distances"]
    """S(r)."""
    fraction: Float[Array, " data"]
    """Changed sites, as a fraction of all."""
    within: Float[Array, "data distances"] | None
    """The part of S(r) of pairs in one group, where groups are given."""


def change_sums(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    x0: Given,
    t: Given,
    geometry: AbstractGeometry,
    *,
    num_trajectories: int,
    sampler: AbstractSampler | None = None,
    strings_at_once: int = 2048,
    groups: Int[Array, "data sites"] | None = None,
) -> Changes:
    """Noise each string up to t and denoise it, many times over; sums of correlated changes at fixed x_0.

    Args:
      x0: strings, (data, sites).
      t: in the unit of the denoiser's process.
      num_trajectories: R of equation (1), at least 2.
      sampler: how to undo noise; default the most exact one the denoiser allows.
      groups: which sites of each datum belong together, on a `LineGeometry`, see `connected_sums_within`.
      strings_at_once: about so many trajectories are in memory at a time, those of one datum at least.

    Raises:
      ValueError: if R < 2, groups are given for another geometry, or a known symbol or time is out of range.
    """
    if groups is not None and not isinstance(geometry, LineGeometry):
        raise ValueError(f"groups are counted on a LineGeometry, not on a {type(geometry).__name__}: leave them out")
    return over_trajectories(
        key,
        denoiser,
        x0,
        t,
        _ChangeSums(geometry),
        num_trajectories=num_trajectories,
        sampler=sampler,
        at_once=strings_at_once,
        beside=groups,
    )


class _ChangeSums(eqx.Module):
    geometry: AbstractGeometry

    def __call__(self, x0, regenerated, groups):
        sigma = changed(x0, regenerated)
        within = None if groups is None else connected_sums_within(sigma, groups)
        return Changes(connected_sums(sigma, self.geometry), jnp.mean((sigma + 1) / 2), within)


def over_trajectories(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    x0: Given,
    t: Given,
    statistic: Callable[[Array, Array, PyTree], PyTree],
    *,
    num_trajectories: int,
    sampler: AbstractSampler | None = None,
    at_once: int = 2048,
    beside: PyTree = None,
) -> PyTree:
    """A statistic of each datum and its regenerations from t, in bounded memory.

    Args:
      x0: clean data, (data, *denoiser.shape).
      t: in the unit of the denoiser's process.
      statistic: (x0, regenerated, beside) -> arrays; regenerated is (trajectories, *datum), its symbols -1 or NaN where
        a datum could not be regenerated. A pytree (an `eqx.Module` whose arrays, the parameters of a network say,
        become arguments of the compiled program) or a plain function.
      at_once: about so many trajectories are in memory at a time, those of one datum at least.
      beside: further arrays of each datum, whose first axis is that of `x0`.

    Returns:
      The statistic's arrays, a row for each datum.

    Raises:
      ValueError: if a known symbol or time is out of range.
    """
    clean = denoiser.process.clean(x0)
    time = denoiser.process.time(t, clean)
    return _in_pieces(key, denoiser, clean, time, statistic, num_trajectories, sampler, at_once, beside)


@eqx.filter_jit
def _in_pieces(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    x0: Shaped[Array, "data *datum"],
    t: Float[Array, ""],
    statistic: Callable[[Array, Array, PyTree], PyTree],
    num_trajectories: int,
    sampler: AbstractSampler | None,
    at_once: int,
    beside: PyTree,
) -> PyTree:
    def piece(inputs):
        key, (x0, beside) = inputs
        repeated = jnp.repeat(x0, num_trajectories, 0)
        times = jnp.full(len(repeated), t)
        x = forward_backward(key, denoiser, repeated, times, sampler=sampler)[0]
        return jax.vmap(statistic)(x0, x.reshape(len(x0), num_trajectories, *x0.shape[1:]), beside)

    size = min(len(x0), max(1, at_once // num_trajectories))
    count = -(-len(x0) // size)
    filler = count * size - len(x0)
    pieces = jax.tree.map(
        lambda rows: jnp.concatenate([rows, rows[:filler]]).reshape(count, size, *rows.shape[1:]), (x0, beside)
    )
    values = jax.lax.map(piece, (jax.random.split(key, count), pieces))
    return jax.tree.map(lambda x: x.reshape(count * size, *x.shape[2:])[: len(x0)], values)


def correlation(sums: Sums, geometry: AbstractGeometry) -> Sums:
    """C(r)/C(0), equation (2)."""
    per_pair = jnp.einsum("...r,r->...r", sums, jnp.asarray(1 / geometry.num_pairs, sums.dtype))
    return per_pair / per_pair[..., :1]


def susceptibility(sums: Sums) -> Float[Array, "*grid"]:
    """chi of equation (3), from sums that are averaged over data.

    Source: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770.
    """
    return jnp.sum(sums, -1) / sums[..., 0]


def correlation_length(sums: Sums, geometry: AbstractGeometry, order: int = 0) -> Float[Array, "*grid"]:
    """xi_q of equation (3), in sites; q = `order`."""
    distances = jnp.asarray(geometry.distances, sums.dtype)
    return (sums @ distances ** (order + 1)) / (sums @ distances**order)


def distance_of_others(sums: Sums, geometry: AbstractGeometry) -> Float[Array, "*grid"]:
    """Mean distance of the other sites that change with a site, sum_(r>0) r S(r) / sum_(r>0) S(r), in sites.

    It has no meaning where chi is 1 and no other site changes with a site: its bootstrap error is then large, or NaN.
    """
    others = sums[..., 1:]
    return (others @ jnp.asarray(geometry.distances[1:], sums.dtype)) / jnp.sum(others, -1)
