r"""Dimension from moments of the score around a point x of the data, at noise s; D, J and score as in `field`.

On a flat piece of dimension k the score of y = x + s z is -(z across the piece) / s, and J is 1 along the piece, 0
across it. Hence three estimates, each for every point:

    flipd    d + s^2 (tr dscore/dx + |score|^2) at x itself,                                                       (1)
    dsm      E |z + s score(x + s z)|^2,                                                                           (2)
    trace    E z . (z + (s / 2) (score(x + s z) - score(x - s z))).                                                (3)

(1) needs derivatives, (2) and (3) do not. (3) is not biased by an error of the score that is independent of z, and (2)
is, upward: their difference tells that error. Curvature biases all, on a k-sphere of radius R (1) by -k (k - 2) s^2 /
(4 R^2), (2) and (3) by -k (k - 1) s^2 / R^2. Such a bias is a series in s^2, so values F at s, s / 2^(1/2), s / 2, ...
extrapolate to s = 0 (Richardson):

    2 F(s / 2^(1/2)) - F(s),        (8 F(s / 2) - 6 F(s / 2^(1/2)) + F(s)) / 3,        ...                         (4)

Draws and probes are the same at all these noises, where most of their error is common, so (4) adds little error.

Sources: (1) Kamkari et al., FLIPD (NeurIPS 2024); (2) Yeats et al., arXiv:2510.12975; (3) derived here.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from ..estimate import Estimate, mean_estimate
from ..field.local import LocalField, local_field

CURVED = 0.25  # the share of the value from which what (4) corrects is called a limit
Terms = Float[Array, "draws points"]


class Dimension(Estimate):
    """An estimate of the dimension at each point; `flags` mark the points where it means something else."""

    flags: dict[str, Bool[Array, "*shape"]]

    @property
    def overall(self) -> Estimate:
        """The mean over all points, with its error from their scatter; of points that are independent data."""
        return mean_estimate(self.value.reshape(-1))


class Moments(NamedTuple):
    """A term of an estimate for each draw, plain and extrapolated."""

    plain: Terms
    extrapolated: Terms


def flipd(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    x: Given,
    t: Given,
    *,
    num_probes: Whole | None = None,
    extrapolate: Whole = 0,
) -> Dimension:
    """Equation (1) at each point.

    Args:
      x, t: clean data and noise times, as of `local_field`.
      num_probes: random signs for the trace, which give it an error; None: the exact trace, d derivatives, error 0.
      extrapolate: how many smaller noises equation (4) takes in; 0: none.

    Flags: "memorised", dimension 0, the value is below 1/2; "below data resolution": the mean at x is further from x
    than noise reaches along the piece, s^2 |score|^2 > 1 + tr J, so x is between the points that the denoiser knows;
    "curvature-limited", if extrapolated: that changes the value by more than a quarter.

    Raises:
      ValueError: as `local_field`; with a single probe, which tells no error; or if `extrapolate` is negative.
    """
    field = local_field(denoiser, x, t)
    count = None if num_probes is None else as_whole("num_probes", num_probes, 2)
    levels = _levels(field, as_whole("extrapolate", extrapolate, 0))
    each = [_flipd(jax.random.clone(as_key(key)), level, count) for level in levels]
    traces, squared = _extrapolated([terms for terms, _ in each]), each[0][1]
    found = _estimate(field, traces)
    if count is None:
        found = Dimension(found.value, jnp.zeros_like(found.value), found.flags)
    between = 2 * squared > 1 + jnp.mean(traces.plain, 0)  # tr J is the value without s^2 |score|^2
    return _with_flags(found, {"below data resolution": between.reshape(field.batch)})


def dsm(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_draws: Whole = 64, extrapolate: Whole = 0
) -> Dimension:
    """Equation (2) at each point, over pairs of z and -z: 2 `num_draws` scores at each noise.

    Arguments, errors and flags as of `trace`; and flag "score error suspected": (2) is above (3), of the same scores at
    noise t, by three standard errors of their difference.
    """
    field, moments = _drawn(key, denoiser, x, t, num_draws, extrapolate)
    norms, traces = moments
    gap = mean_estimate(norms.plain - traces.plain)
    return _with_flags(
        _estimate(field, norms), {"score error suspected": (gap.value > 3 * gap.stderr).reshape(field.batch)}
    )


def trace(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, num_draws: Whole = 64, extrapolate: Whole = 0
) -> Dimension:
    """Equation (3) at each point: 2 `num_draws` scores at each noise, no derivative.

    On a flat piece its standard deviation is (2 k / num_draws)^(1/2).

    Args:
      x, t: clean data and noise times, as of `local_field`.
      extrapolate: how many smaller noises equation (4) takes in; 0: none.

    Flags: "memorised" and "curvature-limited", as of `flipd`.

    Raises:
      ValueError: as `local_field`; with fewer than two draws; or if `extrapolate` is negative.
    """
    field, moments = _drawn(key, denoiser, x, t, num_draws, extrapolate)
    return _estimate(field, moments[1])


def _drawn(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, num_draws: Whole, extrapolate: Whole
) -> tuple[LocalField, tuple[Moments, Moments]]:
    field, draws = local_field(denoiser, x, t), as_whole("num_draws", num_draws, 2)
    levels = _levels(field, as_whole("extrapolate", extrapolate, 0))
    each = [antithetic(jax.random.clone(as_key(key)), level, draws) for level in levels]
    norms, traces = zip(*each, strict=True)
    return field, (_extrapolated(norms), _extrapolated(traces))


def _levels(field: LocalField, halvings: int) -> list[LocalField]:
    """The noises of equation (4)."""
    return [field, *(field.quieter(j) for j in range(1, halvings + 1))]


@eqx.filter_jit
def _flipd(key: Key[Array, ""], field: LocalField, num_probes: int | None) -> tuple[Terms, Float[Array, " points"]]:
    """Terms of (1) for each probe, and s^2 |score|^2."""
    squared = field.shift()
    return field.traces(key, num_probes, field.jacobian_times) + squared[None], squared


@eqx.filter_jit
def antithetic(key: Key[Array, ""], field: LocalField, num_draws: int) -> tuple[Terms, Terms]:
    """Terms of (2), the mean of z and -z, and of (3)."""
    points, s = field.points, field.noise

    def terms(key: Key[Array, ""]) -> tuple[Array, Array]:
        z = jax.random.normal(key, points.shape, points.dtype)
        up, down = field.score(points + s * z), field.score(points - s * z)
        norms = (jnp.sum((z + s * up) ** 2, 1) + jnp.sum((z - s * down) ** 2, 1)) / 2
        return norms, jnp.sum(z * (z + s / 2 * (up - down)), 1)

    return field.over_draws(terms, jax.random.split(key, num_draws))


def _extrapolated(levels: list[Terms] | tuple[Terms, ...]) -> Moments:
    """Equation (4) for each draw."""
    total = sum(weight * terms for weight, terms in zip(richardson(len(levels)), levels, strict=True))
    return Moments(levels[0], jnp.asarray(total))


def richardson(levels: int) -> list[float]:
    """The weights of equation (4): they sum to 1 and cancel the powers 1 .. levels - 1 of s^2."""
    place = 0.5 ** np.arange(levels)
    return [float(np.prod([-p / (q - p) for p in place if p != q])) for q in place]


def _estimate(field: LocalField, moments: Moments) -> Dimension:
    """The mean over draws of each point."""
    plain, found = mean_estimate(moments.plain), mean_estimate(moments.extrapolated)
    flags = {
        "memorised": found.value < 0.5,
        "curvature-limited": jnp.abs(found.value - plain.value) > CURVED * jnp.abs(found.value),
    }
    return over_batch(field, found.value, found.stderr, flags)


def _with_flags(found: Dimension, flags: dict[str, Array]) -> Dimension:
    return Dimension(found.value, found.stderr, {**found.flags, **flags})


def over_batch(field: LocalField, value: Array, stderr: Array, flags: dict[str, Array] | None = None) -> Dimension:
    """One estimate for each point, in the axes that were given."""
    marked = {name: marks.reshape(field.batch) for name, marks in (flags or {}).items()}
    return Dimension(value.reshape(field.batch), stderr.reshape(field.batch), marked)
