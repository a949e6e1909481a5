r"""The optimum of a linear variational autoencoder, exactly.

Data x of D numbers have mean 0 and covariance C (biases take a mean away). The encoder is z ~ N(V x, diag sigma_j^2)
with k <= D latents, the decoder's mean is W z, the prior N(0, 1), and what is minimised is

    F = E |x - W z|^2 / 2 + tau sum_j KL_j,
    KL_j = ((V C V')_jj + sigma_j^2 - ln sigma_j^2 - 1) / 2,                                                       (1)
    E |x - W z|^2 = tr[(1 - W V) C (1 - W V)'] + sum_j sigma_j^2 |w_j|^2,      w_j the columns of W.               (2)

Only second moments of x enter: the data need not be Gaussian. For a decoder noise eta^2 and a weight beta of the KL,
the negative evidence bound is F / eta^2 with tau = beta eta^2, up to a constant.

**The encoder.** F is convex in V and in sigma_j^2, and its gradient vanishes at

    V = (W'W + tau)^-1 W',       sigma_j^2 = tau / (|w_j|^2 + tau),                                                (3)
    F = (tr C - tr[C W (W'W + tau)^-1 W']) / 2 + tau/2 sum_j ln((|w_j|^2 + tau) / tau).                            (4)

**The decoder.** The first term is tau/2 tr[M^-1 C] with M = W W' + tau. By Hadamard prod_j (|w_j|^2 + tau) is at least
det(W'W + tau), with equality only for orthogonal columns, so that F >= tau/2 (tr[M^-1 C] + ln det M - D ln tau). For
given eigenvalues c_i of M, tr[M^-1 C] is smallest, sum_i lambda_i / c_i, where M has the eigenvectors of C in the order
of its eigenvalues (von Neumann); and lambda / c + ln c is smallest at c = lambda. But all c_i are at least tau, and
only k of them can be above. What is gained by c = lambda > tau grows with lambda, hence

    w_j = (lambda_j - tau)^(1/2) u_j    of the k largest lambda_j if lambda_j > tau, else w_j = 0,                 (5)

u_j the eigenvectors of C. Its columns are orthogonal, so the bound is met: it is the optimum. By (3), where
lambda_j > tau,

    v_j = (lambda_j - tau)^(1/2) / lambda_j u_j',   sigma_j^2 = tau / lambda_j,   Var mu_j + sigma_j^2 = 1,        (6)
    relevance  rho_j = Var mu_j / sigma_j^2 = lambda_j / tau - 1,      KL_j = 1/2 ln(lambda_j / tau),              (7)

and a latent with lambda_j <= tau is the prior: rho_j = KL_j = 0. The optimum is unique up to the order and signs of the
latents, and rotations among latents of equal eigenvalue, none of which changes (7) as a list; where k cuts a group of
equal eigenvalues, any of its directions serve.

**Other networks.** If x is Gaussian and k is at least the number of lambda_j > tau, no autoencoder is better, however
nonlinear. With y what is decoded, the mean KL is at least I(x; z) >= I(x; y), and E |x - y|^2 / 2 + tau I(x; y) is
least at the rate-distortion function of a Gaussian: the squared error min(lambda_j, tau) along u_j, and along those
with lambda_j > tau an information of ln(lambda_j / tau) / 2 nats. This is the F of (5).

Source: Lucas, Tucker, Grosse & Norouzi, arXiv:1911.02469, for the maximum-likelihood case; the steps above are those of
probabilistic principal components (Tipping & Bishop 1999) at a given noise.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical.arguments import Given, Whole, as_numbers

from .spectrum import as_latents, as_spectrum, divergence, least_free_energy, positive, relevance, together

ASYMMETRY = 1e-5  # of the largest entry: more than rounding


class LinearOptimum(eqx.Module):
    """The maps of equations (5) and (6), latents by falling relevance, and what follows from them."""

    decoder: Float[Array, "*batch d k"]
    """W."""
    encoder: Float[Array, "*batch k d"]
    """V."""
    variances: Float[Array, "*batch k"]
    """sigma_j^2 of the posterior; 1 of a latent that is not active."""
    eigenvalues: Float[Array, "*batch d"]
    """All lambda_i of the covariance, falling."""
    relevance: Float[Array, "*batch k"]
    """rho_j."""
    divergence: Float[Array, "*batch k"]
    """KL_j, nats."""
    free_energy: Float[Array, "*batch"]
    """The least value of F."""


class FreeEnergy(eqx.Module):
    """F of equation (1), term by term."""

    reconstruction: Float[Array, "*batch"]
    """E |x - W z|^2 / 2."""
    divergence: Float[Array, "*batch k"]
    """KL_j, nats."""
    total: Float[Array, "*batch"]
    """F."""


def optimum(covariance: Given, tau: Given, num_latents: Whole) -> LinearOptimum:
    """The linear autoencoder that minimises F, equations (5) to (7).

    Inside jit, NaN stands for what is refused outside. The gradient of the maps needs distinct eigenvalues, that of the
    free energy does not.

    Args:
      covariance: (..., d, d), of the data.
      tau: above 0, weight of the KL; one number, or one for each covariance.
      num_latents: k, from 1 to d.

    Raises:
      ValueError: if the covariance is not symmetric or has a negative eigenvalue, or an argument is out of range.
    """
    covariance = _as_symmetric(covariance)
    values, vectors = jnp.linalg.eigh(covariance)
    k = as_latents(num_latents, covariance.shape[-1])
    eigenvalues, level = together(values, tau)
    vectors = jnp.broadcast_to(vectors[..., ::-1][..., :k], (*eigenvalues.shape, k))
    largest = jnp.maximum(eigenvalues[..., :k], level)
    above = largest > level
    length = jnp.where(above, jnp.sqrt(jnp.where(above, largest - level, 1)), 0 * largest)
    return LinearOptimum(
        decoder=vectors * length[..., None, :],
        encoder=jnp.swapaxes(vectors * (length / largest)[..., None, :], -1, -2),
        variances=level / largest,
        eigenvalues=eigenvalues,
        relevance=relevance(eigenvalues, level[..., 0], k),
        divergence=divergence(eigenvalues, level[..., 0], k),
        free_energy=least_free_energy(jnp.linalg.eigvalsh(covariance), tau, k),
    )


def free_energy(covariance: Given, encoder: Given, decoder: Given, variances: Given, tau: Given) -> FreeEnergy:
    """F of any linear encoder and decoder, equations (1) and (2); inside jit, NaN for what is refused outside.

    Args:
      covariance: (..., d, d), of data with mean 0.
      encoder, decoder: V, (..., k, d), and W, (..., d, k).
      variances: sigma_j^2 of the posterior, (..., k), above 0.
      tau: above 0, weight of the KL.

    Raises:
      ValueError: if shapes do not fit, the covariance is not symmetric or has a negative eigenvalue, or a variance or
        tau is not positive.
    """
    covariance = _as_symmetric(covariance)
    spectrum = as_spectrum(jax.lax.stop_gradient(jnp.linalg.eigvalsh(covariance)))
    covariance = jnp.where(jnp.isnan(spectrum[..., :1, None]), jnp.nan, covariance)
    encoder, decoder = (as_numbers(maps, covariance.dtype) for maps in (encoder, decoder))
    variances, tau = positive("variances", variances, covariance.dtype), positive("tau", tau, covariance.dtype)
    _check_shapes(covariance, encoder, decoder, variances)
    arrays, axes = (covariance, encoder, decoder, variances, tau), (2, 2, 2, 1, 0)
    batch = np.broadcast_shapes(*(x.shape[: x.ndim - n] for x, n in zip(arrays, axes, strict=True)))
    rows = (jnp.broadcast_to(x, (*batch, *x.shape[x.ndim - n :])) for x, n in zip(arrays, axes, strict=True))
    return FreeEnergy(*_free_energy(*rows))


def _terms(covariance, encoder, decoder, variances, tau):
    rest = jnp.eye(len(covariance), dtype=covariance.dtype) - decoder @ encoder  # 1 - W V
    missed = jnp.sum((rest @ covariance) * rest) + variances @ jnp.sum(decoder**2, 0)
    spread = jnp.sum((encoder @ covariance) * encoder, 1)  # Var mu_j
    divergence = (spread + variances - jnp.log(variances) - 1) / 2
    return missed / 2, divergence, missed / 2 + tau * jnp.sum(divergence)


_free_energy = jnp.vectorize(_terms, signature="(d,d),(k,d),(d,k),(k),()->(),(k),()")


def _check_shapes(covariance: Array, encoder: Array, decoder: Array, variances: Array) -> None:
    d, k = covariance.shape[-1], variances.shape[-1] if variances.ndim else 0
    if k == 0 or encoder.shape[-2:] != (k, d) or decoder.shape[-2:] != (d, k):
        raise ValueError(
            f"encoder {encoder.shape}, decoder {decoder.shape}, variances {variances.shape} for data of {d} numbers: "
            f"give (..., k, {d}), (..., {d}, k) and (..., k)"
        )


def _as_symmetric(covariance: Given) -> Float[Array, "*batch d d"]:
    """A covariance as floats; NaN inside jit where it is not symmetric."""
    covariance = as_numbers(covariance)
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2] or not covariance.shape[-1]:
        raise ValueError(f"covariance has shape {covariance.shape}: give (..., d, d)")
    apart = jnp.max(jnp.abs(covariance - jnp.swapaxes(covariance, -1, -2)), (-1, -2), keepdims=True)
    symmetric = apart <= ASYMMETRY * jnp.max(jnp.abs(covariance), (-1, -2), keepdims=True)
    if not isinstance(apart, Tracer) and not np.all(symmetric):
        raise ValueError(f"covariance differs from its transpose by {np.max(apart):.3g}: give symmetric matrices")
    return jnp.where(symmetric, covariance, jnp.nan)
