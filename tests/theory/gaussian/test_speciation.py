"""Speciation: closed forms against the noised mixture itself, the quoted numbers, simulated retention."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import GaussianMixture
from theory import speciation


def two_clusters(squared_norm, variance, d=8):
    mean = jnp.zeros(d).at[0].set(math.sqrt(squared_norm))
    return GaussianMixture(jnp.ones(2), jnp.stack([mean, -mean]), variance)


@pytest.mark.parametrize(
    ("squared_norm", "variance", "want"),
    [(4.0, 0.25, (0.7235, 0.7791, 1.0441)), (256.0, 1.0, (2.7745, 2.7726, 3.1192))],
)
def test_named_times_are_those_that_were_quoted(squared_norm, variance, want):
    """PHYSICS-mixtures 3."""
    functions = speciation.covariance_speciation_time, speciation.speciation_time, speciation.potential_speciation_time
    found = [function(squared_norm, variance) for function in functions]
    np.testing.assert_allclose([time for time, _ in found], want, atol=5e-5)
    assert [name for _, name in found] == ["covariance", "signal", "potential"]


def test_at_the_signal_time_the_log_density_loses_its_curvature_at_the_origin():
    found, t = two_clusters(4.0, 0.25), speciation.speciation_time(4.0, 0.25).time
    along = jnp.zeros(8).at[0].set(1.0)
    noised = found.noised(math.exp(-t), math.sqrt(1 - math.exp(-2 * t)))
    assert abs(noised.hessian_vector(jnp.zeros(8), along)[0]) < 1e-12


def test_the_covariance_time_is_where_the_noised_variance_along_the_means_is_two():
    """In the limit of large means: a^2 (|m|^2 + s^2) = 1 beside the noise's 1."""
    t = speciation.covariance_speciation_time(256.0, 1.0).time
    np.testing.assert_allclose(math.exp(-2 * t) * 257, 1, rtol=1e-12)


def test_classes_that_overlap_from_the_start_have_no_time():
    assert math.isnan(speciation.speciation_time(0.2, 0.5).time)


def test_clone_probabilities_are_those_that_were_quoted():
    assert abs(speciation.clone_probability(1.0) - 0.7752002454) < 1e-10
    for probability, value in zip(
        (0.55, 0.6, 0.75, 0.9, 0.95, 0.99), (0.1104, 0.2440, 0.8508, 2.2279, 3.3622, 6.1541), strict=True
    ):
        assert abs(speciation.signal_of_clone_probability(probability) - value) < 5e-5
        np.testing.assert_allclose(
            speciation.clone_probability(speciation.signal_of_clone_probability(probability)), probability
        )


def test_clone_probability_is_the_mean_square_posterior_of_the_scalar_mixture():
    """A second route: quadrature over x of sum_k r_k^2 p, with r from the densities themselves."""
    for value in (0.3, 2.0, 20.0):
        x = np.linspace(-30, 30, 60_001)
        plus, minus = (np.exp(-((x - sign * math.sqrt(value)) ** 2) / 2) / 2 for sign in (1, -1))
        squares = (plus**2 + minus**2) / (plus + minus + 1e-300)
        want = squares.sum() * (x[1] - x[0]) / math.sqrt(2 * math.pi)
        np.testing.assert_allclose(speciation.clone_probability(value), want, rtol=1e-9)


def test_retention_of_a_mixture_is_that_of_its_signal():
    """The simulated numbers quoted (d = 64, s = .6, |m|^2 = 64), and Monte Carlo over the mixture within 5 errors."""
    want = {1.5: (0.948, 0.965), 2.0: (0.803, 0.862), 2.4: (0.682, 0.767), 3.0: (0.569, 0.655)}
    for t, (sde, ode) in want.items():
        value = float(speciation.signal(64.0, 0.36, t))
        assert (
            abs(speciation.clone_probability(value) - sde) < 6e-4
            and abs(speciation.ode_clone_probability(value) - ode) < 6e-4
        )
        found = speciation.mixture_retention(jax.random.key(0), two_clusters(64.0, 0.36, 64), jnp.asarray(t), 4000)
        assert abs(found.value - speciation.clone_probability(value)) < 5 * found.stderr


def test_the_time_of_classes_that_differ_in_variance_alone():
    time, name = speciation.variance_speciation_time(10_000, 1.5, 0.5)
    assert abs(time - 1.7827) < 5e-5 and name == "variance"
