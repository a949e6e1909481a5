"""Collapse: the general rule against its special cases, quoted numbers, and Monte Carlo."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    assert abs(collapse.hypercube_information(100.0) - math.log(2)) < 1e-10  # 100 - 99.3: rounding


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


@pytest.mark.parametrize(("n", "d", "t"), [(20, 12, 0.4), (5, 2, 1.0), (30, 3, 0.2)])
def test_seed_weights_at_finite_size_are_those_of_simulated_points(n, d, t):
    """Both averages of (4) and (5) against 20,000 sets of points, within 5 standard errors."""
    rng, draws = np.random.default_rng(n), 20_000
    x0, z = rng.normal(size=(draws, n, d)), rng.normal(size=(draws, d))
    alpha, noise = math.exp(-t), -math.expm1(-2 * t)
    x_t = alpha * x0[:, 0] + math.sqrt(noise) * z
    exponents = -np.sum((x_t[:, None] - alpha * x0) ** 2, 2) / (2 * noise)
    logs = exponents[:, 0] - np.logaddexp.reduce(exponents, axis=1)
    found = collapse.isotropic_seed_weight(n, d, t)
    for value, sample in ((found.mean, np.exp(logs)), (found.excess_entropy, -logs / d)):
        assert abs(value - sample.mean()) < 5 * sample.std() / draws**0.5


def test_seed_weights_have_their_limits():
    """1/n of n points and ln n / d once all is forgotten, 1 and 0 before; at t_C .60 at d = 12, then falling."""
    late, early = (collapse.isotropic_seed_weight(50, 8, t, 0.7) for t in (9.0, 1e-3))
    np.testing.assert_allclose(late, (1 / 50, math.log(50) / 8), atol=2e-4)
    np.testing.assert_allclose(early, (1, 0), atol=2e-5)
    sizes = {d: round(math.exp(d / 4)) for d in (12, 20, 28, 36)}
    t = collapse.isotropic_collapse_time(math.exp(3), 12)
    means = [collapse.isotropic_seed_weight(n, d, t).mean for d, n in sizes.items()]
    np.testing.assert_allclose(means, (0.6001, 0.5810, 0.5711, 0.5647), atol=2e-4)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="num_points = 1: a collapse needs at least 2 points"):
        collapse.isotropic_collapse_time(1, 3)
    with pytest.raises(ValueError, match=r"ln n / d = 0\.7: must lie between 0 and ln 2"):
        collapse.hypercube_collapse_time(0.7)
    with pytest.raises(ValueError, match=r"variances from -1\.0 to 1\.0: none negative"):
        collapse.spectrum_collapse_time(10, np.array([-1.0, 1.0]))


def test_points_that_no_time_tells_apart_are_told():
    """Two points say ln 2 of which one they are, whatever the noise."""
    two = GaussianMixture(jnp.ones(2), jnp.array([[1.0], [-1.0]]), 0.0)
    with pytest.raises(ValueError, match=r"the information differs from ln n by -3\.91 nats: there is no collapse"):
        collapse.mixture_collapse_time(jax.random.key(3), 100, two, 64)
