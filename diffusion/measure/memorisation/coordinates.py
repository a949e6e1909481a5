r"""Which coordinates of a datum are memorised: those whose posterior variance has collapsed.

A memorised datum is certain from far less than should tell it. With V_i the mean, over noised versions of the datum, of
the variance of its coordinate i given x_t, under the denoiser and under a reference that has not memorised (an early
checkpoint, or the exact law),

    C_i = ln( V_i(reference) / V_i(denoiser) ),         the collapse of coordinate i, nats.                        (1)

It is 0 where both know as much, large where the denoiser alone is certain. The variance is

    arrays     Var(x_0^i | x_t) = s^2 J_ii,             J = dD/dy at y = x + s z, D the mean, see `field`,         (2)
    strings    1 - sum_v p_v^2,                         p the posterior of site i:                                 (3)

(3) is the variance of the one-hot vector, and the chance that two draws of the site differ. Both denoisers see the same
noised data, so that what they have in common cancels in the error, that of a ratio of means by the delta method:

    error of C_i = standard error of   V_i,draw(reference) / V_i(reference) - V_i,draw(denoiser) / V_i(denoiser).  (4)

Source: arXiv:2605.26756 for the idea of comparing variances with those of an early checkpoint; (1) to (4) are derived
here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key, Shaped

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from ...denoise.denoiser import AbstractDenoiser, AbstractTokenDenoiser
from ...noise.process import batch_axes, over_batch, per_datum
from ..estimate import Estimate, mean_estimate
from ..field.local import LocalField, local_field

Data = Shaped[Array, "data *datum"]
Times = Float[Array, " data"]
Variances = Float[Array, "data *datum"]


def coordinate_collapse(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    reference: AbstractDenoiser,
    x: Given,
    t: Given,
    *,
    num_draws: Whole = 16,
    num_probes: Whole | None = None,
) -> Estimate:
    """C of equation (1) for each coordinate of each datum, in the shape of x.

    Args:
      denoiser, reference: of one noise process and one shape, both of strings or both of arrays.
      x: clean data (..., *denoiser.shape).
      t: noise times in (0, max_time], one for all or an array whose axes are the first of those of x.
      num_draws: noised versions of each datum.
      num_probes: of arrays, random signs for the diagonal of J in each draw, whose few may give a negative variance and
        NaN; None: the exact diagonal, d derivatives.

    Returns:
      Infinite where the denoiser is certain in every draw and the reference is not; NaN where both are, or where a
      noised datum is impossible for one of them.
    Raises:
      ValueError: if the processes or shapes of the denoisers differ, a shape does not fit, a known symbol or time is
        out of range or t is 0, there are fewer than two draws, or `num_probes` is given for strings.
    """
    _refuse_unlike(denoiser, reference)
    clean = denoiser.process.clean(x)
    batch = batch_axes(clean, denoiser.shape, "x")
    rows = clean.reshape(-1, *denoiser.shape)
    times = over_batch(denoiser.process.time(t, clean), batch).reshape(-1)
    if not isinstance(times, Tracer) and not bool(jnp.all(times > 0)):
        raise ValueError("t = 0: without noise nothing is uncertain; give a positive time")
    draws = as_whole("num_draws", num_draws, 2)
    if isinstance(denoiser, AbstractTokenDenoiser) and isinstance(reference, AbstractTokenDenoiser):
        if num_probes is not None:
            raise ValueError(f"num_probes = {num_probes}: strings have no derivatives, leave it out")
        variances = _of_strings(as_key(key), denoiser, reference, rows, times, draws)
    else:
        fields = local_field(denoiser, rows, times), local_field(reference, rows, times)
        probes = None if num_probes is None else as_whole("num_probes", num_probes, 1)
        variances = _of_arrays(as_key(key), *fields, draws, probes)
    found = _log_ratio(*variances)
    shape = (*batch, *denoiser.shape)
    return Estimate(found.value.reshape(shape), found.stderr.reshape(shape))


def site_variance(log_posterior: Float[Array, "*sites v"]) -> Float[Array, "*sites"]:
    """Equation (3), without cancellation at sites that are nearly certain; NaN where no symbol is possible."""
    variance = jnp.sum(jnp.exp(log_posterior) * -jnp.expm1(log_posterior), -1)
    return jnp.where(jnp.max(log_posterior, -1) > -jnp.inf, variance, jnp.nan)


@eqx.filter_jit
def _of_strings(
    key: Key[Array, ""],
    denoiser: AbstractTokenDenoiser,
    reference: AbstractTokenDenoiser,
    x: Data,
    t: Times,
    num_draws: int,
) -> tuple[Float[Array, "draws data sites"], Float[Array, "draws data sites"]]:
    """Equation (3) under both denoisers, in each draw."""

    def draw(key: Key[Array, ""]) -> tuple[Variances, Variances]:
        x_t = denoiser.process.draw_noised(key, x, per_datum(t, x))
        return site_variance(denoiser.denoise_batch(x_t, t)), site_variance(reference.denoise_batch(x_t, t))

    return jax.lax.map(draw, jax.random.split(key, num_draws))


@eqx.filter_jit
def _of_arrays(
    key: Key[Array, ""], field: LocalField, reference: LocalField, num_draws: int, num_probes: int | None
) -> tuple[Float[Array, "draws data d"], Float[Array, "draws data d"]]:
    """Equation (2) over s^2, which cancels in (1), under both denoisers, in each draw."""
    noise, points = field.noise, field.points

    def draw(key: Key[Array, ""]) -> tuple[Variances, Variances]:
        noise_key, probe_key = jax.random.split(key)
        y = points + noise * jax.random.normal(noise_key, points.shape, points.dtype)
        probes = _probes(probe_key, points, num_probes)
        return _diagonal(field, y, probes), _diagonal(reference, y, probes)

    return jax.lax.map(draw, jax.random.split(key, num_draws))


def _probes(
    key: Key[Array, ""], points: Float[Array, "data d"], num_probes: int | None
) -> Float[Array, "probes data d"]:
    """Vectors v for which the mean of v (J v) is the diagonal of J: random signs, or all axes, sqrt(d) long."""
    count, d = points.shape
    if num_probes is not None:
        return jax.random.rademacher(key, (num_probes, count, d), points.dtype)
    return jnp.broadcast_to(d**0.5 * jnp.eye(d, dtype=points.dtype)[:, None], (d, count, d))


def _diagonal(field: LocalField, y: Float[Array, "data d"], probes: Float[Array, "probes data d"]) -> Variances:
    """J_ii by derivatives of the mean: from those of the score, a variance near 0 would be a difference of ones."""
    denoiser, t = field.denoiser, field.t
    alpha = denoiser.process.path.alpha(t)[:, None]

    def mean(y: Float[Array, "data d"]) -> Float[Array, "data d"]:
        return denoiser.denoise_batch((alpha * y).reshape(len(y), *denoiser.shape), t).reshape(y.shape)

    return jnp.mean(field.over_draws(lambda v: v * jax.jvp(mean, (y,), (v,))[1], probes), 0)


@jax.jit
def _log_ratio(of: Float[Array, "draws data *datum"], reference: Float[Array, "draws data *datum"]) -> Estimate:
    """Equations (1) and (4)."""
    own, wanted = jnp.mean(of, 0), jnp.mean(reference, 0)
    error = mean_estimate(reference / wanted[None] - of / own[None]).stderr
    return Estimate(jnp.log(wanted) - jnp.log(own), error)


def _refuse_unlike(denoiser: AbstractDenoiser, reference: AbstractDenoiser) -> None:
    same = eqx.tree_equal(denoiser.process, reference.process)
    if denoiser.shape != reference.shape or (not isinstance(same, Tracer) and not bool(same)):
        raise ValueError(
            f"{type(denoiser).__name__} has shape {denoiser.shape} and process {denoiser.process}, "
            f"{type(reference).__name__} {reference.shape} and {reference.process}: give denoisers of the same"
        )
