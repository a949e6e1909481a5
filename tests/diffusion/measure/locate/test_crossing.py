"""Measures against curves and trees whose answer is known by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import (
    among_valid,
    bootstrap,
    bootstrap_groups,
    halfway,
    is_valid,
    level_retention,
    locate_crossing,
    locate_difference,
    locate_transition,
    mean_estimate,
)
from hierarchical import RandomHierarchyModel
from theory.compare import compare_transitions

TIMES = jnp.linspace(0.0, 1.0, 11)


def logistic(times, middle=0.4, rate=8.0):
    """Retention from 1 to chance 1/8, and the time at which it is 1/2."""
    return 1 / 8 + 7 / 8 / (1 + np.exp(rate * (np.asarray(times) - middle))), middle + np.log(4 / 3) / rate


def test_the_locator_is_exact_on_a_straight_line():
    for threshold in (0.31, 0.5, 0.77):
        found = locate_crossing(jax.random.key(0), TIMES, (1 - TIMES)[None], threshold)
        np.testing.assert_allclose([found.value, found.stderr], [1 - threshold, 0], atol=1e-12)


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_the_locator_is_exact_on_a_logistic_curve(chance):
    """Also on levels of any spacing, and where the curve has all but reached 1 and chance."""
    times = jnp.array([0.0, 0.05, 0.2, 0.25, 0.3, 0.35, 0.37, 0.45, 0.6, 1.0])
    curve = chance + (1 - chance) / (1 + jnp.exp(20 * (times - 0.31)))
    found = locate_transition(jax.random.key(0), times, curve[None], chance + (1 - chance) * 0.8, chance=chance)
    np.testing.assert_allclose(found.value, 0.31 - np.log(4) / 20, rtol=1e-6)
    assert found.stderr < 1e-6


@pytest.mark.parametrize("points", [2, 5, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 7, 9))])
def test_the_error_of_a_deterministic_curve_holds_its_grid(points):
    times = jnp.linspace(0.05, 0.95, points)
    curve, truth = logistic(times)
    found = locate_transition(jax.random.key(0), times, jnp.asarray(curve)[None])
    assert abs(found.value - truth) < found.stderr < 0.9 / (points - 1)


def test_two_levels_know_only_that_the_crossing_lies_between():
    rows = jnp.tile(jnp.array([[1.0, 0.0]]), (100, 1))
    found = locate_transition(jax.random.key(0), jnp.array([0.05, 0.95]), rows)
    np.testing.assert_allclose([found.value, found.stderr], [0.5, 0.9 / np.sqrt(12)], rtol=1e-12)


def test_a_curve_that_does_not_cross_has_no_transition():
    for height in (0.9, 0.1):
        assert jnp.isnan(locate_transition(jax.random.key(0), TIMES, height * jnp.ones((1, 11))).value)


def test_impossible_thresholds_and_grids_are_refused():
    key, rows = jax.random.key(0), 0.5 * jnp.ones((2, 11))
    with pytest.raises(ValueError, match=r"threshold = 0.0, chance = 0.0: a retention falls from 1"):
        locate_transition(key, TIMES, rows, 0.0)
    with pytest.raises(ValueError, match=r"noise_times has shape \(1,\): give a row of at least 2"):
        locate_transition(key, TIMES[:1], rows[:, :1])


def test_times_and_curves_that_do_not_fit_are_refused_by_name():
    key, curve = jax.random.key(0), np.asarray(logistic(TIMES)[0])[None]
    later = np.asarray(TIMES) + 0.1 * (np.arange(11) == 3)
    for times, retention, message in (
        (TIMES[:-1], curve, "10 noise times, retention has 11 columns: give a time for each"),
        (TIMES[::-1], curve, r"noise_times has 0\.9 after 1\.0: give increasing times"),
        (later, curve, r"noise_times has 0\.4 after 0\.4: give increasing times"),
        (TIMES.at[2].set(jnp.inf), curve, "noise_times holds inf: give finite times"),
        (TIMES, 100 * curve, r"retention has the mean 96\.573 at a noise time: give probabilities, from 0 to 1; for"),
        (TIMES, curve - 0.2, "retention has the mean -0"),
        (TIMES, curve[0], r"retention has shape \(11,\): give \(rows, times\) or \(groups, rows, times\)"),
    ):
        with pytest.raises(ValueError, match=message):
            locate_transition(key, times, retention)
    with pytest.raises(ValueError, match="second has the mean 96"):
        locate_difference(key, TIMES, curve, 100 * curve)
    with pytest.raises(ValueError, match="10 noise times, curve has 11 columns"):
        locate_crossing(key, TIMES[:-1], curve)


def test_lists_and_whole_numbers_are_curves_and_rows_may_leave_the_unit_interval():
    rows = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
    times = [1, 2, 3, 4]
    truth = locate_transition(jax.random.key(0), jnp.arange(1.0, 5.0), jnp.asarray(rows, float))
    for given in (rows.tolist(), rows.astype(bool), rows.astype(np.int8)):
        found = locate_transition(jax.random.PRNGKey(0), times, given)
        np.testing.assert_allclose([found.value, found.stderr], [truth.value, truth.stderr], rtol=1e-12)
    paired = locate_difference(jax.random.key(0), times, rows.tolist(), rows.astype(bool))
    np.testing.assert_allclose(paired.value, 0, atol=1e-12)
    valid = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]], bool)
    among = among_valid(jnp.asarray(rows * valid, float), jnp.asarray(valid))
    assert float(among.max()) > 1 and jnp.isfinite(locate_transition(jax.random.key(0), times, among).value)
    nothing = among_valid(jnp.asarray(rows, float), jnp.asarray(valid).at[:, 3].set(False))
    assert jnp.isnan(locate_transition(jax.random.key(0), times, nothing).value)


def covered(repeat, truth, count=400):
    """The share of repeated experiments whose value +- error holds the truth."""
    found = jax.jit(lambda keys: jax.lax.map(repeat, keys, batch_size=20))(jax.random.split(jax.random.key(1), count))
    return np.mean(abs(np.asarray(found.value) - truth) < np.asarray(found.stderr)), found


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "times"), [(512, (0.05, 0.95, 17)), (4096, (0.25, 0.55, 9)), (64, (0.05, 0.95, 17))])
def test_errors_of_the_locator_cover_two_thirds(rows, times):
    """At the sizes that experiments use; 400 repetitions know a coverage of 68.3% to 2.3%."""
    grid = jnp.linspace(*times)
    curve, truth = logistic(grid)

    def repeat(key):
        data_key, locate_key = jax.random.split(key)
        data = jax.random.bernoulli(data_key, jnp.asarray(curve)[None], (rows, len(grid))).astype(float)
        return locate_transition(locate_key, grid, data, num_resamples=200)

    share, found = covered(repeat, truth)
    assert 0.63 < share < 0.74
    assert abs(np.mean(found.value) - truth) < 0.1 * np.std(found.value) + 5 * np.std(found.value) / np.sqrt(400)


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "scatter"), [(4, 0.0), (4, 0.02), (24, 0.02)])
def test_errors_over_groups_cover_two_thirds(groups, scatter):
    """Each grammar has a crossing of its own; strings of one grammar share it. The truth is the mean over grammars."""
    grid = jnp.linspace(0.05, 0.95, 17)
    truth = 0.4

    def repeat(key):
        shift_key, data_key, locate_key = jax.random.split(key, 3)
        shifts = scatter * jax.random.normal(shift_key, (groups, 1, 1), float)
        retention = jax.nn.sigmoid(-8 * (grid[None, None] - truth - shifts))
        data = jax.random.bernoulli(data_key, retention, (groups, 128, 17)).astype(float)
        return locate_transition(locate_key, grid, data, num_resamples=200)

    share, _ = covered(repeat, truth)
    assert 0.63 < share < 0.74


def test_halfway_lies_between_certainty_and_chance():
    assert halfway(8) == (1 + 1 / 8) / 2


def test_a_comparison_adds_errors_in_squares():
    rows = jax.random.bernoulli(jax.random.key(2), 1 - TIMES[None], (200, 11)).astype(float)
    comparison = compare_transitions(jax.random.key(3), TIMES, (1 - TIMES)[None], rows, 0.5)
    assert abs(comparison.predicted.value - 0.5) <= comparison.predicted.stderr
    together = np.hypot(comparison.predicted.stderr, comparison.measured.stderr)
    np.testing.assert_allclose(comparison.difference.stderr, together, rtol=1e-12)
    assert abs(comparison.difference.value) < 5 * comparison.difference.stderr


def test_what_paired_curves_have_in_common_cancels_in_their_difference():
    """A curve and itself, later by one noise level: paired, only the grid's error is left of the difference."""
    times = jnp.linspace(-1.0, 2.0, 31)
    rows = jax.random.bernoulli(jax.random.key(4), jax.nn.sigmoid(-5 * (times - 0.5))[None], (200, 31)).astype(float)
    near, far = rows[:, 1:], rows[:, :-1]
    paired, unpaired = (
        compare_transitions(key, times[1:], near, far, 0.5, paired=together).difference
        for key, together in zip(jax.random.split(jax.random.key(5)), (True, False), strict=True)
    )
    assert 3 * paired.stderr < unpaired.stderr
    np.testing.assert_allclose(paired.value, times[1] - times[0], atol=1e-6)
    with pytest.raises(ValueError, match=r"\(200, 31\) and \(199, 31\)"):
        compare_transitions(jax.random.key(6), times, rows, rows[1:], 0.5, paired=True)


