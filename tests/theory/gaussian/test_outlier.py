"""Outliers of sample covariances against samples of two modes."""

import functools

import numpy as np
import pytest
from scipy import linalg

from diffusion.measure import mean_estimate
from theory import outlier

REPETITIONS = 16


@functools.cache
def sampled(theta, gamma, dimension=200, variance=2.0):
    """Largest eigenvalue and squared overlap with m, of sample covariances of two modes +-m."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(REPETITIONS):
        count = round(dimension / gamma)
        x = rng.normal(size=(count, dimension))
        x[:, 0] += rng.choice([-1, 1], count) * theta**0.5
        values, vectors = linalg.eigh(variance * x.T @ x / count, subset_by_index=[dimension - 1] * 2)
        found.append((values[-1], vectors[0, -1] ** 2))
    return mean_estimate(np.array(found))


CASES = (2.0, 0.5), (3.0, 2.0), (1.0, 0.25)


@pytest.mark.parametrize(
    ("theta", "gamma"), [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])]
)
def test_modes_above_the_threshold_have_an_eigenvalue_and_a_vector(theta, gamma):
    """Within 5 standard errors and the 2/d of finite size."""
    found = sampled(theta, gamma)
    position, overlap = outlier.top_eigenvalue(theta, gamma, 2.0), outlier.overlap(theta, gamma)
    assert abs(found.value[0] / position - 1) < 5 * found.stderr[0] / position + 2 / 200
    assert abs(found.value[1] - overlap) < 5 * found.stderr[1] + 2 / 200


def test_modes_below_the_threshold_do_not_show():
    """At half of it the top is the edge of the noise, up to d^(-2/3), and its vector is any."""
    theta, gamma = 0.5 * outlier.outlier_threshold(0.5), 0.5
    found = sampled(theta, gamma)
    np.testing.assert_allclose(found.value[0], outlier.top_eigenvalue(theta, gamma, 2.0), rtol=200 ** (-2 / 3))
    assert outlier.overlap(theta, gamma) == 0 and found.value[1] < 0.05


def test_position_and_overlap_are_continuous_at_the_threshold_and_free_of_noise_with_many_data():
    for gamma in (0.1, 1.0, 5.0):
        edge = outlier.outlier_threshold(gamma)
        np.testing.assert_allclose(outlier.top_eigenvalue(edge * (1 + 1e-6), gamma), (1 + edge) ** 2, rtol=1e-9)
        assert outlier.overlap(edge * (1 + 1e-6), gamma) < 1e-5
    np.testing.assert_allclose(outlier.top_eigenvalue(3.0, 1e-9, 2.0), 8.0, rtol=1e-8)
    np.testing.assert_allclose(outlier.overlap(3.0, 1e-9), 1.0, rtol=1e-8)


def test_what_is_refused():
    with pytest.raises(ValueError, match="spike = -1: give a finite number above 0"):
        outlier.overlap(-1, 0.5)
    with pytest.raises(ValueError, match="aspect = 0: give a finite number above 0"):
        outlier.top_eigenvalue(1.0, 0)
