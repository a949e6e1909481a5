"""The speciation time of labelled data: unbiased where the truth is known, errors that cover, and refusals."""

import math

import jax
import numpy as np
import pytest

from theory import labelled, speciation

SPREADS = np.sqrt(np.linspace(0.2, 2.0, 40))  # of the directions within a class
HALF = np.zeros(40)
HALF[:2] = 0.8, 1.5


def draw(rng, sizes):
    """Two Gaussian classes at +-HALF, of variances SPREADS^2 and twice those."""
    first, second = (rng.normal(size=(n, 40)) * SPREADS * scale for n, scale in zip(sizes, (1, 2**0.5), strict=True))
    return first - HALF, second + HALF


def test_moments_are_unbiased_where_dimensions_outnumber_data():
    """15 and 20 data; the correction of |m|^2, tr C, is far larger than the error of the mean here."""
    rng = np.random.default_rng(0)
    found = np.array([labelled._moments(*draw(rng, (15, 20))) for _ in range(2000)])
    want, errors = (HALF @ HALF, 1.5 * np.sum((HALF * SPREADS) ** 2)), found.std(0) / 2000**0.5
    assert (abs(found.mean(0) - want) < 5 * errors).all()
    assert np.sum(SPREADS**2) * (1 / 15 + 2 / 20) / 4 > 20 * errors[0]


@pytest.mark.parametrize("sizes", [(30, 300), (30, 60)])
def test_a_trace_of_a_product_is_the_same_by_both_matrices(sizes):
    rng, d = np.random.default_rng(1), 80
    a, b = (rng.normal(size=(n, d)) for n in sizes)
    np.testing.assert_allclose(labelled._trace_of_product(a, b), np.trace(a.T @ a @ b.T @ b))


def test_times_of_labelled_data_are_those_of_their_law():
    """Two classes of equal spread: the closed form of the clusters within 5 errors, and errors that are small."""
    rng, n = np.random.default_rng(2), 4000
    x = np.concatenate([rng.normal(size=(n, 40)) * SPREADS + sign * HALF for sign in (-1, 1)])
    labels = np.repeat([0, 1], n)
    found = labelled.labelled_speciation(jax.random.key(0), x.reshape(-1, 8, 5), labels, num_resamples=30)
    squared, along = HALF @ HALF, np.sum((HALF * SPREADS) ** 2) / (HALF @ HALF)
    largest = np.linalg.eigvalsh(np.diag(SPREADS**2) + np.outer(HALF, HALF))[-1]
    want = (speciation.speciation_time(squared, along).time, math.log(largest) / 2, squared, along, largest)
    for estimate, truth in zip(found, want, strict=True):
        assert abs(estimate.value - truth) < 5 * estimate.stderr
        assert estimate.stderr < 0.05


@pytest.mark.slow
def test_errors_of_the_signal_time_cover():
    """The truth lies within one stated error in 60 to 76% of 200 data sets."""
    rng = np.random.default_rng(3)
    along = 1.5 * np.sum((HALF * SPREADS) ** 2) / (HALF @ HALF)
    truth = speciation.speciation_time(HALF @ HALF, along).time
    inside = []
    for seed in range(200):
        parts = draw(rng, (200, 300))
        labels = np.repeat([0, 1], (200, 300))
        found = labelled.labelled_speciation(jax.random.key(seed), np.concatenate(parts), labels).signal_time
        inside.append(abs(found.value - truth) < found.stderr)
    assert 0.60 < np.mean(inside) < 0.76


def test_classes_that_are_not_apart_have_no_time():
    x = np.tile([[0.1], [-0.1], [0.2]], (4, 2)) + np.array([0.0, 3.0])
    found = labelled.labelled_speciation(jax.random.key(0), x, np.repeat([0, 1], 6), num_resamples=4)
    assert math.isnan(found.signal_time.value) and math.isnan(found.covariance_time.value)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 2]), r"labels = \[0 1 2\]: give 0 or 1"),
        (np.zeros((6, 2)), np.array([0, 0, 0, 0, 1, 1]), "4 data of label 0 and 2 of label 1: at least 3"),
        (np.full((6, 2), math.nan), np.array([0, 0, 0, 1, 1, 1]), "x holds NaN or infinite numbers"),
        (np.zeros((6, 2)), np.array([0, 1, 1]), r"x has shape \(6, 2\), labels \(3,\): give a datum and a label"),
    ],
)
def test_data_without_two_classes_are_refused(x, labels, message):
    with pytest.raises(ValueError, match=message):
        labelled._classes(x, labels)