def test_mean_estimate_has_the_standard_error_of_the_mean():
    samples = jnp.array([[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]])
    found = mean_estimate(samples)
    student = 1.3213  # t of 2 degrees of freedom at .8413: t / sqrt(2 + t^2) = 2 * .8413 - 1
    np.testing.assert_allclose(student / np.sqrt(2 + student**2), 0.6827, atol=1e-4)
    np.testing.assert_allclose(found.value, [3.0, 4.0])
    np.testing.assert_allclose(found.stderr, [student * 2.0 / np.sqrt(3), 0.0], rtol=1e-4)
    assert jnp.isnan(mean_estimate(samples[:1]).stderr).all()


def test_groups_are_drawn_whole():
    """Rows that all agree within a group carry no more than the groups do; a single group has its rows' error."""
    means = jax.random.normal(jax.random.key(9), (6, 1, 2), float)
    same = jnp.broadcast_to(means, (6, 50, 2))
    of_groups, of_means = (
        bootstrap_groups(jax.random.key(1), same, lambda mean: mean),
        bootstrap(jax.random.key(1), means[:, 0], lambda mean: mean),
    )
    np.testing.assert_allclose(of_groups.stderr, of_means.stderr, rtol=1e-12)
    single = jax.random.normal(jax.random.key(3), (1, 200, 2), float)
    found = bootstrap_groups(jax.random.key(2), single, lambda mean: mean, num_resamples=2000)
    np.testing.assert_allclose(found.stderr, single[0].std(0, ddof=1) / 200**0.5, rtol=0.08)


