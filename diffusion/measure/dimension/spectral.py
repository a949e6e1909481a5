r"""Dimension as a count of singular values: of scores around a point, or of the Jacobian of the mean.

*Normal bundle.* Scores around a point x of a manifold point along its normals. Of K scores at x + s z, centred, the
singular values fall from those of the d - k normals to those of the k tangents; with the largest gap after the i-th
value, k = d - i. The first gap is skipped, and a gap there must be, so it can return neither 0 nor d.

*Ritz.* J has the eigenvalue 1 along a flat piece and 0 across it. With probes Z and Q an orthonormal basis of J Z, the
eigenvalues of Q' J Q approach the largest of J; those above 1/2 are counted. Two products for each probe, whatever d.

Both keep d x d, or d x probes, numbers for each point, and as many scores as
`field` sets memory aside for. Sources: Stanczuk et al.,
arXiv:2212.12611, with centring and the first gap left out (derived here); Ritz: derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from ..field.eigenpairs import compressed
from ..field.local import ROWS_AT_ONCE, LocalField, local_field
from .pointwise import Dimension, over_batch


def normal_bundle(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_draws: Whole | None = None
) -> Dimension:
    """d minus the place of the largest gap between singular values of scores; a count, without standard error (NaN).

    Args:
      x, t: clean data and noise times, as of `local_field`.
      num_draws: K, scores for each point; default 2 d, below which singular values merge.

    Raises:
      ValueError: as `local_field`; if d < 3, which has no second gap; or if `num_draws` is below 2 d.
    """
    field = local_field(denoiser, x, t)
    d = field.points.shape[1]
    draws = as_whole("num_draws", 2 * d if num_draws is None else num_draws, 2)
    if d < 3 or draws < 2 * d:
        raise ValueError(f"d = {d}, num_draws = {draws}: give data of three numbers or more, and at least 2 d draws")
    return _counted(field, _normal_bundle(as_key(key), field, draws))


def ritz(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_probes: Whole | None = None) -> Dimension:
    """How many eigenvalues of the Jacobian of the mean are above 1/2; a count, without standard error (NaN).

    Args:
      x, t: clean data and noise times, as of `local_field`.
      num_probes: q; default min(d, 64). For dimension k with exact scores 3 k / 2 + 10 are enough (k + 2 counted 10-
        and 50-spheres in R^1000 right, s = .01 to .12), for networks, whose eigenvalues fall more slowly, 2 k + 10.

    Flag "more probes needed": the count k is one for which 2 k + 10 probes, or d, would be wanted, and there are fewer.

    Raises:
      ValueError: as `local_field`; or if there are more probes than numbers of a datum.
    """
    field, probes = _probed(denoiser, x, t, num_probes)
    count = jnp.sum(_ritz(as_key(key), field, probes) > 0.5, 1, dtype=jnp.int32)
    flags = {"more probes needed": jnp.logical_and(2 * count + 10 > probes, probes < field.points.shape[1])}
    return _counted(field, count, flags)


def spectrum(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_probes: Whole | None = None
) -> Float[Array, "*batch probes"]:
    """The Ritz values that `ritz` counts, descending: near 1 along the piece, near 0 across it. Arguments as there."""
    field, probes = _probed(denoiser, x, t, num_probes)
    values = _ritz(as_key(key), field, probes)
    return values.reshape(*field.batch, probes)


def _probed(denoiser: AbstractDenoiser, x: Given, t: Given, num_probes: Whole | None) -> tuple[LocalField, int]:
    field = local_field(denoiser, x, t)
    d = field.points.shape[1]
    probes = as_whole("num_probes", min(d, 64) if num_probes is None else num_probes, 1)
    if probes > d:
        raise ValueError(f"num_probes = {probes}, more than the {d} numbers of a datum: give {d} at most")
    return field, probes


@eqx.filter_jit
def _normal_bundle(key: Key[Array, ""], field: LocalField, num_draws: int) -> Int[Array, " points"]:
    points, s = field.points, field.noise
    count, d = points.shape
    size = min(num_draws, max(1, ROWS_AT_ONCE // max(1, count)))  # draws whose scores are kept together
    missing = -num_draws % size
    keys = jax.random.split(key, num_draws + missing)
    counts = (jnp.arange(num_draws + missing) < num_draws).astype(points.dtype)

    def one(key: Key[Array, ""]) -> Float[Array, "points d"]:
        return s * field.score(points + s * jax.random.normal(key, points.shape, points.dtype))

    def add(state, block):
        total, gram = state
        keys, counts = block
        scores = field.over_draws(one, keys) * counts[:, None, None]  # (draws, points, d)
        gram += jnp.einsum("rni,rnj->nij", scores, scores, precision="highest")
        return (total + jnp.sum(scores, 0), gram), None

    start = jnp.zeros_like(points), jnp.zeros((count, d, d), points.dtype)
    blocks = keys.reshape(-1, size), counts.reshape(-1, size)
    (total, gram), _ = jax.lax.scan(add, start, blocks)
    covariance = gram - total[:, :, None] * total[:, None] / num_draws
    singular = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(covariance)[:, ::-1], 0))  # descending
    gaps = singular[:, 1:-1] - singular[:, 2:]  # after the second value, the third, ..
    return d - 2 - jnp.argmax(gaps, 1).astype(jnp.int32)


@eqx.filter_jit
def _ritz(key: Key[Array, ""], field: LocalField, num_probes: int) -> Float[Array, "points probes"]:
    count, d = field.points.shape
    probes = jax.random.normal(key, (num_probes, count, d), field.points.dtype)
    basis, _ = jnp.linalg.qr(jnp.moveaxis(field.over_draws(field.jacobian_times, probes), 0, 2))  # (points, d, q)
    image = field.over_draws(field.jacobian_times, jnp.moveaxis(basis, 2, 0))  # (q, points, d)
    return jnp.linalg.eigvalsh(compressed(basis, jnp.moveaxis(image, 0, 2)))[:, ::-1]


def _counted(field: LocalField, count: Int[Array, " points"], flags: dict[str, Array] | None = None) -> Dimension:
    value = count.astype(field.points.dtype)
    return over_batch(field, value, jnp.full_like(value, jnp.nan), flags)
