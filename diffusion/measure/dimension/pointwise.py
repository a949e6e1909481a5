r"""Dimension from moments of the score around a point x of the data, at noise s; D, J and score as in `field`.

On a flat piece of dimension k the score of y = x + s z is -(z across the piece) / s, and J is 1 along the piece, 0
across it. Hence three estimates, each for every point:

    flipd    d + s^2 (tr dscore/dx + |score|^2) at x itself,                                                       (1)
    dsm      E |z + s score(x + s z)|^2,                                                                           (2)
    trace    E z . (z + (s / 2) (score(x + s z) - score(x - s z))).                                                (3)

(1) needs derivatives, (2) and (3) do not. (3) is not biased by an error of the score that is independent of z, and (2)
is, upward: their difference tells that error. Curvature biases all, on a k-sphere of radius R (1) by -k (k - 2) s^2 /
(4 R^2), (2) and (3) by -k (k - 1) s^2 / R^2.

Sources: (1) Kamkari et al., FLIPD (NeurIPS 2024); (2) Yeats et al., arXiv:2510.12975; (3) derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from ..estimate import Estimate, mean_estimate
from ..field import LocalField, local_field


class Dimension(Estimate):
    """An estimate of the dimension at each point; `flags` mark the points where it means something else."""

    flags: dict[str, Bool[Array, "*shape"]]


def flipd(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_probes: Whole | None = None) -> Dimension:
    """Equation (1) at each point.

    Args:
      x, t: clean data and noise times, as of `local_field`.
      num_probes: random signs for the trace, which give it an error; None: the exact trace, d derivatives, error 0.

    Raises:
      ValueError: as `local_field`; or with a single probe, which tells no error.
    """
    field = local_field(denoiser, x, t)
    count = None if num_probes is None else as_whole("num_probes", num_probes, 2)
    value, stderr = _flipd(as_key(key), field, count)
    return over_batch(field, value, stderr)


def dsm(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_draws: Whole = 64) -> Dimension:
    """Equation (2) at each point, over pairs of z and -z: 2 `num_draws` scores.

    Flag "score error suspected": (2) is above (3), of the same scores, by three standard errors of their difference.

    Raises:
      ValueError: as `local_field`; or with fewer than two draws.
    """
    field, draws = local_field(denoiser, x, t), as_whole("num_draws", num_draws, 2)
    norms, traces = _antithetic(as_key(key), field, draws)
    gap, estimate = mean_estimate(norms - traces), mean_estimate(norms)
    flags = {"score error suspected": gap.value > 3 * gap.stderr}
    return over_batch(field, estimate.value, estimate.stderr, flags)


def trace(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_draws: Whole = 64) -> Dimension:
    """Equation (3) at each point: 2 `num_draws` scores, no derivative.

    On a flat piece its standard deviation is (2 k / num_draws)^(1/2). Arguments and errors as of `dsm`.
    """
    field, draws = local_field(denoiser, x, t), as_whole("num_draws", num_draws, 2)
    estimate = mean_estimate(_antithetic(as_key(key), field, draws)[1])
    return over_batch(field, estimate.value, estimate.stderr)


@eqx.filter_jit
def _flipd(key: Key[Array, ""], field: LocalField, num_probes: int | None) -> tuple[Array, Array]:
    points, d = field.points.shape
    score = field.score(field.points)

    def along(v: Float[Array, "points d"]) -> Float[Array, " points"]:
        return jnp.sum(v * field.jacobian_times(v), 1)  # v . (1 + s^2 dscore) v

    squared = field.noise[:, 0] ** 2 * jnp.sum(score**2, 1)
    if num_probes is None:

        def along_axis(i: Int[Array, ""]) -> Float[Array, " points"]:
            return along(jnp.broadcast_to(jax.nn.one_hot(i, d, dtype=score.dtype), (points, d)))

        return jnp.sum(field.over_draws(along_axis, jnp.arange(d)), 0) + squared, jnp.zeros(points, score.dtype)

    def probed(key: Key[Array, ""]) -> Float[Array, " points"]:
        return along(jax.random.rademacher(key, (points, d), score.dtype))

    values = mean_estimate(field.over_draws(probed, jax.random.split(key, num_probes)))
    return values.value + squared, values.stderr


@eqx.filter_jit
def _antithetic(
    key: Key[Array, ""], field: LocalField, num_draws: int
) -> tuple[Float[Array, "draws points"], Float[Array, "draws points"]]:
    """Terms of (2), the mean of z and -z, and of (3)."""
    points, s = field.points, field.noise

    def terms(key: Key[Array, ""]) -> tuple[Array, Array]:
        z = jax.random.normal(key, points.shape, points.dtype)
        up, down = field.score(points + s * z), field.score(points - s * z)
        norms = (jnp.sum((z + s * up) ** 2, 1) + jnp.sum((z - s * down) ** 2, 1)) / 2
        return norms, jnp.sum(z * (z + s / 2 * (up - down)), 1)

    return field.over_draws(terms, jax.random.split(key, num_draws))


def over_batch(field: LocalField, value: Array, stderr: Array, flags: dict[str, Array] | None = None) -> Dimension:
    """One estimate for each point, in the axes that were given."""
    marked = {name: marks.reshape(field.batch) for name, marks in (flags or {}).items()}
    return Dimension(value.reshape(field.batch), stderr.reshape(field.batch), marked)
