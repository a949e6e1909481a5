r"""A Gaussian random field through the same experiment, in closed form: what changes look like without a hierarchy.

A field of d sites on a ring has independent Fourier modes of variance S_k. Noised to x_t = alpha x + sigma z and
denoised exactly, a mode of the regenerated field is, given x_0, Gaussian with variance

    V_k = w_k^2 sigma^2 + S_k sigma^2 / (alpha^2 S_k + sigma^2),      w_k = alpha S_k / (alpha^2 S_k + sigma^2):   (1)

the first term is the noise that the posterior mean follows, the second the posterior's own variance. V_k does not
depend on x_0, so the change x - x_0 of site i has the connected correlation

    C(r) = (1/d) sum_k V_k cos(2 pi k r / d),      chi = V_0 / ((1/d) sum_k V_k).                                  (2)

V_k grows with the noise, up to S_k, the faster the larger S_k is: for a decaying spectrum chi and xi grow all the way
to pure noise. There is no peak. Source of the control: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770; (1), (2) are
Bayes' rule.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion.measure import RingGeometry


def power_law_spectrum(num_sites: int, exponent: float) -> Float[Array, " modes"]:
    """S_k = k^-exponent at k = 0 .. num_sites - 1 counted as frequencies of the ring, S_0 = S_1; mean 1.

    Raises:
      ValueError: if there are fewer than 2 sites.
    """
    if num_sites < 2:
        raise ValueError(f"num_sites = {num_sites}: a field needs at least 2 sites")
    k = jnp.arange(num_sites)
    frequency = jnp.maximum(jnp.minimum(k, num_sites - k), 1).astype(float)
    spectrum = frequency**-exponent
    return spectrum / jnp.mean(spectrum)


def change_spectrum(
    spectrum: Float[Array, " modes"], alpha: Float[Array, "*grid"], sigma: Float[Array, "*grid"]
) -> Float[Array, "*grid modes"]:
    """V_k of equation (1); sigma > 0."""
    alpha, sigma = alpha[..., None], sigma[..., None]
    s = spectrum.reshape((1,) * (alpha.ndim - 1) + (-1,))
    total = alpha**2 * s + sigma**2
    return (alpha * s * sigma / total) ** 2 + s * sigma**2 / total


def change_sums(
    spectrum: Float[Array, " modes"], alpha: Float[Array, "*grid"], sigma: Float[Array, "*grid"]
) -> Float[Array, "*grid distances"]:
    """S(r) of `diffusion.measure.correlation` on a `RingGeometry`: pairs at distance r times C(r) of equation (2)."""
    geometry = RingGeometry(len(spectrum))
    correlations = jnp.real(jnp.fft.ifft(change_spectrum(spectrum, alpha, sigma)))
    pairs = jnp.asarray(geometry.num_pairs, correlations.dtype)
    return jnp.einsum("...r,r->...r", correlations[..., : len(pairs)], pairs)
