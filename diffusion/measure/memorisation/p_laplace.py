r"""Memorisation as a maximum of the density: the p-Laplace operator of u = ln p_s, p_s the law smoothed by noise s.

A memorised point is a sharp maximum of p_s. With g = grad u the score and H its Jacobian, the operator

    Delta_p u = div(|g|^(p-2) g) = |g|^(p-2) (tr H + (p - 2) g' H g / |g|^2)                                        (1)

is negative there. Where g = 0, as at the maximum itself, (1) has no value for p < 2. The flux through a sphere around x
has one: n a uniform direction,

    M_p(x, R) = E |g|^(p-2) g . n      at x + R n,           mean of Delta_p u over the ball = (d / R) M_p.         (2)

**Sign.** Both functions return the inward operator, -Delta_p u and -M_p: large at a maximum of the density, so large
where a point is memorised. At p = 1 the flux is within [-1, 1], and 1 exactly at the centre of an isotropic law.

What to expect of M_1. At the centre of a Gaussian of variance v, -M_p = (R / v)^(p-1). On a flat piece of dimension k,
for small s and R = s d^(1/2), -M_1 = (1 - k/d)^(1/2): d (1 - M_1^2) is a local dimension, 0 where x is memorised. In
many dimensions a saddle with few unstable directions counts as a maximum, M_1 near -1: compare values, not signs.

Sources: Brokman et al., arXiv:2505.08246, for p-Laplace as a sign of memorisation; inward values, antithetic pairs, the
radius that fits the noise and the limits above are derived here. Only at p = 1 are (1) of p and of ln p the same.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole

from ...denoise.denoiser import AbstractDenoiser
from ...noise.process import over_batch
from ..estimate import Estimate, mean_estimate
from ..field.local import LocalField, Points, local_field

Scalar = Float[Array, ""]


def p_laplace(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    x: Given,
    t: Given,
    p: Given = 1.0,
    radius: Given | None = None,
    *,
    num_pairs: Whole = 64,
) -> Estimate:
    """The inward flux -M_p of equation (2) through a sphere around each point, from 2 `num_pairs` scores.

    Args:
      x, t: clean data and noise times, as of `local_field`.
      p: one number; 1 counts directions of the score alone, above 1 its size too.
      radius: R > 0 beside data that are not shrunk, one for all or an array whose axes are the first of those of x;
        default s d^(1/2), the length of typical noise.
      num_pairs: directions, each taken with its opposite.

    Returns:
      A value for each point, with its error over pairs. NaN where p <= 1 and a score on the sphere is 0.
    Raises:
      ValueError: as `local_field`; if `p` is not one finite number, a known radius is not positive and finite (inside
        jit the value is NaN), or there are fewer than two pairs.

    Source: Brokman et al., arXiv:2505.08246, with the sign turned.
    """
    field, pairs = local_field(denoiser, x, t), as_whole("num_pairs", num_pairs, 2)
    power = _power(p, field)
    size = sphere_radius(field) if radius is None else _given_radius(radius, field)
    flux = _flux(as_key(key), field, power, size, pairs)
    return Estimate(flux.value.reshape(field.batch), flux.stderr.reshape(field.batch))


def p_laplacian(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, p: Given = 1.0, *, num_probes: Whole | None = None
) -> Estimate:
    """The inward operator -Delta_p u of equation (1) at each point.

    Args:
      x, t, p: as of `p_laplace`.
      num_probes: random signs for the trace, which give it an error; None: the exact trace, d derivatives, error 0.

    Raises:
      ValueError: as `local_field`; if `p` is not one finite number; with a single probe; or if p < 2 and a score is
        known and 0, where (1) has no value (inside jit it is NaN): `p_laplace` has one.

    Source: Brokman et al., arXiv:2505.08246, with the sign turned and the power of |g| that their code leaves out.
    """
    field = local_field(denoiser, x, t)
    count = None if num_probes is None else as_whole("num_probes", num_probes, 2)
    value, stderr, undefined = _pointwise(as_key(key), field, _power(p, field), count)
    if not isinstance(undefined, Tracer) and bool(jnp.any(undefined)):
        raise ValueError(
            f"p = {p}: the score is 0 at {int(jnp.sum(undefined))} of the points, where the p-Laplacian has no value "
            "for p < 2: use p_laplace, the flux through a sphere"
        )
    return Estimate(value.reshape(field.batch), stderr.reshape(field.batch))


def sphere_radius(field: LocalField) -> Float[Array, "points 1"]:
    """R = s d^(1/2)."""
    return field.noise * math.sqrt(field.points.shape[1])


def directions(key: Key[Array, ""], points: Points) -> Points:
    """A uniform unit vector for each point."""
    z = jax.random.normal(key, points.shape, points.dtype)
    return z / jnp.linalg.norm(z, axis=1, keepdims=True)


def inward(score: Points, n: Points, p: Scalar) -> Float[Array, " points"]:
    """-|g|^(p-2) g . n; where g = 0 this is 0 for p > 1 and NaN otherwise."""
    size = jnp.linalg.norm(score, axis=1)
    along = -jnp.sum(score * n, 1) / jnp.where(size > 0, size, 1)
    at_zero = jnp.where(p > 1, jnp.zeros((), size.dtype), jnp.nan)
    return jnp.where(size == 0, at_zero, along * size ** (p - 1))


@eqx.filter_jit
def _flux(
    key: Key[Array, ""], field: LocalField, p: Scalar, radius: Float[Array, "points 1"], num_pairs: int
) -> Estimate:
    def pair(key: Key[Array, ""]) -> Float[Array, " points"]:
        n = directions(key, field.points)
        up, down = field.score(field.points + radius * n), field.score(field.points - radius * n)
        return (inward(up, n, p) + inward(down, -n, p)) / 2

    return mean_estimate(field.over_draws(pair, jax.random.split(key, num_pairs)))


@eqx.filter_jit
def _pointwise(key: Key[Array, ""], field: LocalField, p: Scalar, num_probes: int | None) -> tuple[Array, Array, Array]:
    """Value, error, and where the score is 0 though p < 2."""
    score = field.score(field.points)
    size = jnp.linalg.norm(score, axis=1)
    unit = score / jnp.where(size > 0, size, 1)[:, None]
    trace = _trace(key, field, num_probes)
    undefined = (size == 0) & (p < 2)
    scale = jnp.where(undefined, jnp.nan, size ** (p - 2))
    value = -scale * (trace.value + (p - 2) * _curvature(field, unit))
    return value, scale * trace.stderr, undefined


def _curvature(field: LocalField, v: Points) -> Float[Array, " points"]:
    """v' H v."""
    return jnp.sum(v * field.hessian_times(v), 1)


