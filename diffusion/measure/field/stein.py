r"""The few directions in which a law is not Gaussian, from its scores (Stein's lemma).

A *multi-index law* is the standard normal law times a function of a few projections, p(x) ~ exp(-|x|^2 / 2) g(U' x),
U having orthonormal columns. Its score is that of the normal law but for what g adds, within the span of U,

    r(x)  =  score(x) + x  =  U grad ln g(U' x),           M = E r r',                                              (1)

so the eigenvectors of M of eigenvalues above 0 span U, unless g does not depend on one of them. Variance-preserving
noise keeps the normal law, and so the form of p with the same U and another g: (1) holds at every noise, for a score
that a denoiser has of noised data. More noise leaves less of it, about e^-4t where g has no linear part; less noise
shows the errors of a trained score. On other paths x and the score are scaled to the preserving one.

Eigenvalues are means over data, lambda_j = E (v_j . r)^2, with the standard errors of those means, v_j being kept. The
errors of a trained score have a second moment of their own, so that none of its eigenvalues is 0: directions count
as found up to the largest ratio of neighbouring ones. Source: derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffusion.denoise.denoiser import AbstractDenoiser
from diffusion.noise.process import beside
from diffusion.sampling.flow import path_scale
from hierarchical.arguments import AnyKey, Given, as_key

from ..estimate import Estimate, mean_estimate
from .local import LocalField, local_field


class SteinSubspace(eqx.Module):
    """Directions in order of how far the law is from Gaussian along them."""

    directions: Float[Array, "d d"]
    """Rows, orthonormal, up to their signs."""
    eigenvalues: Estimate
    """Of M, (d,), the largest first; 0 along all directions in which the law is standard normal."""
    dimension: Int[Array, ""]
    """How many stand before the largest ratio of neighbouring eigenvalues; 0 if all are rounding."""

    def subspace(self) -> Float[Array, "found d"]:
        """The directions that are counted, for known arrays."""
        return self.directions[: int(self.dimension)]


def stein_subspace(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given) -> SteinSubspace:
    """Eigenvectors and eigenvalues of M, equation (1), over data with noise.

    Args:
      denoiser: of arrays; d is the size of a datum.
      x: clean data (..., *denoiser.shape), two or more independent draws whose law is standard normal but for a few
        directions; noise is added once to each.
      t: noise times in (0, max_time], one for all or an array whose axes are the first of those of x.

    Raises:
      ValueError: as `local_field`, or for a single datum.
    """
    field = local_field(denoiser, x, t)
    if len(field.points) < 2:
        raise ValueError("x is a single datum: give two or more, over which M is a mean")
    noise = jax.random.normal(as_key(key), field.points.shape, field.points.dtype)
    y = field.points + field.noise * noise
    return _subspace(_departure(field, y), y)


@eqx.filter_jit
def _departure(field: LocalField, y: Float[Array, "points d"]) -> Float[Array, "points d"]:
    """r at x_t = alpha y, in the scale of the variance-preserving path."""
    alpha = beside(field.denoiser.process.path.alpha(field.t), y)
    scale = beside(path_scale(field.denoiser, field.t), y)
    return scale * field.score(y) / alpha + alpha * y / scale


@eqx.filter_jit
def _subspace(r: Float[Array, "points d"], y: Float[Array, "points d"]) -> SteinSubspace:
    moments = jnp.matmul(r.T, r, precision="highest") / len(r)
    directions = jnp.linalg.eigh(moments)[1].T[::-1]
    eigenvalues = mean_estimate(jnp.matmul(r, directions.T, precision="highest") ** 2)
    rounding = (100 * jnp.finfo(r.dtype).eps) ** 2 * jnp.mean(y**2)
    logs = jnp.log(jnp.maximum(eigenvalues.value, rounding))
    found = 1 + jnp.argmax(logs[:-1] - logs[1:]) if len(logs) > 1 else jnp.ones((), jnp.int32)
    dimension = jnp.where(eigenvalues.value[0] > rounding, found, 0).astype(jnp.int32)
    return SteinSubspace(directions, eigenvalues, dimension)
