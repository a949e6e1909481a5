"""Ratios and logarithms of Bessel functions against SciPy's, where it has them, and the differential equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from hierarchical.manifold.bessel import bessel_ratio, log_bessel

ORDERS = [0.0, 0.5, 4.5, 24.5]
POINTS = np.array([1.0, 5, 30, 100, 1e3, 1e5, 1e7])


@pytest.mark.parametrize(
    ("order", "dtype", "tolerance"),
    [
        pytest.param(order, dtype, tolerance, marks=() if order in kept else pytest.mark.slow)
        for dtype, tolerance, kept in ((np.float64, 1e-13, (0.0, 0.5, 24.5)), (np.float32, 5e-7, (0.0,)))
        for order in ORDERS
    ],
)
def test_they_are_those_of_scipy(order, dtype, tolerance):
    ratio, share = bessel_ratio(order, jnp.asarray(POINTS, dtype))
    want = special.ive(order + 1, POINTS) / special.ive(order, POINTS)
    np.testing.assert_allclose(ratio, want, rtol=tolerance)
    np.testing.assert_allclose(share, want / POINTS, rtol=tolerance)
    first = special.gammaln(order + 1) + order * np.log(2 / POINTS)
    np.testing.assert_allclose(
        log_bessel(order, jnp.asarray(POINTS, dtype)),
        np.log(special.ive(order, POINTS)) + POINTS + first,
        rtol=10 * tolerance,
        atol=tolerance,  # SciPy's is a difference of larger numbers
    )


@pytest.mark.parametrize(
    "order", [0.0, *(pytest.param(order, marks=pytest.mark.slow) for order in (4.5, 391.5)), 2000.0]
)
def test_the_logarithm_grows_as_the_ratio_and_begins_at_zero(order):
    """Also where SciPy's functions underflow: dF/dx = A, dA/dx = 1 - A^2 - (2 nu + 1) A/x."""
    x = jnp.array([0.0, 1e-3, 0.3, 7.0, 90.0, 2e3, 1e6])
    ratio, share = bessel_ratio(order, x)
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda x: log_bessel(order, x)))(x), ratio, rtol=1e-9, atol=1e-15)
    slope = jax.vmap(jax.grad(lambda x: bessel_ratio(order, x)[0]))(x)
    np.testing.assert_allclose(slope, 1 - ratio**2 - (2 * order + 1) * share, rtol=1e-6, atol=1e-13)
    assert log_bessel(order, jnp.zeros(())) == 0
    assert share[0] == 1 / (2 * (order + 1))
