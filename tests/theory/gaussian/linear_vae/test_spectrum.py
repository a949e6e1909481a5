"""Relevance, collapse and multiplets of known spectra: closed forms, symmetric data, and what is refused."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import linear_vae

EIGHT = (4, 2.5, 1.5, 1, 0.6, 0.3, 0.1, 0.02)
TREE = [0.5] * 18 + [3.2] * 2 + [5.9] + [1.4] * 6  # of leaves of a tree, in no order


def test_relevance_of_eight_eigenvalues():
    """lambda / tau - 1 at tau = 1/2, for six latents; the information of the first is ln 8 / 2."""
    np.testing.assert_allclose(linear_vae.relevance(EIGHT, 0.5, 6), [7, 4, 2, 1, 0.2, 0], atol=1e-12)
    np.testing.assert_allclose(linear_vae.divergence(EIGHT, 0.5, 2), [np.log(8) / 2, np.log(5) / 2])
    assert int(linear_vae.active(EIGHT, 0.5, 6)) == 5
    assert int(linear_vae.active(EIGHT, 4)) == 0  # at the threshold itself


def test_leaves_of_a_tree_collapse_level_by_level():
    found = linear_vae.collapse_levels(TREE)
    np.testing.assert_allclose(found.tau, [0.5, 1.4, 3.2, 5.9])
    assert (found.above, found.below) == ((27, 9, 3, 1), (9, 3, 1, 0))
    assert linear_vae.multiplets(TREE).sizes == (1, 2, 6, 18)
    between = np.array([0.4, 1.0, 2.0, 5.0, 6.0])
    np.testing.assert_array_equal(linear_vae.active(TREE, between), [27, 9, 3, 1, 0])
    few = linear_vae.collapse_levels(TREE, 5)
    np.testing.assert_allclose(few.tau, [1.4, 3.2, 5.9])
    assert (few.above, few.below) == ((5, 3, 1), (3, 1, 0))


def test_values_that_are_zero_never_were_active():
    found = linear_vae.collapse_levels([2, 1e-17, 2, -1e-17])
    assert found == (np.array([2.0]), (2,), (0,))
    assert linear_vae.multiplets([2, 1e-17, 2, -1e-17]).sizes == (2, 2)
    assert linear_vae.multiplets([1, 1.01, 0.5], rtol=0.02).sizes == (2, 1)


def test_an_invariant_law_has_multiplets_of_the_dimensions_of_its_representations():
    """Cyclic shifts of five sites act by one representation of dimension 1 and two of dimension 2."""
    rows = np.random.default_rng(0).normal(size=(40, 5)) ** 3
    orbit = np.concatenate([np.roll(rows, shift, 1) for shift in range(5)])  # every datum with all its shifts
    sizes = linear_vae.multiplets(np.linalg.eigvalsh(orbit.T @ orbit / len(orbit)), rtol=1e-9).sizes
    assert sorted(sizes) == [1, 2, 2]


def test_batches_jit_and_gradients():
    spectra, taus = np.array([EIGHT, EIGHT[::-1]]), np.array([0.5, 2.0])
    both = jax.jit(linear_vae.relevance, static_argnums=2)(spectra, taus, 6)
    np.testing.assert_allclose(both[1], linear_vae.relevance(EIGHT, 2.0, 6))
    np.testing.assert_allclose(linear_vae.relevance(EIGHT, taus, 6), both)
    slope = jax.grad(lambda tau: linear_vae.least_free_energy(jnp.array(EIGHT), tau, 6))(0.5)
    np.testing.assert_allclose(slope, linear_vae.divergence(EIGHT, 0.5, 6).sum())  # by (1) of `optimum`, at an optimum
    undefined = jax.jit(lambda tau: (linear_vae.relevance(EIGHT, tau), linear_vae.active(EIGHT, tau)))(-1.0)
    assert np.isnan(undefined[0]).all() and int(undefined[1]) == -1
    assert np.isnan(jax.jit(linear_vae.divergence)(jnp.array([1.0, -1.0]), 0.5)).all()
    assert linear_vae.relevance(np.ones(3, np.float32), 0.5).dtype == jnp.float32


@pytest.mark.parametrize(
    ("eigenvalues", "tau", "num_latents", "message"),
    [
        ([1, -0.1], 1.0, None, r"eigenvalues = -0\.1: give finite numbers, none negative"),
        ([1, np.nan], 1.0, None, "eigenvalues = nan: give finite numbers"),
        (1.0, 1.0, None, r"eigenvalues have shape \(\): give \(\.\.\., d\)"),
        ([1, 2], 0.0, None, "tau = 0: give finite numbers above 0"),
        ([1, 2], np.nan, None, "tau = nan: give finite numbers above 0"),
        ([1, 2], 1.0, 3, "num_latents = 3: data of 2 numbers have at most as many"),
        ([1, 2], 1.0, 0, "num_latents = 0: give a whole number, 1 or above"),
        (np.ones((2, 4)), np.ones(3), None, r"eigenvalues of shape \(2, 4\), tau of \(3,\): give one tau"),
    ],
)
def test_what_has_no_relevance_is_refused(eigenvalues, tau, num_latents, message):
    for function in (linear_vae.relevance, linear_vae.divergence, linear_vae.active, linear_vae.least_free_energy):
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(function)(eigenvalues, tau, num_latents)


def test_what_has_no_multiplets_is_refused():
    with pytest.raises(ValueError, match=r"eigenvalues have shape \(2, 2\): give a list"):
        linear_vae.multiplets(np.eye(2))
    with pytest.raises(ValueError, match=r"rtol = -1\.0: give a finite number of at least 0"):
        linear_vae.multiplets([1, 2], -1.0)
    with pytest.raises(ValueError, match="num_latents = 3"):
        linear_vae.collapse_levels([1, 2], 3)
