"""Levels and windows of a tree of clusters: closed forms against Monte Carlo and the overlap of two densities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from hierarchical import tree_mixture
from theory import speciation, windows


def test_level_times_and_retention_of_a_tree():
    """m = 16, 4, 1.5 at variance 1: 2.773, 1.386, .405; retention of each level between its time and the next, where
    levels are well separated, within .01 of Monte Carlo."""
    tree = tree_mixture(jax.random.key(1), 16, (16.0, 4.0, 1.5))
    np.testing.assert_allclose([time for time, _ in windows.level_times(tree)], [2.773, 1.386, 0.405], atol=6e-4)
    for t in (0.4, 1.4, 2.8):
        want = windows.level_retention_prediction(tree, t)
        for level in (1, 2, 3):
            found = speciation.mixture_retention(jax.random.key(2), tree, jnp.asarray(t), 20_000, level)
            assert abs(found.value - want[level - 1]) < 0.01 + 5 * found.stderr


def test_windows_are_inverse_to_total_variation_which_is_the_overlap_of_two_densities():
    np.testing.assert_allclose([windows.window_time(10.0, 1.0, q) for q in (0.05, 0.95)], [4.379, 0.937], atol=6e-4)
    assert abs(windows.total_variation(3.0, 0.5, windows.window_time(3.0, 0.5, 0.4)) - 0.4) < 1e-12
    t, distance, variance = 0.8, 3.0, 0.5
    alpha, spread = math.exp(-t), math.sqrt(variance * math.exp(-2 * t) + 1 - math.exp(-2 * t))
    want = special.ndtr(alpha * distance / 2 / spread) - special.ndtr(-alpha * distance / 2 / spread)
    np.testing.assert_allclose(windows.total_variation(distance, variance, t), want, rtol=1e-12)


def test_what_has_no_closed_form_is_refused():
    with pytest.raises(ValueError, match=r"branching = \(3,\): the levels of a binary tree"):
        windows.level_times(tree_mixture(jax.random.key(0), 4, (1.0,), branching=3))