def _trace(key: Key[Array, ""], field: LocalField, num_probes: int | None) -> Estimate:
    """tr H."""
    terms = field.traces(key, num_probes, field.hessian_times)
    return Estimate(terms[0], jnp.zeros_like(terms[0])) if num_probes is None else mean_estimate(terms)


def _power(p: Given, field: LocalField) -> Scalar:
    power = as_numbers(p, field.points.dtype)
    if power.shape != () or not (isinstance(power, Tracer) or np.isfinite(np.asarray(power))):
        raise ValueError(f"p = {p}: give one finite number, 1 for directions alone")
    return power


def _given_radius(radius: Given, field: LocalField) -> Float[Array, "points 1"]:
    given = as_numbers(radius, field.points.dtype)
    if given.shape != field.batch[: given.ndim]:
        raise ValueError(f"radius has shape {given.shape}, the batch {field.batch}: give one, or one for each datum")
    valid = (given > 0) & (given < jnp.inf)
    if not isinstance(valid, Tracer) and not bool(jnp.all(valid)):
        wrong = np.asarray(given)[~np.asarray(valid)][0]
        raise ValueError(f"radius = {wrong}: give positive, finite numbers, or None for s d^(1/2)")
    return over_batch(jnp.where(valid, given, jnp.nan), field.batch).reshape(-1, 1)
