"""Fits: the same mixture wherever the data lie and whatever their unit; data without one are refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import fit_mixture

KINDS = ["full", "diagonal", "isotropic"]


def points(n: int = 100) -> np.ndarray:
    """Two clusters; multiples of 2^-8, so that a shift by 2^13 is exact in float32."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) / 2 + np.array([[-2, 0], [2, 1]])[rng.integers(2, size=n)]
    return np.round(x * 2**8) / 2**8


def spread(mixture) -> np.ndarray:
    """Covariances, (K, d, d)."""
    axes = np.broadcast_to(np.eye(2), (2, 2, 2)) if mixture.axes is None else np.asarray(mixture.axes)
    variances = np.broadcast_to(mixture.variances, (2, 2))
    return np.einsum("kia,ka,kja->kij", axes, variances, axes)


@pytest.mark.parametrize("kind", KINDS)
def test_far_from_the_origin_in_float32_nothing_is_lost(kind):
    near = fit_mixture(points(), 2, kind=kind)
    far = fit_mixture(jnp.asarray(points() + 2.0**13, jnp.float32), 2, kind=kind)
    assert far.means.dtype == jnp.float32
    np.testing.assert_allclose(far.means, near.means + 2.0**13, rtol=np.finfo(np.float32).eps)
    np.testing.assert_allclose(spread(far), spread(near), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_data_does_not_matter(unit):
    """Among others, 10^-6 that scikit-learn adds to each variance is small however small the data."""
    one, other = fit_mixture(points(), 2), fit_mixture(unit * points(), 2)
    np.testing.assert_allclose(other.means, unit * one.means, rtol=1e-9)
    np.testing.assert_allclose(spread(other), unit**2 * spread(one), rtol=1e-9)


def test_one_component_has_the_moments_of_the_data():
    x = points()
    mixture = fit_mixture(x, 1)
    np.testing.assert_allclose(mixture.means[0], x.mean(0), rtol=1e-12)
    total = np.mean((x - x.mean(0)) ** 2)
    axes, variances = np.asarray(mixture.axes[0]), np.asarray(mixture.variances[0])
    covariance = np.cov(x.T, bias=True) + 1e-6 * total * np.eye(2)
    np.testing.assert_allclose(axes * variances @ axes.T, covariance, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16])
def test_integers_are_numbers(dtype):
    whole = np.round(10 * points() + 60)
    one, other = fit_mixture(whole, 2), fit_mixture(whole.astype(dtype), 2)
    assert other.means.dtype == other.variances.dtype == other.weights.dtype == jnp.float64
    np.testing.assert_array_equal(one.means, other.means)
    np.testing.assert_array_equal(one.variances, other.variances)


@pytest.mark.parametrize(
    ("data", "components", "message"),
    [
        (
            np.where(np.arange(100)[:, None] == 7, np.nan, points()),
            2,
            "1 of 100 points are NaN or infinite, first",
        ),
        (np.where(np.arange(100)[:, None] > 97, np.inf, points()), 2, "2 of 100 points are NaN or infinite"),
        (np.ones((50, 2)), 1, "50 points, 1 of them different: give at least 1 component, at least 2 different"),
        (np.repeat(points()[:3], 9, 0), 4, "num_components = 4, 27 points, 3 of them different: .* no more components"),
        (points(), 0, "num_components = 0, 100 points"),
        (points()[:, 0], 2, r"points are float64 of shape \(100,\): give real numbers of shape \(n, d\)"),
        (points()[:0], 2, r"points are float64 of shape \(0, 2\)"),
        (points() * 1j, 2, r"points are complex128 of shape \(100, 2\): give real numbers"),
    ],
)
def test_data_without_a_mixture_are_named(data, components, message):
    with pytest.raises(ValueError, match=message):
        fit_mixture(data, components)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind = 'round': choose among full, diagonal, isotropic"):
        fit_mixture.__wrapped__(points(), 2, kind="round")
