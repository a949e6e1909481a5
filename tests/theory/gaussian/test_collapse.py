"""Collapse: the general rule against its special cases, quoted numbers, and Monte Carlo."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from hierarchical import GaussianMixture
from theory import collapse


def test_isotropic_times_are_those_that_were_quoted():
    found = [collapse.isotropic_collapse_time(20_000, d) for d in (256, 1024, 4096)]
    np.testing.assert_allclose(found, [1.2988, 1.9775, 2.6671], atol=5e-5)


def test_a_flat_spectrum_is_isotropic():
    for n, d, variance in ((100, 5, 1.0), (20_000, 256, 0.3)):
        found = collapse.spectrum_collapse_time(n, np.full(d, variance))
        np.testing.assert_allclose(found, collapse.isotropic_collapse_time(n, d, variance), rtol=1e-10)


def test_hypercube_times_are_those_that_were_quoted():
    found = [collapse.hypercube_collapse_time(alpha) for alpha in (0.05, 0.1, 0.3, 0.5, 0.65)]
    np.testing.assert_allclose(found, [1.17602, 0.85344, 0.39045, 0.20278, 0.09843], atol=5e-6)


def test_information_of_a_noisy_sign_is_that_of_two_points():
    """i(q) of (3) against Monte Carlo over the mixture of -1 and 1 (variance 0) noised to the same ratio."""
    signs = GaussianMixture(jnp.ones(2), jnp.array([[1.0], [-1.0]]), 0.0)
    for seed, t in enumerate((0.2, 0.9)):
        found = collapse.mixture_information(jax.random.key(seed), signs, jnp.asarray(t), 20_000)
        assert abs(found.value - collapse.hypercube_information(1 / math.expm1(2 * t))) < 5 * found.stderr


def test_information_of_a_sign_keeps_its_digits_in_both_limits():
    """q / 2 - q^2 / 4 at small q, ln 2 at large; and what is still unknown where little is, by adaptive quadrature."""
    np.testing.assert_allclose(collapse.hypercube_information(1e-6), 5e-7 - 2.5e-13, rtol=1e-10)
    for snr in (1e3, 1e9, 5e11):
        np.testing.assert_allclose(collapse.hypercube_information(snr), math.log(2), rtol=1e-14)
    for missing in (1e-2, 1e-5, 1e-9):
        snr = 1 / math.expm1(2 * collapse.hypercube_collapse_time(math.log(2) - missing))

        def unknown(z, snr=snr):
            return np.logaddexp(0, -2 * (snr + math.sqrt(snr) * z)) * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        parts = [
            integrate.quad(unknown, *ends, epsabs=0)[0] for ends in ((-20, -math.sqrt(snr)), (-math.sqrt(snr), 20))
        ]
        assert abs(sum(parts) / missing - 1) < 1e-6


def test_the_time_of_one_cluster_by_information_is_the_isotropic_one():
    one = GaussianMixture(jnp.ones(1), jnp.ones((1, 32)), 0.7)
    found = collapse.mixture_collapse_time(jax.random.key(1), 1000, one)
    assert abs(found.value - collapse.isotropic_collapse_time(1000, 32, 0.7)) < 5 * found.stderr
    assert found.stderr < 0.01


def test_knowing_a_class_costs_its_entropy():
    """Far clusters: I of the mixture is that of one cluster plus ln 2, so n points collapse as n / 2 of one cluster."""
    far = jnp.zeros((2, 16)).at[0, 0].set(60.0)
    found = collapse.mixture_collapse_time(jax.random.key(2), 2000, GaussianMixture(jnp.ones(2), far, 1.0))
    assert abs(found.value - collapse.isotropic_collapse_time(1000, 16)) < 5 * found.stderr


def test_collapse_times_of_sets_that_fill_a_line_do_not_overflow():
    """n^(2/d) = e^1000: t_C = s^2 e^-1000 / 2, which is 0 in float64."""
    assert collapse.isotropic_collapse_time(math.exp(500), 1) == 0


def test_points_that_are_always_distinguished_have_no_collapse():
    """Two points say ln 2 of which one they are, whatever the noise."""
    two = GaussianMixture(jnp.ones(2), jnp.array([[1.0], [-1.0]]), 0.0)
    with pytest.raises(ValueError, match=r"the information differs from ln n by -3\.91 nats: there is no collapse"):
        collapse.mixture_collapse_time(jax.random.key(3), 100, two, 64)
