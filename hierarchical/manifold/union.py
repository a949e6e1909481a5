r"""Unions of laws on sets of different dimensions, and mixtures of any smoothed laws: p(x) = sum_i w_i p_i(x).

With responsibilities r_i = w_i p_i / p and scores g_i,

    score g = sum_i r_i g_i,        H v = sum_i r_i (H_i v + g_i (g_i . v)) - g (g . v).                           (1)
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arguments import AnyKey, Given, as_numbers
from ..law import AbstractNoisedLaw, Sample, Shape, sample_each


class Union(AbstractNoisedLaw):
    """A mixture of laws in the same space; `latent` is the number of the law that a datum is from."""

    laws: tuple[AbstractNoisedLaw, ...]
    weights: Float[Array, " laws"]

    def __init__(self, laws: Sequence[AbstractNoisedLaw], weights: Given | None = None):
        """Weights are relative; by default all are equal.

        Raises:
          ValueError: if there is no law, there is not one weight, positive, for each, or data of two laws differ in
            shape or dtype.
        """
        self.laws = tuple(laws)
        self.weights = as_weights(weights, len(self.laws), "laws")
        drawn = [jax.eval_shape(law.sample, jax.random.key(0)).x for law in self.laws]
        kinds = sorted({f"{x.dtype} of shape {x.shape}" for x in drawn})
        if len(kinds) > 1:
            raise ValueError(f"data are {' and '.join(kinds)}: give laws in one space and precision")

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Data, with the number of its law as `latent`; every law draws for every datum."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key):
        which_key, *keys = jax.random.split(key, len(self.laws) + 1)
        which = jax.random.categorical(which_key, jnp.log(self.weights)).astype(jnp.int32)
        drawn = jnp.stack([law.sample(k).x for law, k in zip(self.laws, keys, strict=True)])
        return Sample(drawn[which], which)

    def noised(self, alpha: Given, sigma: Given) -> "Union":
        laws = tuple(law.noised(alpha, sigma) for law in self.laws)
        return eqx.tree_at(lambda union: union.laws, self, laws, is_leaf=lambda x: x is self.laws)

    def component_posterior(self, x: Given) -> Float[Array, "*batch laws"]:
        """r: which law x is from."""
        return jax.nn.softmax(self._log_terms(x), -1)

    def log_prob(self, x: Given) -> Float[Array, "*batch"]:
        return jax.nn.logsumexp(self._log_terms(x), -1)

    def score(self, x: Given) -> Float[Array, "*batch d"]:
        return _mean(self.component_posterior(x), self._scores(x))

    def hessian_vector(self, x: Given, v: Given) -> Float[Array, "*batch d"]:
        """Equation (1)."""
        posterior, scores = self.component_posterior(x), self._scores(x)
        v = as_numbers(v, scores.dtype)
        along = jnp.sum(scores * v[..., None, :], -1, keepdims=True)  # (..., laws, 1)
        curved = jnp.stack([law.hessian_vector(x, v) for law in self.laws], -2) + scores * along
        score = _mean(posterior, scores)
        return _mean(posterior, curved) - score * jnp.sum(score * v, -1, keepdims=True)

    def laplacian(self, x: Given) -> Float[Array, "*batch"]:
        """The trace of equation (1)."""
        posterior, scores = self.component_posterior(x), self._scores(x)
        traces = jnp.stack([law.laplacian(x) for law in self.laws], -1) + jnp.sum(scores**2, -1)
        return jnp.sum(posterior * traces, -1) - jnp.sum(_mean(posterior, scores) ** 2, -1)

    def _log_terms(self, x: Given) -> Float[Array, "*batch laws"]:
        terms = jnp.stack([law.log_prob(x) for law in self.laws], -1)
        return terms + jnp.log(self.weights).astype(terms.dtype).reshape(*(1,) * (terms.ndim - 1), -1)

    def _scores(self, x: Given) -> Float[Array, "*batch laws d"]:
        return jnp.stack([law.score(x) for law in self.laws], -2)


def _mean(posterior: Float[Array, "*batch laws"], values: Float[Array, "*batch laws d"]) -> Float[Array, "*batch d"]:
    return jnp.sum(posterior[..., None] * values, -2)


def as_weights(weights: Given | None, number: int, what: str) -> Float[Array, " number"]:
    """Relative weights of the parts of a mixture as probabilities; all equal if none are given.

    Raises:
      ValueError: if there is no part, or not one positive weight for each.
    """
    given = jnp.ones(number) if weights is None else as_numbers(weights)
    if not number or given.shape != (number,) or not bool(jnp.all(given > 0)):
        raise ValueError(f"weights = {weights} of {number} {what}: give {what}, and a positive weight for each")
    return given / jnp.sum(given)
