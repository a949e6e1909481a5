r"""The geometry of a denoiser at a noised datum: in which directions is x_0 still undecided, and by how much?

The derivative of the mean is the covariance of what is not known yet,

    J  =  d E[x_0 | x_t] / d x_t  =  Cov(x_0 | x_t) alpha / sigma^2,                                               (1)

an identity of every exact and every empirical denoiser (second-order Tweedie). Its leading vectors are the directions
in which x_0 varies most given x_t, and its eigenvalues say how much a change of x_t is amplified or damped. Strings
with Gaussian noise are arrays of one-hot vectors (`denoise.one_hot`): there (1) is the covariance of the symbols of all
pairs of sites, and a leading vector that lives on the leaves below one node says that this node's symbol is undecided.

A network's J need not be symmetric. The pairs are those of its symmetric part S = (J + J') / 2; what S leaves out,
|(J - J') v| / 2, is reported, and is 0 for an exact denoiser. All is by products with J and J' (`eigenpairs`), for
which the denoiser is linearised once at each datum; no d x d matrix is written.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffusion.denoise.denoiser import AbstractDenoiser, AbstractVectorDenoiser
from diffusion.denoise.one_hot import OneHotDenoiser
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole

from ..changes.geometry import TreeGeometry
from .eigenpairs import lanczos, ritz_pairs
from .local import LocalField, local_field

POINTS_AT_ONCE = 64  # at which the denoiser is linearised together
SPARE = 2  # columns of a block beside those of the pairs that are asked for
HELD = 0.9  # of a vector's squared norm, from which a subtree is said to hold it


class LeadingPairs(eqx.Module):
    """The largest eigenvalues of S and their vectors, the largest first."""

    values: Float[Array, "*batch pairs"]
    vectors: Float[Array, "..."]
    """(..., pairs, *shape of x_t), of norm 1, up to their sign; equal eigenvalues share a space, not a basis."""
    residuals: Float[Array, "*batch pairs"]
    """|S v - value v|: S has an eigenvalue as near as that to the value."""
    asymmetry: Float[Array, "*batch pairs"]
    """|(J - J') v| / 2, 0 up to rounding for exact and empirical denoisers."""


def leading_pairs(
    key: AnyKey, denoiser: AbstractDenoiser, x_t: Given, t: Given, *, num_pairs: Whole = 1, num_steps: Whole = 8
) -> LeadingPairs:
    """The leading eigenpairs of the Jacobian of a denoiser's mean, equation (1), at noised data.

    Args:
      denoiser: of arrays, or of strings with `GaussianProcess`; d is the size of x_t.
      x_t, t: noised data (..., *shape of x_t) and times in (0, max_time], one for all or one for each.
      num_steps: blocks of num_pairs + 2 columns that the search takes; where they would be d columns or more, the
        pairs are exact, from d products. Raise it if the residuals are too large.

    Raises:
      ValueError: if the denoiser is of other strings or has no derivative (one of `from_host`), a shape does not fit, a
        known time is 0 or out of range, or more than d pairs are asked for.
    """
    vectors = denoiser if isinstance(denoiser, AbstractVectorDenoiser) else OneHotDenoiser(denoiser)
    field = local_field(vectors, x_t, t)
    d = field.points.shape[1]
    pairs, steps = as_whole("num_pairs", num_pairs, 1), as_whole("num_steps", num_steps, 1)
    if pairs > d:
        raise ValueError(f"num_pairs = {pairs}: a datum of {d} numbers has {d} at most")
    found = _leading(as_key(key), field, pairs, steps)
    shapes = (), vectors.shape, (), ()
    return LeadingPairs(*(x.reshape(*field.batch, pairs, *shape) for x, shape in zip(found, shapes, strict=True)))


@eqx.filter_jit
def _leading(key: Key[Array, ""], field: LocalField, num_pairs: int, num_steps: int) -> tuple[Array, ...]:
    """Values, vectors, residuals and asymmetry of each point; one start of the search for all."""
    count, d = field.points.shape
    block = num_pairs + SPARE
    start = jax.random.normal(key, (d, block), field.points.dtype)

    def at(point: tuple[Array, Array]) -> tuple[Array, ...]:
        forward, backward = _products(field, *point)

        def symmetric(columns: Float[Array, "d columns"]) -> Float[Array, "d columns"]:
            return (forward(columns) + backward(columns)) / 2

        if block * num_steps < d:
            found = ritz_pairs(*lanczos(symmetric, start, num_steps), num_pairs)
        else:
            axes = jnp.eye(d, dtype=start.dtype)
            found = ritz_pairs(axes, symmetric(axes), num_pairs)
        left_out = jnp.linalg.norm(forward(found.vectors) - backward(found.vectors), axis=0) / 2
        return found.values, found.vectors.T, found.residuals, left_out

    return jax.lax.map(at, (field.points, field.t), batch_size=min(POINTS_AT_ONCE, count))


def _products(field: LocalField, x_t: Float[Array, " d"], t: Float[Array, ""]):
    """J and J' times columns at one point, at which the denoiser is evaluated once."""

    def mean(x: Float[Array, " d"]) -> Float[Array, " d"]:
        return (
            field.denoiser.denoise_batch(x.reshape(1, *field.denoiser.shape), t[None]).reshape(x.shape).astype(x.dtype)
        )

    _, forward = jax.linearize(mean, x_t)
    backward = jax.linear_transpose(forward, x_t)
    return jax.vmap(forward, 1, 1), jax.vmap(lambda v: backward(v)[0], 1, 1)


def subtree_shares(geometry: TreeGeometry, weights: Given) -> Float[Array, "*batch levels"]:
    """How much lies in the best single subtree of each level, 0 the root, where it is 1; NaN if all weights are 0.

    Args:
      weights: (..., sites), not negative: of a vector (sites, v) the sum of its squares at each site.

    Raises:
      ValueError: if the tree has another number of leaves.
    """
    levels = geometry.subtree_sums(as_numbers(weights))
    best = jnp.stack([jnp.max(sums, -1) for sums in levels], -1)
    return best / levels[0]


def subtree_level(shares: Given, least: float = HELD) -> Int[Array, "*batch"]:
    """The deepest level at which one subtree holds `least` of a vector: 0 the whole tree, the last a single leaf.

    Args:
      shares: as `subtree_shares` gives them.

    Raises:
      ValueError: if `least` is not above 1/2, where two subtrees could hold as much, or is above 1.
    """
    if not 0.5 < least <= 1:
        raise ValueError(f"least = {least}: give a share above 1/2, 1 at most")
    held = as_numbers(shares) >= least * (1 - math.sqrt(jnp.finfo(as_numbers(shares).dtype).eps))
    return jnp.sum(held, -1, dtype=jnp.int32) - 1
