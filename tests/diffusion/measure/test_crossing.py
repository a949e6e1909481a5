"""Measures against curves and trees whose answer is known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import halfway, level_retention, locate_transition, mean_estimate
from hierarchical import RandomHierarchyModel
from theory.compare import compare_transitions

TIMES = jnp.linspace(0.0, 1.0, 11)


def test_the_locator_is_exact_on_a_straight_line():
    line = (1 - TIMES)[None]
    for threshold in (0.31, 0.5, 0.77):
        found = locate_transition(jax.random.key(0), TIMES, line, threshold)
        np.testing.assert_allclose(found.value, 1 - threshold, rtol=1e-12)
        assert found.stderr == 0


def test_a_curve_that_does_not_cross_has_no_transition():
    assert jnp.isnan(locate_transition(jax.random.key(0), TIMES, 0.9 * jnp.ones((1, 11)), 0.5).value)


def test_the_locator_s_error_is_the_spread_over_repetitions():
    """Rows are 0 or 1 with probability 1 - t: the crossing of their mean scatters as its bootstrap error says."""

    def repeat(key):
        data_key, locate_key = jax.random.split(key)
        rows = jax.random.bernoulli(data_key, 1 - TIMES[None], (300, 11)).astype(float)
        return locate_transition(locate_key, TIMES, rows, 0.5)

    found = jax.jit(jax.vmap(repeat))(jax.random.split(jax.random.key(1), 200))
    spread = np.std(found.value, ddof=1)
    np.testing.assert_allclose(np.mean(found.stderr), spread, rtol=5 / np.sqrt(2 * 200) + 0.05)
    assert abs(np.mean(found.value) - 0.5) < 5 * spread / np.sqrt(200)


def test_halfway_lies_between_certainty_and_chance():
    assert halfway(8) == (1 + 1 / 8) / 2


def test_a_comparison_adds_errors_in_squares():
    rows = jax.random.bernoulli(jax.random.key(2), 1 - TIMES[None], (200, 11)).astype(float)
    comparison = compare_transitions(jax.random.key(3), TIMES, (1 - TIMES)[None], rows, 0.5)
    np.testing.assert_allclose(comparison.predicted.value, 0.5, rtol=1e-12)
    np.testing.assert_allclose(comparison.difference.stderr, comparison.measured.stderr, rtol=1e-12)
    assert abs(comparison.difference.value) < 5 * comparison.difference.stderr


def test_what_paired_curves_have_in_common_cancels_in_their_difference():
    """A curve and itself shifted by one noise level: paired, the difference is one step, without error."""
    rows = jax.random.bernoulli(jax.random.key(4), 1 - TIMES[None], (200, 11)).astype(float)
    near, far = rows[:, 1:], rows[:, :-1]
    paired, unpaired = (
        compare_transitions(key, TIMES[1:], near, far, 0.5, paired=together).difference
        for key, together in zip(jax.random.split(jax.random.key(5)), (True, False), strict=True)
    )
    assert paired.stderr < 1e-6 < unpaired.stderr
    np.testing.assert_allclose(paired.value, TIMES[1] - TIMES[0], atol=1e-6)
    with pytest.raises(ValueError, match="200 and 199 rows"):
        compare_transitions(jax.random.key(6), TIMES, rows, rows[1:], 0.5, paired=True)


def test_mean_estimate_has_the_standard_error_of_the_mean():
    samples = jnp.array([[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]])
    found = mean_estimate(samples)
    np.testing.assert_allclose(found.value, [3.0, 4.0])
    np.testing.assert_allclose(found.stderr, [2.0 / np.sqrt(3), 0.0])
    assert jnp.isnan(mean_estimate(samples[:1]).stderr).all()


def test_retention_counts_the_nodes_that_both_trees_share():
    rhm = RandomHierarchyModel.from_rules([np.array([[[0, 1]], [[1, 0]]])] * 3)
    word = jnp.array([0, 1, 1, 0, 1, 0, 0, 1], jnp.int32)  # the tree of 0
    other = jnp.array([1, 0, 0, 1, 0, 1, 1, 0], jnp.int32)  # the tree of 1
    torn = word.at[4:6].set(1)  # its third pair is no rule's
    before, after = jnp.stack([word, word, word, torn]), jnp.stack([word, other, torn, torn])
    found = jax.jit(level_retention)(rhm, before, after)
    np.testing.assert_allclose(found, [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0.5, 0.75, 7 / 8], [0, 0.5, 0.75, 1]])


def test_retention_of_a_filtered_grammar_says_nothing_of_its_class():
    rhm = RandomHierarchyModel(3, 2, 2, 3, filter_level=2, key=jax.random.key(7))
    string = rhm.sample(jax.random.key(8), 1).x
    np.testing.assert_array_equal(level_retention(rhm, string, string), [[np.nan, np.nan, 1, 1]])
