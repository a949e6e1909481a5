r"""Data whose eigenvalues a symmetry ties together, and how one knob that breaks it shows.

**Ring.** Points at angle theta with density proportional to 1 + a cos 2 theta, at radius 1 + sigma n with n ~ N(0, 1):
as E r^2 = 1 + sigma^2 and E cos^2 theta = 1/2 + a/4, the covariance has the eigenvalues

    lambda = (1 + sigma^2)/2 (1 +- a/2)                                                                            (1)

along the two axes. At a = 0 they are one multiplet, the vector representation of O(2); the relevance of its two latents
splits by (lambda_+ - lambda_-) / tau = (1 + sigma^2) a / (2 tau), which is a / (2 tau) without noise.

**Knob.** Where a symmetry is broken by one small number kappa, the variance that it opens up grows as c kappa^2. Two
momenta that balance have p_1 + p_2 = 0; if they sum to a recoil of standard deviation kappa per component instead, the
unit direction (p_1 + p_2) / 2^(1/2) has the variance kappa^2 / 2. A linear autoencoder notices at c kappa^2 = tau, or

    kappa = (tau / c)^(1/2),       (2 tau)^(1/2) for c = 1/2.                                                      (2)
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hierarchical.arguments import Given, as_numbers

from ...domain import inside
from .spectrum import positive


def ring_eigenvalues(anisotropy: Given, noise: Given = 0.0) -> Float[Array, "*batch 2"]:
    """Equation (1): the variances along theta = 0 and across; NaN inside jit for what is refused outside.

    Args:
      anisotropy: a in [-1, 1].
      noise: sigma, standard deviation of the radius, at least 0; broadcast against a.

    Raises:
      ValueError: if an argument is out of range.
    """
    a = as_numbers(inside("anisotropy", as_numbers(anisotropy), -1.0, 1.0))
    sigma = as_numbers(inside("noise", as_numbers(noise, a.dtype), 0.0, float(jnp.finfo(a.dtype).max)))
    batch = np.broadcast_shapes(a.shape, sigma.shape)
    a, sigma = jnp.broadcast_to(a, batch), jnp.broadcast_to(sigma, batch)
    return ((1 + sigma**2) / 2)[..., None] * (1 + jnp.stack([a, -a], -1) / 2)


def critical_knob(tau: Given, coefficient: Given = 0.5) -> Float[Array, "*batch"]:
    """Equation (2): the size of a knob whose variance, `coefficient` times its square, crosses tau.

    Raises:
      ValueError: if an argument is not positive; inside jit NaN.
    """
    tau = positive("tau", tau, as_numbers(tau).dtype)
    return jnp.sqrt(tau / positive("coefficient", coefficient, tau.dtype))
