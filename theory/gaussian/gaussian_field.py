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
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Num

from diffusion.measure import RingGeometry

from ..domain import Grid, Number, count, grid, number

LARGEST = 1e9  # of variances, alpha, sigma and 1 / sigma: products stay finite in float32
Spectrum = Num[Array, " modes"] | Num[np.ndarray, " modes"]


def power_law_spectrum(num_sites: int, exponent: Number) -> Float[Array, " modes"]:
    """S_k = k^-exponent at k = 0 .. num_sites - 1 counted as frequencies of the ring, S_0 = S_1; mean 1.

    Raises:
      ValueError: if there are fewer than 2 sites, or the exponent is not finite.
    """
    num_sites, exponent = count("num_sites", num_sites, 2), number("exponent", exponent)
    k = jnp.arange(num_sites)
    frequency = jnp.maximum(jnp.minimum(k, num_sites - k), 1).astype(float)
    log_power = -exponent * jnp.log(frequency)
    power = jnp.exp(log_power - jnp.max(log_power))  # of the largest: no exponent overflows
    return power / jnp.mean(power)


def change_spectrum(spectrum: Spectrum, alpha: Grid, sigma: Grid) -> Float[Array, "*grid modes"]:
    """V_k of equation (1) for S_k and alpha in [0, 1e9] and sigma in [1e-9, 1e9]; inside jit other values give NaN.

    Raises:
      ValueError: if a value is outside these ranges or not a number.
    """
    s = grid("spectrum", spectrum, 0.0, LARGEST)
    alpha, sigma = grid("alpha", alpha, 0.0, LARGEST, s.dtype), grid("sigma", sigma, 1 / LARGEST, LARGEST, s.dtype)
    alpha, sigma = alpha[..., None], sigma[..., None]
    s = s.reshape((1,) * (alpha.ndim - 1) + (-1,))
    total = alpha**2 * s + sigma**2
    return (alpha * s * sigma / total) ** 2 + s * sigma**2 / total


def change_sums(spectrum: Spectrum, alpha: Grid, sigma: Grid) -> Float[Array, "*grid distances"]:
    """S(r) of `diffusion.measure.changes` on a `RingGeometry`: pairs at distance r times C(r) of equation (2).

    Raises:
      ValueError: as in `change_spectrum`, or unless S_k = S_(d-k), as for a real field; NaN for the latter inside jit.
    """
    spectrum = _even(grid("spectrum", spectrum, 0.0, LARGEST))
    geometry = RingGeometry(len(spectrum))
    correlations = jnp.real(jnp.fft.ifft(change_spectrum(spectrum, alpha, sigma)))
    pairs = jnp.asarray(geometry.num_pairs, correlations.dtype)
    return jnp.einsum("...r,r->...r", correlations[..., : len(pairs)], pairs)


def _even(spectrum: Float[Array, " modes"]) -> Float[Array, " modes"]:
    """The spectrum of a real field, or NaN."""
    apart = jnp.abs(spectrum[1:] - spectrum[:0:-1])
    even = apart <= 1e-5 * (spectrum[1:] + spectrum[:0:-1])
    if not isinstance(even, Tracer) and not even.all():
        k = int(jnp.argmin(even)) + 1
        raise ValueError(
            f"spectrum has S_{k} = {spectrum[k]} and S_{len(spectrum) - k} = {spectrum[-k]}: a real field has S_k = "
            f"S_(d-k), give modes in the order of a Fourier transform"
        )
    return jnp.where(jnp.all(even), spectrum, jnp.nan)
