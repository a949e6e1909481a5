r"""What a decoder loses when a latent is silenced: z_j set to 0, the mean of its prior, the other latents at mu.

    A_j = mean of ( |x - D(mu with mu_j = 0)|^2 - |x - D(mu)|^2 ) / 2,                                             (1)

in the unit of x^2, the difference taken for each datum, so that what both errors share does not count in its standard
error. A_j is near 0 for a latent that the decoder does not use, and is negative where a latent does harm. At the
minimum of a linear autoencoder it is (lambda_j - tau^2 / lambda_j) / 2: with D(z) = W z, the error without latent j is
lambda_j / 2 along that axis, and with it (1 - (lambda_j - tau) / lambda_j)^2 lambda_j / 2.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical.arguments import Given, at_least_float32

from ...latent.autoencoder import Autoencoder
from ..estimate import Estimate, mean_estimate


def ablation(autoencoder: Autoencoder, x: Given) -> Estimate:
    """Rise A_j of the reconstruction error without each latent, (k,), equation (1), of data (..., d).

    Its error is NaN for a single datum.

    Raises:
      ValueError: if the last axis of x is not d, or there is no datum.
    """
    return _ablation(autoencoder, at_least_float32(x))


@eqx.filter_jit
def _ablation(autoencoder: Autoencoder, x: Float[Array, "..."]) -> Estimate:
    mean = autoencoder.encode(x).mean.reshape(-1, autoencoder.num_latents)
    decoded = autoencoder.decode(mean)
    rest = x.reshape(decoded.shape) - decoded

    def rise(j: Int[Array, ""]) -> Float[Array, " data"]:
        silent = jnp.arange(mean.shape[1]) == j
        change = decoded - autoencoder.decode(jnp.where(silent[None], 0, mean))
        return jnp.sum(change * (rest + change / 2), -1)  # |rest + change|^2 - |rest|^2, halved

    return mean_estimate(jax.lax.map(rise, jnp.arange(mean.shape[1])).T)
