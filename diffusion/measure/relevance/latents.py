r"""How much an encoder puts into each latent, from q(z_j | x) = N(mu_j, sigma_j^2) over n data.

    signal to noise     rho_j = V_j / S_j,       V_j = mean of (mu_j - m_j)^2,  m_j the mean of mu_j,
                                                 S_j = mean of sigma_j^2,                                          (1)
    information         KL_j  = mean of (mu_j^2 + sigma_j^2 - ln sigma_j^2 - 1) / 2,  nats,                        (2)
    active latents      the number of j with V_j > threshold.                                                      (3)

All are 0 for a latent that says nothing of x. Variances are divided by n. Ratio and variance are functions of means;
the rows, one for each datum,

    r = rho_j + (mu_j - m_j)^2 / S_j - rho_j sigma_j^2 / S_j                                                       (4)

have the mean rho_j, and the spread of rho_j to first order (the delta method); of V_j they are (mu_j - m_j)^2. The
variance of a single datum has no meaning: (1) and (3) are NaN there.

Sources: (3) Burda, Grosse & Salakhutdinov, arXiv:1509.00519, with the threshold .01.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from hierarchical.arguments import AnyKey, Given, as_key, as_numbers, at_least_float32

from ...latent.autoencoder import Autoencoder, Latent
from ..estimate import Estimate, bootstrap, mean_estimate

Rows = Float[Array, "data k"]


def snr(autoencoder: Autoencoder, x: Given) -> Estimate:
    """Signal to noise rho_j of each latent, (k,), equation (1), of data (..., d); dimensionless.

    NaN for a single datum, and where mu_j and sigma_j are 0 throughout.

    Raises:
      ValueError: if the last axis of x is not d, or there is no datum.
    """
    return signal_to_noise(encoded(autoencoder, x))


def kl(autoencoder: Autoencoder, x: Given) -> Estimate:
    """Information KL_j of each latent, (k,), equation (2), nats; its error is NaN for a single datum. As `snr`."""
    return mean_estimate(encoded(autoencoder, x).kl)


def mean_variance(autoencoder: Autoencoder, x: Given) -> Estimate:
    """Variance V_j of the mean of each latent, (k,); the prior of a latent has variance 1. As `snr`."""
    return mean_estimate(squares(encoded(autoencoder, x)))


def active_units(key: AnyKey, autoencoder: Autoencoder, x: Given, threshold: Given = 0.01) -> Estimate:
    """The number of active latents, equation (3); its error is its spread over data drawn with repetition.

    Args:
      key: decides which data are drawn.
      threshold: of V_j, at least 0; the prior of a latent has variance 1.

    Raises:
      ValueError: as `snr`, or if `threshold` is not one number, or is known and negative or NaN.
    """
    return count_active(as_key(key), encoded(autoencoder, x), threshold)


def encoded(autoencoder: Autoencoder, x: Given) -> Latent:
    """The latents of data (..., d) with one batch axis."""
    latent = _encode(autoencoder, at_least_float32(x))
    return jax.tree.map(lambda numbers: numbers.reshape(-1, autoencoder.num_latents), latent)


_encode = eqx.filter_jit(Autoencoder.encode)


def squares(latent: Latent) -> Rows:
    """(mu_j - m_j)^2; NaN for a single datum."""
    mean = latent.mean
    return (mean - jnp.mean(mean, 0, keepdims=True)) ** 2 if len(mean) > 1 else jnp.full_like(mean, jnp.nan)


@eqx.filter_jit
def signal_to_noise(latent: Latent) -> Estimate:
    """rho_j and its error, by the rows (4)."""
    signal, noise = squares(latent), latent.variance
    mean_noise = jnp.mean(noise, 0, keepdims=True)
    ratio = jnp.mean(signal, 0, keepdims=True) / mean_noise
    return mean_estimate(ratio + signal / mean_noise - ratio * noise / mean_noise)


def count_active(key: Key[Array, ""], latent: Latent, threshold: Given) -> Estimate:
    """Equation (3), of latents with one batch axis."""
    least = as_numbers(threshold, latent.mean.dtype)
    if least.shape != () or not (isinstance(least, Tracer) or bool(least >= 0)):
        raise ValueError(f"threshold = {threshold}: give one number, 0 or above")
    return _count_active(key, latent, least)


@eqx.filter_jit
def _count_active(key: Key[Array, ""], latent: Latent, threshold: Float[Array, ""]) -> Estimate:
    centred = latent.mean - jnp.mean(latent.mean, 0, keepdims=True)

    def count(means: Float[Array, "2 k"]) -> Float[Array, ""]:
        return jnp.sum(means[1] - means[0] ** 2 > threshold, dtype=means.dtype)

    found = bootstrap(key, jnp.stack([centred, centred**2], 1), count)
    return found if len(centred) > 1 else Estimate(jnp.full_like(found.value, jnp.nan), found.stderr)
