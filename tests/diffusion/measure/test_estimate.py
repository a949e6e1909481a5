"""Estimates: any real numbers as rows, and rows far from the origin, against NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import bootstrap, bootstrap_groups, independent_rows, mean_estimate, student_factor


def standard_error(rows):
    return rows.std(0, ddof=1) / len(rows) ** 0.5


def mean(rows):
    return rows


resampled = jax.jit(lambda key, rows: bootstrap(key, rows, mean, num_resamples=2000))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64])
def test_rows_of_whole_numbers_and_truth_values_are_floats(dtype):
    rows = np.random.default_rng(0).integers(0, 2 if dtype is bool else 127, (200, 3)).astype(dtype)
    truth = rows.astype(float)
    for given in (rows, rows.tolist(), jnp.asarray(rows)):
        found = mean_estimate(given)
        np.testing.assert_allclose(found.value, truth.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.stderr, standard_error(truth) * student_factor(200), rtol=1e-12)
    found = resampled(jax.random.key(1), rows)
    np.testing.assert_allclose(found.value, truth.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.stderr, standard_error(truth), rtol=0.08)

    groups = rows.reshape(20, 10, 3)
    np.testing.assert_allclose(independent_rows(groups.tolist()), truth.reshape(20, 10, 3).mean(1), rtol=1e-12)
    found = bootstrap_groups(jax.random.PRNGKey(2), groups, mean, num_resamples=2000)
    np.testing.assert_allclose(found.stderr, standard_error(truth.reshape(20, 10, 3).mean(1)), rtol=0.12)


def test_the_error_of_rows_far_from_the_origin_is_that_of_double_precision():
    """In single precision numbers near 1e6 are 1/16 apart, and the mean's error is a quarter of that."""
    rows = (1e6 + np.random.default_rng(0).normal(size=5000)).astype(np.float32)
    truth = standard_error(rows.astype(float))
    assert abs(float(mean_estimate(rows).value) - rows.astype(float).mean()) <= 1 / 32
    np.testing.assert_allclose(mean_estimate(rows).stderr, truth, rtol=1e-4)
    np.testing.assert_allclose(resampled(jax.random.key(3), rows).stderr, truth, rtol=0.08)
    squared = jax.jit(lambda key, rows: bootstrap(key, rows, lambda mean: mean**2, num_resamples=2000))
    np.testing.assert_allclose(squared(jax.random.key(3), rows).stderr, 2e6 * truth, rtol=0.08)


def test_a_statistic_may_be_a_place_or_a_whole_number():
    """The place of the largest mean has no derivative: its error is its scatter, here between two equal places."""
    rows = np.eye(3, dtype=np.float32)[np.arange(300) % 2]
    found = bootstrap(jax.random.key(4), rows, jnp.argmax, num_resamples=2000)
    np.testing.assert_allclose(found.stderr, 0.5, rtol=0.1)


def test_infinite_rows_have_an_infinite_mean():
    found = mean_estimate(np.array([[1.0, np.inf], [2.0, 3.0]]))
    np.testing.assert_array_equal(found.value, [1.5, np.inf])
    assert jnp.isnan(found.stderr[1])


def test_no_rows_and_no_numbers_are_refused():
    with pytest.raises(ValueError, match=r"the rows have shape \(0, 3\): give \(rows, ...\), at least one of each"):
        mean_estimate(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"the rows have shape \(4,\): give \(groups, rows, ...\), at least one"):
        bootstrap_groups(jax.random.key(5), np.zeros(4), mean)
    with pytest.raises(ValueError, match="give real numbers"):
        bootstrap(jax.random.key(5), ["a", "b"], mean)
