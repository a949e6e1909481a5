r"""The local field of a denoiser: its score around given points, and the derivatives of its mean, in one notation.

Whatever the path, x_t = alpha x_0 + sigma z is alpha times a point with noise s = sigma / alpha, which is not shrunk:

    y = x_0 + s z,        D(y) = E[x_0 | y],        score(y) = (D(y) - y) / s^2,        J = dD/dy = 1 + s^2 dscore/dy.

Every estimator of `dimension` is a moment of these. Points are rows of d numbers, whatever the shape of a datum.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key, Shaped

from hierarchical.arguments import Given

from ...denoise.denoiser import AbstractDenoiser, AbstractVectorDenoiser
from ...noise.gaussian import log_ratio, time_of_log_ratio

ROWS_AT_ONCE = 4096  # points that the denoiser sees together, draws of all points among them
Points = Float[Array, "points d"]


class LocalField(eqx.Module):
    """The score of a denoiser around points, each at a noise of its own."""

    denoiser: AbstractVectorDenoiser
    points: Points
    t: Float[Array, " points"]
    batch: tuple[int, ...] = eqx.field(static=True)
    """The batch axes of the points as they were given."""

    @property
    def noise(self) -> Float[Array, "points 1"]:
        """s = sigma / alpha."""
        return (self.denoiser.process.path.sigma(self.t) / self._alpha)[:, None]

    @property
    def _alpha(self) -> Float[Array, " points"]:
        return self.denoiser.process.path.alpha(self.t)

    def score(self, y: Points) -> Points:
        """grad ln p_s(y) at a place near each point."""
        alpha = self._alpha[:, None]
        x_t = (alpha * y).reshape(len(y), *self.denoiser.shape)
        return alpha * self.denoiser.score_batch(x_t, self.t).reshape(y.shape)

    def at(self, t: Float[Array, " points"]) -> "LocalField":
        """The field around the same points at other times."""
        return LocalField(self.denoiser, self.points, t, self.batch)

    def quieter(self, halvings: int) -> "LocalField":
        """The field around the same points at a noise whose variance s^2 is halved so many times."""
        return self.at(time_of_log_ratio(log_ratio(self.t) + halvings * math.log(2) / 2))

    def shift(self) -> Float[Array, " points"]:
        """s^2 |score|^2 at the points: how far the mean is from each, in units of s, squared."""
        return self.noise[:, 0] ** 2 * jnp.sum(self.score(self.points) ** 2, 1)

    def hessian_times(self, v: Points) -> Points:
        """The derivative of the score times v, at each point."""
        return jax.jvp(self.score, (self.points,), (v,))[1]

    def jacobian_times(self, v: Points) -> Points:
        """J v at each point."""
        return v + self.noise**2 * self.hessian_times(v)

    def traces(
        self, key: Key[Array, ""], num_probes: int | None, times: Callable[[Points], Points]
    ) -> Float[Array, "draws points"]:
        """v . A v for random signs v, whose mean is tr A; without probes one exact row, by all axes.

        Args:
          times: A, a linear map at each point.
        """
        shape, dtype = self.points.shape, self.points.dtype

        def along(v: Points) -> Float[Array, " points"]:
            return jnp.sum(v * times(v), 1)

        def axis(i: Int[Array, ""]) -> Points:
            return jnp.broadcast_to(jax.nn.one_hot(i, shape[1], dtype=dtype), shape)

        if num_probes is None:
            return jnp.sum(self.over_draws(lambda i: along(axis(i)), jnp.arange(shape[1])), 0)[None]
        keys = jax.random.split(key, num_probes)
        return self.over_draws(lambda k: along(jax.random.rademacher(k, shape, dtype)), keys)

    def over_draws(self, function: Callable[[Any], Any], draws: Shaped[Array, "draws ..."]) -> Any:
        """The function of each draw, or of the key of each: as many at a time as memory is set aside for."""
        at_once = max(1, ROWS_AT_ONCE // max(1, len(self.points)))
        return jax.lax.map(function, draws, batch_size=min(at_once, len(draws)))


def local_field(denoiser: AbstractDenoiser, x: Given, t: Given) -> LocalField:
    """The field around clean points.

    Args:
      x: clean data (..., *denoiser.shape).
      t: noise times in (0, max_time], one for all or an array whose axes are the first of those of x.

    Raises:
      ValueError: if the denoiser is one of strings, a shape does not fit, or a known time is 0 or out of range.
    """
    if not isinstance(denoiser, AbstractVectorDenoiser):
        raise ValueError(f"{type(denoiser).__name__} is no denoiser of arrays: a local field needs one")
    rows, times, batch = denoiser.rows(x, t)
    if not isinstance(times, Tracer) and not bool(jnp.all(times > 0)):
        raise ValueError("t = 0: without noise there is no local field; give a positive time")
    return LocalField(denoiser, rows.reshape(len(rows), math.prod(denoiser.shape)), times, batch)
