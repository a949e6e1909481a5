r"""Mixtures of Gaussians, noised or not: density, score, curvature and posterior in closed form.

With weights w_k, means mu_k and covariances S_k, noise x_t = a x_0 + s z makes of a mixture another one, with means
a mu_k and covariances C_k = a^2 S_k + s^2. Writing P_k = C_k^-1, y_k = x - mu_k and g_k = -P_k y_k,

    ln p(x)   = logsumexp_k ( ln w_k + ln N(y_k; 0, C_k) ),        r = softmax of the same terms,                   (1)
    score     g = sum_k r_k g_k,                                                                                   (2)
    Hessian   H = -sum_k r_k P_k + sum_k r_k g_k g_k' - g g',                                                       (3)
    mean      E[x_0 | x_t] = sum_k r_k (mu_k + a S_k C_k^-1 (x_t - a mu_k)),                                        (4)
    spread    Cov[x_0 | x_t] = (s^4 H + s^2) / a^2         with H that of the noised mixture.                       (5)

Everything stays in logarithms. Covariances are kept as variances along axes: one number, one per coordinate, or one per
eigenvector, so that P_k, C_k and square roots are never more than divisions; axes are found once, at construction.
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

from ..arguments import AnyKey, Given, as_numbers
from ..law import AbstractNoisedLaw, Sample, Shape, sample_each


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
          weights: relative; they are normalised.
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
        if covariances.shape != expected.get(covariances.ndim) or len(weights) != len(means):
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
        """The law of alpha x + sigma z."""
        alpha, sigma = (as_numbers(n, self.means.dtype) for n in (alpha, sigma))
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
        """ln p(x), nats; covariances must have no zero variance."""
        return self._over_batch(lambda x: jax.nn.logsumexp(self._log_terms(x)), "(d)->()", x)

    def component_posterior(self, x: Given) -> Float[Array, "*batch K"]:
        """r of equation (1): which component x is from."""
        return self._over_batch(self._responsibilities, "(d)->(k)", x)

    def score(self, x: Given) -> Float[Array, "*batch d"]:
        """Equation (2)."""
        return self._over_batch(lambda x: self._responsibilities(x) @ self._pulls(x), "(d)->(d)", x)

    def hessian_vector(self, x: Given, v: Given) -> Float[Array, "*batch d"]:
        """H v of equation (3), in O(K d) for diagonal covariances."""

        def product(x, v):
            posterior, pulls = self._responsibilities(x), self._pulls(x)
            score = posterior @ pulls
            curved = self._from_axes(self._to_axes(jnp.broadcast_to(v, pulls.shape)) / self.variances)
            return -posterior @ curved + (posterior * (pulls @ v)) @ pulls - score * (score @ v)

        return self._over_batch(product, "(d),(d)->(d)", x, v)

    def laplacian(self, x: Given) -> Float[Array, "*batch"]:
        """tr H of equation (3)."""

        def trace(x):
            posterior, pulls = self._responsibilities(x), self._pulls(x)
            score = posterior @ pulls
            return posterior @ (jnp.sum(pulls**2, 1) - self._summed(1 / self.variances)) - score @ score

        return self._over_batch(trace, "(d)->()", x)

    def posterior_mean(self, x_t: Given, alpha: Given, sigma: Given) -> Float[Array, "*batch d"]:
        """E[x_0 | x_t] for x_0 from this mixture and x_t = alpha x_0 + sigma z, equation (4)."""

        def mean(x_t, alpha, sigma):
            means, _ = self._posterior_components(x_t, alpha, sigma)
            return self.noised(alpha, sigma)._responsibilities(x_t) @ means

        return self._over_batch(mean, "(d),(),()->(d)", x_t, alpha, sigma)

    def posterior_covariance(self, x_t: Given, alpha: Given, sigma: Given) -> Float[Array, "*batch d d"]:
        """Cov[x_0 | x_t], equation (5), summed over components so that nothing cancels at small sigma."""

        def covariance(x_t, alpha, sigma):
            means, variances = self._posterior_components(x_t, alpha, sigma)
            posterior = self.noised(alpha, sigma)._responsibilities(x_t)
            away = means - (posterior @ means)[None]
            between = jnp.einsum("k,ki,kj->ij", posterior, away, away)
            if self.axes is None:
                return between + jnp.diag(posterior @ jnp.broadcast_to(variances, means.shape))
            return between + jnp.einsum("k,kia,ka,kja->ij", posterior, self.axes, variances, self.axes)

        return self._over_batch(covariance, "(d),(),()->(d,d)", x_t, alpha, sigma)

    def posterior_sample(
        self, key: Key[Array, ""], x_t: Float[Array, " d"], alpha: Given, sigma: Given
    ) -> Float[Array, " d"]:
        """An exact draw of x_0 given one x_t; `theory.exact.MixtureDenoiser` draws for many."""
        means, variances = self._posterior_components(x_t, alpha, sigma)
        log_posterior = self.noised(alpha, sigma)._log_terms(x_t)
        # x_0 given x_t and the component is a Gaussian along the same axes: a mixture again
        parts = (jax.nn.softmax(log_posterior), means, variances)
        drawn = eqx.tree_at(lambda m: (m.weights, m.means, m.variances), self, parts)._draw(key).x
        return jnp.where(jnp.isnan(parts[0][0]), jnp.nan, drawn)  # the components' weights are not known

    def _over_batch(self, function: Callable, signature: str, *arguments: Any) -> Array:
        """A function of one datum, over all leading axes of its arguments, in the dtype of the means."""
        arguments = tuple(as_numbers(argument, self.means.dtype) for argument in arguments)
        if arguments[0].shape[-1:] != (self.dimension,):
            raise ValueError(f"x has shape {arguments[0].shape}: the last axis of this law is d = {self.dimension}")
        return jnp.vectorize(function, signature=signature)(*arguments)

    def _responsibilities(self, x: Float[Array, " d"]) -> Float[Array, " K"]:
        return jax.nn.softmax(self._log_terms(x))

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

    def _log_terms(self, x: Float[Array, " d"]) -> Float[Array, " K"]:
        """ln w_k + ln N(y_k; 0, C_k)."""
        distances = jnp.sum(self._to_axes(x[None] - self.means) ** 2 / self.variances, 1)
        log_volume = self._summed(jnp.log(self.variances)) + self.dimension * math.log(2 * math.pi)
        return self._log_weights - (distances + log_volume) / 2

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


def two_clusters(key: Key[Array, ""], dimension: int, std: float) -> GaussianMixture:
    """Equal clusters of standard deviation `std` at +-m, |m|^2 = d, in a random direction; float32.

    Raises:
      ValueError: if `std` is not positive.
    """
    if not std > 0:
        raise ValueError(f"std = {std}: must be positive")
    direction = jax.random.normal(key, (dimension,), jnp.float32)
    mean = direction * jnp.sqrt(dimension / jnp.sum(direction**2))
    return GaussianMixture(jnp.ones(2, jnp.float32), jnp.stack([mean, -mean]), std**2)
