r"""Mixtures of Gaussians, noised or not: density, score, curvature and posterior in closed form.

With weights w_k, means mu_k and covariances S_k, noise x_t = a x_0 + s z makes of a mixture another one, with means
a mu_k and covariances C_k = a^2 S_k + s^2. Writing P_k = C_k^-1, y_k = x - mu_k and g_k = -P_k y_k,

    ln p(x)   = logsumexp_k ( ln w_k + ln N(y_k; 0, C_k) ),        r = softmax of the same terms,                   (1)
    score     g = sum_k r_k g_k,                                                                                   (2)
    Hessian   H = -sum_k r_k P_k + sum_k r_k g_k g_k' - g g',                                                       (3)
    mean      E[x_0 | x_t] = sum_k r_k (mu_k + a S_k C_k^-1 (x_t - a mu_k)),                                        (4)
    spread    Cov[x_0 | x_t] = (s^4 H + s^2) / a^2         with H that of the noised mixture.                       (5)

Everything stays in logarithms, and r is right however far x is from all means (`differences`). Covariances are kept as
variances along axes: one number, one per coordinate, or one per eigenvector, so that P_k, C_k and square roots are
never more than divisions; axes are found once, at construction.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..arguments import AnyKey, Given, as_key, as_numbers
from ..law import AbstractNoisedLaw, Sample, Shape, one_noise, over_batch, sample_each
from .differences import Terms, log_terms


class GaussianMixture(AbstractNoisedLaw):
    """A mixture of K Gaussians in d dimensions."""

    weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    variances: Float[Array, "K axes"]
    """Along the axes of each component: (K, d), or (K, 1) where all are equal."""
    axes: Float[Array, "K d d"] | None
    """Columns are orthonormal axes; None: those of the coordinates."""

    def __init__(self, weights: Given, means: Given, covariances: Given):
        """Everything is kept in the dtype of the means; means of whole numbers become floats.

        Args:
          weights: (K,), relative: they are normalised; a component without weight may have 0.
          covariances: full (K, d, d), diagonal (K, d), or variances: one for each component, or one for all.

        Raises:
          ValueError: if shapes do not fit, a number is not finite, a weight is negative, none is positive, or a
            covariance is not symmetric or has a negative variance.
        """
        self.means = means = as_numbers(means)
        weights, covariances = as_numbers(weights, means.dtype), as_numbers(covariances, means.dtype)
        if means.ndim != 2:
            raise ValueError(f"means have shape {means.shape}: give (K, d), a row for each component")
        for name, numbers in {"means": means, "covariances": covariances}.items():
            if not isinstance(numbers, Tracer) and not np.isfinite(np.asarray(numbers)).all():
                raise ValueError(f"{name} hold NaN or infinite numbers: give finite ones")
        expected = {0: (), 1: (len(means),), 2: means.shape, 3: (*means.shape, means.shape[1])}
        if covariances.shape != expected.get(covariances.ndim) or weights.shape != (len(means),):
            raise ValueError(
                f"weights {weights.shape}, means {means.shape}, covariances {covariances.shape}: give (K,), (K, d) and "
                f"one of (K, d, d), (K, d), (K,), ()"
            )
        _check_weights(weights)
        self.weights = weights / jnp.sum(weights)
        if covariances.ndim == 3:
            _check_symmetric(covariances)
            self.variances, self.axes = _along_axes(covariances)
        else:
            self.axes = None
            self.variances = jnp.broadcast_to(covariances, len(means))[:, None] if covariances.ndim < 2 else covariances
        if not isinstance(self.variances, Tracer) and not float(jnp.min(self.variances)) >= 0:
            raise ValueError(f"a variance is {float(jnp.min(self.variances)):.3g}: variances must not be negative")

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Float[Array, "K d d"]:
        """Covariance of each component, written out."""
        variances = jnp.broadcast_to(self.variances, self.means.shape)
        if self.axes is None:
            return jax.vmap(jnp.diag)(variances)
        return jnp.einsum("kia,ka,kja->kij", self.axes, variances, self.axes)

    def noised(self, alpha: Given, sigma: Given) -> "GaussianMixture":
        """The law of alpha x + sigma z, for one alpha and one sigma.

        Raises:
          ValueError: if one of them is several numbers.
        """
        alpha, sigma = one_noise(alpha, sigma, self.means.dtype)
        parts = (alpha * self.means, alpha**2 * self.variances + sigma**2)
        return eqx.tree_at(lambda mixture: (mixture.means, mixture.variances), self, parts)

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Points; `latent` is the component that each is from, int32."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key: Key[Array, ""]) -> Sample:
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, self._log_weights)
        noise = jax.random.normal(noise_key, (self.dimension,), self.means.dtype)
        spread = jnp.sqrt(self.variances[component]) * noise
        if self.axes is not None:
            spread = self.axes[component] @ spread
        return Sample(self.means[component] + spread, component.astype(jnp.int32))

    def log_prob(self, x: Given) -> Float[Array, "*batch"]:
        """ln p(x), nats; covariances must have no zero variance. `-inf` only where no number of the dtype is as low."""
        return self._over_batch(self._log_density, "(d)->()", x)

    def component_posterior(self, x: Given) -> Float[Array, "*batch K"]:
        """r of equation (1): which component x is from."""
        return self._over_batch(self._responsibilities, "(d)->(k)", x)

    def score(self, x: Given) -> Float[Array, "*batch d"]:
        """Equation (2)."""
        return self._over_batch(self._gradient, "(d)->(d)", x)

    def hessian_vector(self, x: Given, v: Given) -> Float[Array, "*batch d"]:
        """H v of equation (3), in O(K d) for diagonal covariances."""
        return self._over_batch(self._curvature, "(d),(d)->(d)", x, v)

    def laplacian(self, x: Given) -> Float[Array, "*batch"]:
        """tr H of equation (3)."""
        return self._over_batch(self._trace, "(d)->()", x)

    def posterior_mean(self, x_t: Given, alpha: Given, sigma: Given) -> Float[Array, "*batch d"]:
        """E[x_0 | x_t] for x_0 from this mixture and x_t = alpha x_0 + sigma z, equation (4)."""
        return self._over_batch(self._mean, "(d),(),()->(d)", x_t, alpha, sigma)

    def posterior_covariance(self, x_t: Given, alpha: Given, sigma: Given) -> Float[Array, "*batch d d"]:
        """Cov[x_0 | x_t], equation (5), summed over components so that nothing cancels at small sigma."""
        return self._over_batch(self._covariance, "(d),(),()->(d,d)", x_t, alpha, sigma)

    def posterior_sample(self, key: AnyKey, x_t: Given, alpha: Given, sigma: Given) -> Float[Array, "*batch d"]:
        """An exact draw of x_0 for each x_t, (..., d), independent of each other; NaN where x_t is not finite.

        Args:
          alpha, sigma: one number for all, or an array whose axes are the first of the batch.

        Raises:
          ValueError: if a shape does not fit.
        """
        key, x_t = as_key(key), self._vectors(x_t)
        batch = x_t.shape[:-1]
        scales = (self._for_each(batch, name, scale) for name, scale in (("alpha", alpha), ("sigma", sigma)))
        if not batch:
            return self._posterior_draw(key, x_t, *scales)
        rows = x_t.reshape(-1, self.dimension), *(scale.reshape(-1) for scale in scales)
        keys = jax.random.split(key, math.prod(batch))
        return _draws(self._posterior_draw, keys, *rows).reshape(x_t.shape)

    def _for_each(self, batch: tuple[int, ...], name: str, scale: Given) -> Float[Array, "*batch"]:
        numbers = as_numbers(scale, self.means.dtype)
        if numbers.shape != batch[: numbers.ndim]:
            raise ValueError(f"{name} has shape {numbers.shape}, the batch {batch}: give one, or one per datum")
        return jnp.broadcast_to(numbers.reshape(*numbers.shape, *[1] * (len(batch) - numbers.ndim)), batch)

    def _posterior_draw(self, key: Key[Array, ""], x_t: Float[Array, " d"], alpha: Array, sigma: Array) -> Array:
        means, variances = self._posterior_components(x_t, alpha, sigma)
        posterior = self.noised(alpha, sigma)._responsibilities(x_t)
        # x_0 given x_t and the component is a Gaussian along the same axes: a mixture again
        of_x_0 = eqx.tree_at(lambda m: (m.weights, m.means, m.variances), self, (posterior, means, variances))
        return jnp.where(jnp.isnan(posterior[0]), jnp.nan, of_x_0._draw(key).x)  # the components' weights are not known

    def _vectors(self, x: Given) -> Float[Array, "*batch d"]:
        x = as_numbers(x, self.means.dtype)
        if x.shape[-1:] != (self.dimension,):
            raise ValueError(f"x has shape {x.shape}: the last axis of this law is d = {self.dimension}")
        return x

    def _over_batch(self, function: Callable, signature: str, *arguments: Any) -> Array:
        """A function of one datum, over all leading axes of its arguments, in the dtype of the means."""
        x, *others = arguments
        others = (as_numbers(other, self.means.dtype) for other in others)
        return over_batch(function, signature, self._vectors(x), *others)

    def _log_density(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        terms = self._log_terms(x)
        return terms.largest + jax.nn.logsumexp(terms.below)

    def _gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self._score(x)[0]

    def _curvature(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        _, posterior, away = self._score(x)
        curved = self._from_axes(self._to_axes(jnp.broadcast_to(v, away.shape)) / self.variances)
        return -posterior @ curved + (posterior * (away @ v)) @ away

    def _trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        _, posterior, away = self._score(x)
        return posterior @ (jnp.sum(away**2, 1) - self._summed(1 / self.variances))

    def _mean(self, x_t: Float[Array, " d"], alpha: Float[Array, ""], sigma: Float[Array, ""]) -> Float[Array, " d"]:
        means, _ = self._posterior_components(x_t, alpha, sigma)
        return self.noised(alpha, sigma)._responsibilities(x_t) @ means

    def _covariance(
        self, x_t: Float[Array, " d"], alpha: Float[Array, ""], sigma: Float[Array, ""]
    ) -> Float[Array, "d d"]:
        means, variances = self._posterior_components(x_t, alpha, sigma)
        posterior = self.noised(alpha, sigma)._responsibilities(x_t)
        away = means - (posterior @ means)[None]
        between = jnp.einsum("k,ki,kj->ij", posterior, away, away)
        if self.axes is None:
            return between + jnp.diag(posterior @ jnp.broadcast_to(variances, means.shape))
        return between + jnp.einsum("k,kia,ka,kja->ij", posterior, self.axes, variances, self.axes)

    def _responsibilities(self, x: Float[Array, " d"]) -> Float[Array, " K"]:
        return jax.nn.softmax(self._log_terms(x).below)

    def _score(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " K"], Float[Array, "K d"]]:
        """g, r, and g_k - g, whose squares do not cancel as those of g_k and g do; 0 where r_k is."""
        posterior = self._responsibilities(x)
        matters = posterior[:, None] > 0  # other g_k may be infinite
        pulls = jnp.where(matters | jnp.isnan(posterior[:, None]), self._pulls(x), 0)
        score = posterior @ pulls
        return score, posterior, jnp.where(matters, pulls - score[None], 0)

    def _posterior_components(self, x_t: Float[Array, " d"], alpha: Given, sigma: Given):
        """Means and variances of x_0 given x_t and its component."""
        alpha, sigma = (as_numbers(n, self.means.dtype) for n in (alpha, sigma))
        total = alpha**2 * self.variances + sigma**2
        away = self._to_axes(x_t[None] - alpha * self.means)
        means = self.means + self._from_axes(alpha * self.variances / total * away)
        return means, self.variances * sigma**2 / total

    @property
    def _log_weights(self) -> Float[Array, " K"]:
        """ln w, with a gradient of 0 where the weight is 0."""
        positive = self.weights > 0
        return jnp.where(positive, jnp.log(jnp.where(positive, self.weights, 1)), -jnp.inf)

    def _log_terms(self, x: Float[Array, " d"]) -> Terms:
        """ln w_k + ln N(y_k; 0, C_k)."""
        log_volume = self._summed(jnp.log(self.variances)) + self.dimension * math.log(2 * math.pi)
        return log_terms(x, self._log_weights - log_volume / 2, self.means, self.variances, self.axes)

    def _pulls(self, x: Float[Array, " d"]) -> Float[Array, "K d"]:
        """g_k."""
        return -self._from_axes(self._to_axes(x[None] - self.means) / self.variances)

    def _summed(self, along: Float[Array, "K axes"]) -> Float[Array, " K"]:
        """A sum over all d axes, where one number may stand for all."""
        return jnp.sum(along, 1) * (self.dimension // along.shape[1])

    def _to_axes(self, vectors: Float[Array, "K d"]) -> Float[Array, "K d"]:
        return vectors if self.axes is None else jnp.einsum("kia,ki->ka", self.axes, vectors)

    def _from_axes(self, vectors: Float[Array, "K d"]) -> Float[Array, "K d"]:
        return vectors if self.axes is None else jnp.einsum("kia,ka->ki", self.axes, vectors)


def _along_axes(covariances: Float[Array, "K d d"]) -> tuple[Array, Array]:
    """Variances and axes; rounding below 0 is 0."""
    variances, axes = jnp.linalg.eigh(covariances)
    scale = jnp.max(jnp.abs(variances), 1, keepdims=True)
    rounding = covariances.shape[1] * jnp.finfo(covariances.dtype).eps * scale
    return jnp.where(jnp.abs(variances) < rounding, jnp.maximum(variances, 0), variances), axes


@eqx.filter_jit
def _draws(draw: Callable, keys: Key[Array, " rows"], *rows: Array) -> Float[Array, "rows d"]:
    return jax.vmap(draw)(keys, *rows)


def _check_weights(weights: Float[Array, " K"]) -> None:
    if isinstance(weights, Tracer):
        return
    if not (np.isfinite(weights).all() and np.min(weights) >= 0 and np.sum(weights) > 0):
        raise ValueError(
            f"weights {np.asarray(weights)}: give finite numbers that are not negative, one at least positive"
        )


def _check_symmetric(covariances: Float[Array, "K d d"]) -> None:
    if isinstance(covariances, Tracer):
        return
    found = np.asarray(covariances)
    worst = float(np.abs(found - found.transpose(0, 2, 1)).max())
    if worst > 1e-5 * float(np.abs(found).max()):
        raise ValueError(f"a covariance differs from its transpose by {worst:.3g}: give symmetric matrices")


def two_clusters(key: AnyKey, dimension: int, std: float) -> GaussianMixture:
    """Equal clusters of standard deviation `std` at +-m, |m|^2 = d, in a random direction; float32.

    Raises:
      ValueError: if `std` is not positive.
    """
    if not std > 0:
        raise ValueError(f"std = {std}: must be positive")
    direction = jax.random.normal(as_key(key), (dimension,), jnp.float32)
    mean = direction * jnp.sqrt(dimension / jnp.sum(direction**2))
    return GaussianMixture(jnp.ones(2, jnp.float32), jnp.stack([mean, -mean]), std**2)
