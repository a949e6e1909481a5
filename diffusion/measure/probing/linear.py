r"""Linear probes: ridge regression of what is to be known (symbols, probabilities) from states.

With X the n states and Y the targets, each less its mean, X'X = V S V' and U = X V,

    weights  W = V (S + ridge)^-1 U' Y,           fitted  H Y,  H = U (S + ridge)^-1 U',                           (1)

and leaving datum i out, mean included, changes its error from e_i to

    e_i / (1 - 1/n - H_ii),                                                                                        (2)

so the mean square of (2) chooses the ridge without another fit. On data that were not fitted, with y0 the mean of the
targets that were,

    R^2 = 1 - mean |y - y_fit|^2 / mean |y - y0|^2,                                                                (3)

over all columns of the targets together, which for a symbol are its one-hot vector. It is 0 for a probe that knows the
law of the targets alone, and negative for one that fits its data better than others. As the ratio q of two means its
error is that of the rows 1 - q - (|y - y_fit|^2 - q |y - y0|^2) / mean |y - y0|^2 (the delta method). The *accuracy* is
the share of data for which the largest entries of target and fit are at the same place.

Sources: (2) Allen, Technometrics 16 (1974) 125 (PRESS).
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from hierarchical.arguments import Given, Whole, as_numbers, as_symbols, as_whole, as_widest

from ..estimate import Estimate, mean_estimate

RIDGES = tuple(10.0 ** np.arange(-5, 2.5, 0.5))
"""That are tried, in units of the mean of S; below the first, S of wide states is rounding in single precision."""
States = Float[Array, "n width"]
Targets = Float[Array, "n outputs"]


class Probe(eqx.Module):
    """A linear map from states to targets, or one for each place of leading axes."""

    weights: Float[Array, "*batch width outputs"]
    intercept: Float[Array, "*batch outputs"]
    ridge: Float[Array, "*batch"]
    """That (2) chose, in units of the mean of S."""

    def __call__(self, states: Given) -> Float[Array, "*batch n outputs"]:
        """What the probe says of states (..., n, width)."""
        weights, given = as_widest(self.weights, states)
        return given @ weights + self.intercept[..., None, :].astype(given.dtype)


class ProbeScore(NamedTuple):
    """How well a probe does on data that it was not fitted to; one for each place of leading axes."""

    r2: Estimate
    accuracy: Estimate


def linear_probe(states: Given, targets: Given, num_symbols: Whole | None = None) -> ProbeScore:
    """`fit_probe` on the first half of the data, `score_probe` on the other: shuffle data that come in an order.

    Args and errors as of `fit_probe`; at least four data.
    """
    x, y = _checked(states, targets, num_symbols, 4)
    half = x.shape[-2] // 2
    return score_probe(fit_probe(x[..., :half, :], y[..., :half, :]), x[..., half:, :], y[..., half:, :])


def fit_probe(states: Given, targets: Given, num_symbols: Whole | None = None) -> Probe:
    """The probe of equation (1), its ridge chosen by (2).

    Args:
      states: (..., n, width), finite; leading axes are probes of their own, and broadcast with those of the targets.
      targets: numbers (..., n, outputs), or symbols (..., n).
      num_symbols: of an alphabet of symbols, v; not used for numbers.

    Raises:
      ValueError: if shapes do not fit, there are fewer than two data, symbols come without their number or are outside
        the alphabet, or a known number is not finite.
    """
    return Probe(*_fitted(*_checked(states, targets, num_symbols, 2)))


def score_probe(probe: Probe, states: Given, targets: Given, num_symbols: Whole | None = None) -> ProbeScore:
    """R^2, equation (3), and accuracy of a probe on data that it was not fitted to. Args and errors as of `fit_probe`.

    y0 is read off the targets that are given. NaN where these are all the same.
    """
    x, y = _checked(states, targets, num_symbols, 2)
    if probe.weights.shape[-2:] != (x.shape[-1], y.shape[-1]):
        shape = probe.weights.shape[-2:]
        raise ValueError(f"the probe maps {shape[0]} numbers to {shape[1]}, data have {x.shape[-1]} and {y.shape[-1]}")
    return _score(probe(x), y)


@eqx.filter_jit
@functools.partial(jnp.vectorize, signature="(n,p),(n,q)->(p,q),(q),()")
def _fitted(x: States, y: Targets) -> tuple[Array, Array, Array]:
    x_mean, y_mean = jnp.mean(x, 0), jnp.mean(y, 0)
    inside, wanted = x - x_mean[None], y - y_mean[None]
    axes = jnp.linalg.eigh(jnp.matmul(inside.T, inside, precision="highest"))[1]
    turned = inside @ axes
    squares, along = jnp.sum(turned**2, 0), turned.T @ wanted
    scale = jnp.mean(squares)
    unit = jnp.where(scale > 0, scale, 1.0)  # states that are all the same say nothing, whatever the ridge

    def left_out(ridge: Float[Array, ""]) -> Float[Array, ""]:
        shares = 1 / (squares + ridge * unit)
        errors = wanted - turned @ (shares[:, None] * along)
        return jnp.mean((errors / (1 - 1 / len(x) - (turned**2) @ shares)[:, None]) ** 2)

    ridges = jnp.asarray(RIDGES, x.dtype)
    ridge = ridges[jnp.argmin(jax.lax.map(left_out, ridges))]
    weights = axes @ ((1 / (squares + ridge * unit))[:, None] * along)
    return weights, y_mean - x_mean @ weights, ridge


@eqx.filter_jit
def _score(fit: Float[Array, "*batch n outputs"], y: Float[Array, "*more n outputs"]) -> ProbeScore:
    fit, y = jnp.broadcast_arrays(fit, y)
    errors, variances = (jnp.sum(square**2, -1) for square in (y - fit, y - jnp.mean(y, -2, keepdims=True)))
    spread = jnp.mean(variances, -1, keepdims=True)
    ratio = jnp.mean(errors, -1, keepdims=True) / spread
    rows = 1 - ratio - (errors - ratio * variances) / spread
    right = (jnp.argmax(fit, -1) == jnp.argmax(y, -1)).astype(y.dtype)
    return ProbeScore(*(mean_estimate(jnp.moveaxis(numbers, -1, 0)) for numbers in (rows, right)))


def _checked(
    states: Given, targets: Given, num_symbols: Whole | None, least: int
) -> tuple[Float[Array, "*batch n width"], Float[Array, "*more n outputs"]]:
    """States and targets as numbers of one dtype, with as many axes.

    Raises:
      ValueError: see `fit_probe`.
    """
    x = as_numbers(states)
    given = targets if isinstance(targets, jax.Array) else np.asarray(targets)
    symbols = jnp.issubdtype(given.dtype, jnp.integer)
    if symbols:
        if num_symbols is None:
            raise ValueError("the targets are symbols: give num_symbols, the size of their alphabet")
        v = as_whole("num_symbols", num_symbols, 1)
        given = _one_hot(as_symbols(given, v, "targets"), v, x)
    x, y = as_widest(x, given)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-2] != y.shape[-2] or 0 in (*x.shape, *y.shape):
        shape = y.shape[:-1] if symbols else y.shape
        raise ValueError(
            f"states have shape {x.shape}, targets {shape}: give (..., n, width), and numbers (..., n, outputs) or "
            "symbols (..., n)"
        )
    if x.shape[-2] < least:
        raise ValueError(f"{x.shape[-2]} data: give at least {least}")
    for name, numbers in (("states", x), ("targets", y)):
        if not isinstance(numbers, Tracer) and not np.isfinite(np.asarray(numbers)).all():
            raise ValueError(f"the {name} hold NaN or infinite numbers: leave those data out")
    axes = max(x.ndim, y.ndim)
    return jnp.expand_dims(x, range(axes - x.ndim)), jnp.expand_dims(y, range(axes - y.ndim))


def _one_hot(symbols: Int[Array, "*batch n"], v: int, like: Float[Array, "..."]) -> Float[Array, "*batch n v"]:
    return jax.nn.one_hot(symbols, v, dtype=like.dtype)