def test_retention_counts_the_nodes_that_both_trees_share():
    rhm = RandomHierarchyModel.from_rules([np.array([[[0, 1]], [[1, 0]]])] * 3)
    word = jnp.array([0, 1, 1, 0, 1, 0, 0, 1], jnp.int32)  # the tree of 0
    other = jnp.array([1, 0, 0, 1, 0, 1, 1, 0], jnp.int32)  # the tree of 1
    torn = word.at[4:6].set(1)  # its third pair is no rule's
    before, after = jnp.stack([word, word, word, torn]), jnp.stack([word, other, torn, torn])
    found = jax.jit(level_retention)(rhm, before, after)
    np.testing.assert_allclose(found, [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0.5, 0.75, 7 / 8], [0, 0.5, 0.75, 1]])


def test_strings_that_no_tree_explains_are_not_valid():
    rhm = RandomHierarchyModel.from_rules([np.array([[[0, 1]], [[1, 0]]])] * 3)
    word = jnp.array([0, 1, 1, 0, 1, 0, 0, 1], jnp.int32)
    strings = jnp.stack([word, 1 - word, word.at[4:6].set(1)])
    np.testing.assert_array_equal(jax.jit(is_valid)(rhm, strings), [True, True, False])


def test_retention_among_valid_rows_is_a_ratio_of_means():
    """Its error is that of repeated experiments."""
    keys = jax.random.split(jax.random.key(6), 400)

    def repeat(key):
        valid_key, kept_key = jax.random.split(key)
        valid = jax.random.bernoulli(valid_key, 0.6, (500,))
        kept = (valid & jax.random.bernoulli(kept_key, 0.3, (500,))).astype(float)
        found = mean_estimate(among_valid(kept, valid))
        return found.value, found.stderr, jnp.sum(kept) / jnp.sum(valid, dtype=float)

    value, stderr, ratio = jax.jit(jax.vmap(repeat))(keys)
    np.testing.assert_allclose(value, ratio, rtol=1e-12)
    np.testing.assert_allclose(np.mean(stderr), np.std(ratio, ddof=1), rtol=5 / np.sqrt(2 * 400))


def test_a_crossing_that_is_not_there_is_nan_where_every_nan_is_an_error():
    with jax.debug_nans(True):
        found = locate_transition(jax.random.key(0), [0.1, 0.5, 0.9], jnp.full((4, 3), 0.9), 0.5)
    assert jnp.isnan(found.value)


def test_strings_that_are_no_pairs_are_refused():
    rhm = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(7))
    with pytest.raises(ValueError, match=r"before has shape \(3, 4\), after \(2, 4\): give pairs"):
        inspect.unwrap(level_retention)(rhm, jnp.zeros((3, 4), jnp.int32), jnp.zeros((2, 4), jnp.int32))


def test_retention_of_the_class_of_a_filtered_grammar_is_nan():
    rhm = RandomHierarchyModel(3, 2, 2, 3, filter_level=2, key=jax.random.key(7))
    string = rhm.sample(jax.random.key(8), 1).x
    np.testing.assert_array_equal(jax.jit(level_retention)(rhm, string, string), [[np.nan, np.nan, 1, 1]])
