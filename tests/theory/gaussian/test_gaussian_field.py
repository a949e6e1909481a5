"""The Gaussian field against its own simulation, and its claim: no peak."""

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.measure import RingGeometry, connected_sums, correlation_length, susceptibility
from theory import gaussian_field

SITES, ALPHA, SIGMA = 8, 0.6, 0.8


def covariance(spectrum):
    """Of the field: circulant, from the definition of a mode's variance."""
    modes = np.exp(2j * np.pi * np.outer(np.arange(SITES), np.arange(SITES)) / SITES) / np.sqrt(SITES)
    return np.real(modes @ np.diag(np.asarray(spectrum)) @ modes.conj().T)


def test_changes_have_the_covariance_of_bayes_rule_on_vectors():
    """Posterior of a Gaussian vector by matrices: its own covariance, and that of its mean under the noise."""
    spectrum = gaussian_field.power_law_spectrum(SITES, 1.5)
    prior = covariance(spectrum)
    gain = ALPHA * prior @ np.linalg.inv(ALPHA**2 * prior + SIGMA**2 * np.eye(SITES))
    total = prior - ALPHA * gain @ prior + SIGMA**2 * gain @ gain.T
    found = gaussian_field.change_sums(spectrum, jnp.asarray(ALPHA), jnp.asarray(SIGMA))
    apart = abs(np.subtract.outer(np.arange(SITES), np.arange(SITES)))
    apart = np.minimum(apart, SITES - apart)
    np.testing.assert_allclose(found, [total[apart == r].sum() for r in range(SITES // 2 + 1)], atol=1e-12)


def test_simulated_changes_give_the_same_sums():
    spectrum, geometry = gaussian_field.power_law_spectrum(SITES, 1.0), RingGeometry(SITES)
    prior, runs = covariance(spectrum), 40_000
    gain = ALPHA * prior @ np.linalg.inv(ALPHA**2 * prior + SIGMA**2 * np.eye(SITES))
    rng = np.random.default_rng(0)
    x0 = rng.multivariate_normal(np.zeros(SITES), prior)
    x_t = ALPHA * x0 + SIGMA * rng.normal(size=(runs, SITES))
    x = x_t @ gain.T + rng.multivariate_normal(np.zeros(SITES), prior - ALPHA * gain @ prior, runs)
    sums = jax.jit(jax.vmap(lambda sigma: connected_sums(sigma, geometry)))
    parts = sums((x - x0).reshape(100, -1, SITES))
    exact = gaussian_field.change_sums(spectrum, jnp.asarray(ALPHA), jnp.asarray(SIGMA))
    error = np.std(np.asarray(parts), 0, ddof=1) / 10
    assert (abs(np.mean(np.asarray(parts), 0) - exact) < 5 * error).all()


def test_chi_and_xi_grow_to_the_end():
    noise = jnp.linspace(0.01, 0.999, 60)

    @jax.jit
    def curves(spectrum):
        sums = gaussian_field.change_sums(spectrum, jnp.sqrt(1 - noise), jnp.sqrt(noise))
        return susceptibility(sums), correlation_length(sums, RingGeometry(256))

    for exponent in (0.5, 1.0, 2.0):
        chi, xi = curves(gaussian_field.power_law_spectrum(256, exponent))
        assert (np.diff(chi) > 0).all() and (np.diff(xi) > 0).all()


def test_pure_noise_gives_back_the_field_s_own_spectrum():
    spectrum = gaussian_field.power_law_spectrum(16, 1.0)
    np.testing.assert_allclose(gaussian_field.change_spectrum(spectrum, jnp.asarray(0.0), jnp.asarray(1.0)), spectrum)
    np.testing.assert_allclose(spectrum.mean(), 1)
