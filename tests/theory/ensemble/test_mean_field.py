"""Annealed mean field against closed forms, full averages over rule tables, and the tables of PHYSICS-hierarchy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references import enumerate_messages
from theory import mean_field

GRAMMARS = [(32, 8, 2), (16, 4, 2), (8, 8, 3), (16, 8, 4)]
TINY = [(2, 1, 2), (2, 2, 2), (3, 1, 2), (2, 1, 3)]
BINARY = [(v, m) for v in (4, 8, 32, 256) for m in range(2, v) if 2 * m - 1 < v]

# (v, m, s), p*, eps*, F'(p*), nu: PHYSICS-hierarchy, section 4; solved there independently of this code
SECTION_4 = [
    ((32, 8, 2), 0.29167, 0.73118, 1.44225, 1.8928),
    ((32, 4, 2), 0.10714, 0.92166, 1.44225, 1.8928),
    ((16, 4, 2), 0.25, 0.80, 1.36, 2.2542),
    ((8, 3, 2), 0.40, 0.68571, 1.22449, 3.4225),
    ((8, 2, 2), 0.16667, 0.95238, 1.10204, 7.134),
    ((256, 16, 2), 0.0625, 0.94118, 1.77855, 1.2038),
    ((8, 8, 3), 0.35355, 0.7388, 1.56527, 2.4519),
    ((10, 10, 3), 0.31623, 0.75975, 1.66027, 2.167),
    ((16, 8, 4), 0.09792, 0.96222, 1.66946, 2.705),
]


@pytest.mark.parametrize("grammar", TINY)
@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_up_map_is_the_average_over_all_rule_tables(grammar, p):
    truth = enumerate_messages.annealed_up(p, *grammar)
    np.testing.assert_allclose(mean_field.up_map(jnp.array(p), *grammar), truth, rtol=1e-12)


@pytest.mark.parametrize("grammar", TINY)
@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_down_map_is_the_average_over_all_rule_tables(grammar, p):
    truth = enumerate_messages.annealed_down(0.7, p, *grammar)
    np.testing.assert_allclose(mean_field.down_map(jnp.array(0.7), jnp.array(p), *grammar), truth, rtol=1e-12)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_certainty_and_ignorance_are_fixed(grammar):
    ends = jnp.array([1.0, 1 / grammar[0]])
    np.testing.assert_allclose(mean_field.up_map(ends, *grammar), ends, rtol=1e-14)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_up_slope_is_the_derivative_of_up_map(grammar):
    p = jnp.linspace(0.01, 1, 9)
    derivative = jax.vmap(jax.grad(lambda x: mean_field.up_map(x, *grammar)))(p)
    np.testing.assert_allclose(mean_field.up_slope(p, *grammar), derivative, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_maps_keep_the_dtype_of_their_argument(dtype):
    p = jnp.linspace(0, 1, 5, dtype=dtype)
    assert mean_field.up_map(p, 8, 3, 2).dtype == dtype
    assert mean_field.down_map(p, p, 8, 3, 2).dtype == dtype
    assert mean_field.level_beliefs(p, 3, 8, 3, 2).marginal.dtype == dtype


def test_maps_hold_for_tuples_beyond_32_bits():
    # 256^4 - 1 other tuples; at p = 1 siblings and children decide alone
    np.testing.assert_allclose(mean_field.up_map(jnp.float32(1.0), 256, 1000, 4), 1.0)
    assert math.isfinite(mean_field.critical_noise(256, 1000, 4))


def test_ignorance_sent_down_prefers_symbols_that_rules_use():
    # section 4: .0341 against 1/v = .03125 at (32, 8, 2)
    q = mean_field.down_map(jnp.array(1 / 32), jnp.array(1 / 32), 32, 8, 2)
    assert abs(float(q) - 0.0341) < 5e-5


def test_fixed_point_has_its_closed_form_for_two_children():
    found = [mean_field.fixed_point(v, m, 2) for v, m in BINARY]
    np.testing.assert_allclose(found, [(m - 1) / (v - m) for v, m in BINARY], rtol=1e-12)


def test_slope_at_the_fixed_point_has_its_closed_form_for_two_children():
    found = [mean_field.up_slope(mean_field.fixed_point(v, m, 2), v, m, 2) for v, m in BINARY]
    closed = [2 * (m - 1) * (v - m) * (v + 1) / (m * (v - 1) ** 2) for v, m in BINARY]
    np.testing.assert_allclose(found, closed, rtol=1e-12)


def test_critical_noise_has_its_closed_form_for_two_children():
    found = [mean_field.critical_noise(v, m, 2) for v, m in BINARY]
    np.testing.assert_allclose(found, [v * (v - 2 * m + 1) / ((v - 1) * (v - m)) for v, m in BINARY], rtol=1e-10)


@pytest.mark.parametrize("v", [2, 5, 8, 9])
def test_transition_exists_exactly_when_the_closed_form_says_so(v):
    expected = [2 * m - 1 < v and m >= 2 for m in range(1, v + 1)]
    assert [mean_field.transition_exists(v, m, 2) for m in range(1, v + 1)] == expected


@pytest.mark.parametrize(("grammar", "p", "eps", "slope", "nu"), SECTION_4)
def test_critical_values_match_section_4(grammar, p, eps, slope, nu):
    found = mean_field.fixed_point(*grammar)
    assert abs(found - p) < 6e-6
    assert abs(mean_field.critical_noise(*grammar) - eps) < 6e-6
    assert abs(mean_field.up_slope(found, *grammar) - slope) < 6e-6
    assert abs(mean_field.correlation_exponent(*grammar) - nu) < 6e-4


@pytest.mark.parametrize("grammar", [(8, 8, 3), (10, 10, 3), (16, 8, 4), (3, 4, 4), (256, 1000, 4)])
def test_fixed_point_is_fixed_and_repels(grammar):
    p = mean_field.fixed_point(*grammar)
    assert 1 / grammar[0] < p < 1
    assert abs(mean_field.up_map(p, *grammar) - p) < 1e-14
    assert mean_field.up_slope(p, *grammar) > 1


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_critical_noise_separates_class_kept_from_class_lost(grammar):
    noise = mean_field.critical_noise(*grammar) + jnp.array([-0.01, 0.01])
    root = mean_field.level_beliefs(noise, 60, *grammar).marginal[0]
    np.testing.assert_allclose(root, [1, 1 / grammar[0]], atol=1e-6)


def test_few_synonyms_never_lose_the_class():
    assert mean_field.critical_noise(8, 2, 3) == math.inf  # section 4's example
    root = mean_field.level_beliefs(jnp.array([0.99]), 60, 8, 2, 3).marginal[0]
    np.testing.assert_allclose(root, 1, atol=1e-6)


def test_any_noise_loses_the_class_when_all_tuples_are_used():
    assert mean_field.critical_noise(8, 8, 2) == 0
    root = mean_field.level_beliefs(jnp.array([1e-3]), 60, 8, 8, 2).marginal[0]
    np.testing.assert_allclose(root, 1 / 8, atol=1e-6)


def test_beliefs_of_clean_leaves_are_certain_at_every_level():
    beliefs = mean_field.level_beliefs(jnp.array(0.0), 4, 8, 3, 2)
    np.testing.assert_allclose(beliefs.upward, 1)
    np.testing.assert_allclose(beliefs.marginal, 1)


def test_leaf_marginal_of_one_level_is_bayes_rule():
    v, m, s, eps = 8, 3, 2, 0.4
    p = 1 - eps + eps / v
    q = mean_field.down_map(jnp.array(1 / v), jnp.array(p), v, m, s)
    bayes = p * q / (p * q + (1 - p) * (1 - q) / (v - 1))
    np.testing.assert_allclose(mean_field.level_beliefs(jnp.array(eps), 1, v, m, s).marginal[-1], bayes, rtol=1e-12)


def test_level_beliefs_match_section_4():
    # mean-field columns of the table at (32, 8, 2), L = 9
    noise = jnp.array([0.50, 0.60, 0.70, 0.73, 0.76, 0.80, 0.90])
    marginal = mean_field.level_beliefs(noise, 9, 32, 8, 2).marginal
    np.testing.assert_allclose(marginal[0], [0.996, 0.988, 0.855, 0.323, 0.036, 0.031, 0.031], atol=6e-4)
    np.testing.assert_allclose(marginal[-1], [0.981, 0.960, 0.891, 0.790, 0.607, 0.442, 0.186], atol=6e-4)


def test_level_beliefs_run_from_root_to_leaves():
    beliefs = mean_field.level_beliefs(jnp.array([0.2, 0.3]), 5, 8, 3, 2)
    assert beliefs.marginal.shape == (6, 2)
    np.testing.assert_allclose(beliefs.downward[0], 1 / 8)
    np.testing.assert_allclose(beliefs.upward[-1], 1 - jnp.array([0.2, 0.3]) * 7 / 8)


def test_exponent_is_the_growth_of_the_correlation_length():
    # a departure d from p* reaches a fixed size after ln(1/d) / ln F' levels, that is at length s^levels ~ d^-nu
    grammar = (16, 4, 2)

    def levels(departure):
        p, count = mean_field.fixed_point(*grammar) + departure, 0
        while p < 0.6:
            p, count = mean_field.up_map(p, *grammar), count + 1
        return count

    nu = (levels(1e-12) - levels(1e-4)) * math.log(2) / math.log(1e8)
    assert abs(nu - mean_field.correlation_exponent(*grammar)) < math.log(2) / math.log(1e8)  # one level


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ((1, 1, 2), "num_symbols = 1"),
        ((8, 2, 1), "branching = 1"),
        ((8, 9, 2), "num_synonyms = 9: 8 symbols have between 1 and 8"),
        ((8, 0, 2), "num_synonyms = 0"),
        ((8, 2.5, 2), r"num_synonyms = 2\.5: give a whole number, 1 or above"),
        ((8.5, 3, 2), r"num_symbols = 8\.5: give a whole number"),
        ((8, 3, np.float64(2.5)), r"branching = 2\.5: give a whole number"),
        ((8, True, 2), "num_synonyms = True: give a real number"),
    ],
)
def test_impossible_grammars_are_refused(grammar, message):
    for function in (mean_field.critical_noise, mean_field.transition_exists, mean_field.correlation_exponent):
        with pytest.raises(ValueError, match=message):
            function(*grammar)
    with pytest.raises(ValueError, match=message):
        mean_field.up_map(jnp.array(0.5), *grammar)


@pytest.mark.parametrize(("grammar", "message"), [((8, 2, 3), "never lost; raise"), ((8, 5, 2), "always lost; lower")])
def test_no_transition_has_no_fixed_point(grammar, message):
    for function in (mean_field.fixed_point, mean_field.correlation_exponent):
        with pytest.raises(ValueError, match=message):
            function(*grammar)


def test_a_hierarchy_without_levels_is_refused():
    for depth in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"depth = {depth}: give a "):
            mean_field.level_beliefs(jnp.array(0.1), depth, 8, 3, 2)


def test_whole_numbers_lists_and_numpy_are_noise_and_beliefs():
    """eps = 0 keeps everything, eps = 1 leaves what no evidence leaves; one formula in NumPy is the truth between."""
    ends = jax.jit(lambda noise: mean_field.level_beliefs(noise, 2, 8, 3, 2).marginal)(jnp.array([0.0, 1.0]))
    for noise in ([0, 1], np.array([0, 1]), jnp.array([0, 1])):
        np.testing.assert_allclose(mean_field.level_beliefs(noise, np.int64(2), 8, 3, 2).marginal, ends, rtol=1e-12)
    np.testing.assert_allclose(mean_field.level_beliefs(1, 2, 8, 3, 2).marginal, ends[:, 1], rtol=1e-12)
    np.testing.assert_allclose(ends[:, 0], 1)
    np.testing.assert_allclose(ends[0, 1], 1 / 8)

    p = np.array([0.1, 0.2])
    f, g, true_tuple = 23 / 63, 2 / 63, p**2
    truth = (true_tuple + g * (1 - true_tuple)) / (true_tuple + f * (1 - true_tuple))
    np.testing.assert_allclose(mean_field.up_map(p.tolist(), 8, 3, 2), truth, rtol=1e-12)
    np.testing.assert_allclose(
        mean_field.marginal_belief([0.5, 0.2], [0.5, 0.5], 3), [0.25 / 0.375, 0.1 / 0.3], rtol=1e-12
    )
    np.testing.assert_allclose(mean_field.up_slope(1, 8, 3, 2), 2 * 21 / 63, rtol=1e-12)
    assert isinstance(mean_field.up_map(0.1, 8, 3, 2), float)  # double precision whatever JAX is set to


def test_numbers_that_are_no_noise_or_belief_are_refused_by_name():
    grammar = (8, 3, 2)
    for function, message in (
        (
            lambda: mean_field.level_beliefs(jnp.array([0.5, -1.0]), 3, *grammar),
            r"noise = -1\.0: give finite numbers from 0 to 1",
        ),
        (lambda: mean_field.up_map(1.5, *grammar), "p = 1.5 is outside"),
        (lambda: mean_field.up_slope(jnp.array(jnp.nan), *grammar), "p = nan: give finite numbers from 0 to 1"),
        (lambda: mean_field.down_map(-0.1, 0.5, *grammar), "q = -0.1 is outside"),
        (lambda: mean_field.marginal_belief(jnp.array(0.5), jnp.array(2.0), 8), r"q = 2\.0: give finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            function()


def test_numbers_that_are_no_noise_are_marked_in_a_compiled_program():
    beliefs = jax.jit(lambda noise: mean_field.level_beliefs(noise, 3, 8, 3, 2).marginal)(jnp.array([0.5, -1.0]))
    assert jnp.isfinite(beliefs[:, 0]).all() and jnp.isnan(beliefs[:, 1]).all()
