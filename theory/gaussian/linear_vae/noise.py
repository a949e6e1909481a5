r"""The tau of a loss: a mean over features, or a decoder whose noise is learned.

**Averaged.** The squared error of common code is a mean over the D features. Multiplied by D/2,

    1/D E |x - W z|^2 + beta KL     is     E |x - W z|^2 / 2 + tau KL,      tau = beta D / 2.                      (1)

With beta = 1 and standardised data every lambda below D/2 is lost, where the mean eigenvalue is 1.

**Learned.** With the decoder's noise eta^2 among the parameters, the loss is

    L = E |x - W z|^2 / (2 eta^2) + D/2 ln eta^2 + beta KL.                                                        (2)

For given eta^2 its optimum is that of tau = beta eta^2. There a latent that is active leaves the error tau, one that is
not leaves lambda, so the derivative along ln eta^2 is half of

    h(eta^2) = D - sum_{i <= K} min(beta, lambda_i / eta^2) - sum_{i > K} lambda_i / eta^2,                        (3)

K the number of latents. h rises with eta^2: L has one minimum, where

    eta^2 = sum_{i > k} lambda_i / (D - k beta),                                                                   (4)

k the number of latents with lambda_j > beta eta^2, which are those with h(lambda_j / beta) > 0. With r positive
eigenvalues, h stays at or above D - r beta as eta^2 falls to 0 if r <= K, and goes to minus infinity if r > K: there is
no minimum if and only if r <= K and r beta < D: the latents explain all, and the noise falls to 0. For r beta = D every
eta^2 up to lambda_r / beta has the same loss. (k beta >= D for some k <= K alone says that the last of k latents is not
active.)
"""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical.arguments import Given, Whole, as_whole

from .spectrum import as_latents, positive, together


def averaged_loss_tau(beta: Given, num_features: Whole) -> Float[Array, "*batch"]:
    """tau of equation (1), for beta above 0; inside jit another beta gives NaN.

    Raises:
      ValueError: if beta is not positive, or num_features below 1.
    """
    return positive("beta", beta, jnp.result_type(float)) * as_whole("num_features", num_features, 1) / 2


def learned_noise(eigenvalues: Given, num_latents: Whole, beta: Given = 1.0) -> Float[Array, "*batch"]:
    """eta^2 of equation (4): the noise variance of a decoder that learns it, at the optimum.

    Args:
      eigenvalues: (..., D) of the data's covariance, in any order, not negative beyond rounding.
      num_latents: K, from 1 to D.
      beta: above 0, weight of the KL; broadcast against the axes before the last one of the eigenvalues.

    Returns:
      In the unit of the eigenvalues; inside jit NaN for what is refused outside.

    Raises:
      ValueError: if there is no such noise, as the r <= K positive eigenvalues and r beta <= D leave none or any; or if
        an argument is out of range.
    """
    values, weight = together(eigenvalues, beta, "beta")
    k = as_latents(num_latents, values.shape[-1])
    rounding = values.shape[-1] * jnp.finfo(values.dtype).eps
    values = jnp.where(values > rounding * values[..., :1], values, 0 * values)
    places = jnp.arange(values.shape[-1]).reshape((1,) * (values.ndim - 1) + (-1,))
    active = jnp.sum((values > 0) & (places < k) & (_slope(values, weight, k) > 0), -1, keepdims=True)
    rest = jnp.sum(jnp.where(places >= active, values, 0 * values), -1)
    free = values.shape[-1] - active[..., 0].astype(values.dtype) * weight[..., 0]
    rank = jnp.sum(values > 0, -1)
    left = rank.astype(values.dtype) * weight[..., 0] - values.shape[-1]
    exists = (rank > k) | (left > rounding * values.shape[-1])
    _refuse(exists, rank, k)
    return jnp.where(exists, rest / jnp.where(exists, free, 1), jnp.nan)


def _slope(values: Float[Array, "*batch d"], weight: Float[Array, "*batch 1"], k: int) -> Float[Array, "*batch d"]:
    """h of equation (3) at eta^2 = lambda_j / beta, for every j."""
    ratios = values[..., None, :] / jnp.where(values > 0, values, 1)[..., :, None]
    coded = jnp.sum(jnp.minimum(ratios[..., :k], 1), -1)
    return values.shape[-1] - weight * (coded + jnp.sum(ratios[..., k:], -1))


def _refuse(exists: Array, rank: Array, k: int) -> None:
    if isinstance(exists, Tracer) or np.all(exists):
        return
    r = int(np.asarray(rank)[~np.asarray(exists)].flat[0])
    raise ValueError(
        f"num_latents = {k}, {r} eigenvalues above 0: the latents explain all of the data and the noise falls to 0; "
        f"give fewer latents, or beta above {'D' if r == 0 else 'D / r'}"
    )
