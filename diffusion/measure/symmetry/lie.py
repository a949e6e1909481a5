r"""How a law changes under a linear transformation, from what its denoiser says of noised data.

The law p_0 of clean data stays as it is under x_0 -> exp(A) x_0, A being a generator, if div(p_0(x_0) A x_0) = 0. With
noise s, y = x_0 + s z, the divergence becomes div(p_s(y) A D(y)), D(y) = E[x_0 | y], as smoothing and derivatives
commute. So, divided by p_s, what follows vanishes at every y and every noise for a symmetry of the clean data:

    l_A(y) = score(y) . A D(y) + tr(A J(y)),        J = dD/dy.                                                     (1)

For rotations, A antisymmetric, only score . A y is left, as J is symmetric and D = y + s^2 score. The law may change
where the set of the data does not: a mass shell stays in its place under boosts, the density on it does not. A vector
tells symmetries of the set alone, the part of A D across it, as J is 1 along the set and 0 across it at small noise:

    r_A(y) = (1 - J(y)) A D(y),          of the order of the noise for a symmetry of the set.                      (2)

(1) is exact at every noise; but at noise above the size of the data every law looks normal, with as many symmetries as
a normal law has, and at small noise the density on the set counts little beside (1) of what leaves it. So generators
are compared with random ones of the data's span: in coordinates in which E D D' = 1 a random A has independent entries,
and of the law and of the set

    broken(A) = (E l_A^2 / E |A D|^2) / (E l^2 / E |A D|^2 of a random one),    broken(A) = E |r_A|^2 / E |A D|^2, (3)

0 for a symmetry; around 1 for another generator of the law, and of the set the share of A D across it. Derived here.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, as_key, as_numbers

from ..estimate import Estimate, mean_estimate
from ..field.local import LocalField, local_field

POINTS_AT_ONCE = 256  # at which the denoiser is asked together
RELATIVE = 1e-6  # directions in which the second moment of the mean is below this share of the largest are left out


class Terms(NamedTuple):
    """What (1) is made of at each point, in coordinates of the data's span."""

    products: Float[Array, "points rows q q"]
    """Y, by which (1), of one row, or (2) is sum_ij Y_ij A_ij."""
    means: Float[Array, "points q"]
    """D."""
    span: Float[Array, "d q"]
    """Orthonormal columns: the directions in which E D D' is not 0."""
    variances: Float[Array, " q"]
    """E D D' along them."""
    of_set: bool


def lie_derivative(denoiser: AbstractDenoiser, generators: Given, x_t: Given, t: Given) -> Float[Array, "*batch g"]:
    """l_A of equation (1) for each generator, at noised data as they are.

    Args:
      generators: (g, d, d), of numbers of a datum laid flat.
      x_t, t: noised data (..., *denoiser.shape) and their times in (0, max_time], as of `local_field`.

    Raises:
      ValueError: as `local_field`, or if the generators are not matrices of that size.
    """
    field = local_field(denoiser, x_t, t)
    matrices = _checked(generators, field)
    alpha = field.denoiser.process.path.alpha(field.t)
    products, _ = _at_points(field, field.points / alpha[:, None], of_set=False)
    return jnp.einsum("gij,nrij->ng", matrices, products).reshape(*field.batch, len(matrices))


def breaking(
    key: AnyKey, denoiser: AbstractDenoiser, generators: Given, x: Given, t: Given, *, of_set: bool = False
) -> Estimate:
    """Equation (3) for each generator, (g,): 0 for a symmetry.

    Args:
      generators: (g, d, d), as of `lie_derivative`; what leads out of the data's span is left out.
      x, t: clean data, independent draws, and noise times, as of `local_field`; noise is added once to each.
      of_set: whether the set of the data is asked about, by (2), in place of their law, by (1).

    Raises:
      ValueError: as `lie_derivative`.
    """
    field = local_field(denoiser, x, t)
    matrices = _checked(generators, field)
    terms = terms_of(key, field, of_set)
    inside = jnp.einsum("iq,gij,jr->gqr", terms.span, matrices, terms.span)
    return broken(terms, inside)


def broken(terms: Terms, inside: Float[Array, "g q q"]) -> Estimate:
    """Equation (3) of generators in coordinates of the span, with standard errors over points."""
    squares = jnp.sum(jnp.einsum("gij,nrij->nrg", inside, terms.products) ** 2, 1)
    sizes = jnp.sum(jnp.einsum("gij,j->gij", inside**2, terms.variances), (1, 2))
    random = jnp.sum(terms.products**2 / terms.variances[None, None, None], (1, 2, 3))
    typical = jnp.asarray(1.0) if terms.of_set else jnp.mean(random) / len(terms.variances) ** 2
    return mean_estimate(squares / (sizes * typical.astype(sizes.dtype))[None])


def terms_of(key: AnyKey, field: LocalField, of_set: bool) -> Terms:
    """Y and D at the points with noise, in the span of D."""
    noise = jax.random.normal(as_key(key), field.points.shape, field.points.dtype)
    products, means = _at_points(field, field.points + field.noise * noise, of_set)
    moments = np.asarray(means.T @ means / len(means), np.float64)
    variances, axes = np.linalg.eigh(moments)
    kept = variances > RELATIVE * variances[-1]
    span = jnp.asarray(axes[:, kept], means.dtype)
    inside = jnp.einsum("iq,nmij,jr->nmqr", span, products, span)
    return Terms(inside, means @ span, span, jnp.asarray(variances[kept], means.dtype), of_set)


@eqx.filter_jit
def _at_points(field: LocalField, y: Float[Array, "points d"], of_set: bool) -> tuple[Array, Array]:
    """Y and D at given places, a block of them at a time."""

    def at(point: tuple[Array, Array]) -> tuple[Array, Array]:
        place, t = point
        here = LocalField(field.denoiser, place[None], t[None], ())
        score = here.score(place[None])[0]
        mean = place + here.noise[0] ** 2 * score
        axes = jnp.eye(len(place), dtype=place.dtype)
        transposed = jax.vmap(lambda v: here.jacobian_times(v[None])[0])(axes)  # rows: J times each axis
        if of_set:
            return jnp.einsum("mi,j->mij", axes - transposed.T, mean), mean
        return (jnp.outer(score, mean) + transposed)[None], mean

    return jax.lax.map(at, (y, field.t), batch_size=min(POINTS_AT_ONCE, len(y)))


def _checked(generators: Given, field: LocalField) -> Float[Array, "g d d"]:
    matrices, d = as_numbers(generators, field.points.dtype), field.points.shape[1]
    if matrices.ndim != 3 or matrices.shape[1:] != (d, d):
        raise ValueError(f"generators have shape {matrices.shape}: give (g, {d}, {d})")
    return matrices
