"""Spread and coding rate: covariances made exact, the closed form of orthogonal subspaces, and errors that hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import probing

MEASURES = (probing.early_enrichment, probing.participation_ratio, probing.effective_rank)


def axes(*lengths):
    """Data of mean 0 whose covariance is diagonal with the squares of `lengths`."""
    size = len(lengths)
    return np.concatenate([sign * np.sqrt(size) * np.diag(lengths) for sign in (1, -1)]) + 7.0


@pytest.mark.parametrize(
    ("lengths", "want"),
    [
        ((2, 2, 2, 2), (0, 4, 4)),  # a ball
        ((3, 0, 0, 0), (3 / 4, 1, 1)),  # a line
        ((1, 1, 0, 0), (2 / 4 * (2 / 4 + 4 / 4 + 1 + 1 - 10 / 4), 2, 2)),  # half of the dimensions
    ],
)
def test_spread_of_exact_covariances(lengths, want):
    for measure, value in zip(MEASURES, want, strict=True):
        np.testing.assert_allclose(measure(axes(*lengths)).value, value, atol=1e-9)
        found = measure(axes(*lengths).astype(np.float32)).value
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, value, atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_errors_of_spread_are_those_of_repeated_draws(measure):
    x = np.random.default_rng(0).normal(size=(100, 300, 3)) * [2.0, 1.0, 0.5]
    found = measure(x)
    assert 0.75 < np.mean(found.stderr) / np.std(found.value) < 1.3
    truth = measure(axes(2.0, 1.0, 0.5)).value
    assert abs(np.mean(found.value) - truth) < 5 * np.std(found.value) / 10 + 0.01 * truth  # of 300 data


def subspaces(classes, size):
    """Vectors of orthogonal subspaces, one for each class, whose mean square is the unit matrix there."""
    basis = np.sqrt(size) * np.eye(classes * size)
    return basis, np.repeat(np.arange(classes), size).astype(np.uint8)


@pytest.mark.parametrize(("classes", "size"), [(3, 2), (1, 4)])
def test_rate_reduction_of_orthogonal_subspaces_is_the_closed_form(classes, size):
    z, labels = subspaces(classes, size)
    d, eps = classes * size, 0.3
    whole = d / 2 * np.log1p(d / (eps**2 * classes))
    np.testing.assert_allclose(probing.coding_rate(z, eps).value, whole, rtol=1e-9)
    saved = whole - size / 2 * np.log1p(d / eps**2)
    found = probing.rate_reduction(z, labels, classes, eps)
    np.testing.assert_allclose(found.value, saved, rtol=1e-9, atol=1e-12)


def test_the_error_of_a_rate_is_that_of_repeated_draws():
    x = np.random.default_rng(1).normal(size=(100, 300, 3))
    rate = probing.coding_rate(x)
    assert 0.75 < np.mean(rate.stderr) / np.std(rate.value) < 1.3
    assert abs(np.mean(rate.value) - 1.5 * np.log1p(3 / 0.25)) < 5 * np.std(rate.value) / 10 + 9 / (4 * 300)


def test_wrong_states_are_refused_by_name():
    for measure in (*MEASURES, probing.coding_rate):
        with pytest.raises(ValueError, match=r"states have shape \(1, 2\): give .* at least two data"):
            measure(jnp.ones((1, 2)))
        with pytest.raises(ValueError, match="NaN or infinite"):
            measure([[1.0, np.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="epsilon = 0: give one positive number"):
        probing.coding_rate(np.ones((3, 2)), 0)
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), states \(3, 2\)"):
        probing.rate_reduction(np.ones((3, 2)), [0, 1], 2)
