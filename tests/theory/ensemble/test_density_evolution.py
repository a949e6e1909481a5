"""Density evolution against enumeration, exact limits, inference on drawn grammars, and PHYSICS-hierarchy."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import EpsilonBelief, GaussianProcess, Masking, UniformNoise, VarianceExploding
from hierarchical import RandomHierarchyModel
from tests.references import enumerate_messages, population
from theory import density_evolution, mean_field
from theory.inference import belief_propagation

# mask t*, uniform keep-probability a*, Gaussian SNR*: PHYSICS-hierarchy, section 5, each quoted to +-.01
SECTION_5 = {
    (32, 8, 2): (0.264, 0.855, 6.69),
    (16, 4, 2): (0.524, 0.692, 3.61),
    (8, 3, 2): (0.439, 0.774, 3.51),
    (8, 2, 2): (0.916, 0.277, 0.565),
}


def averaged_overlap(seeds, *arguments, **options):
    """Mean of `overlap` over independent populations, and its standard error."""
    curves = np.array([density_evolution.overlap(jax.random.key(i), *arguments, **options) for i in seeds])
    return curves.mean(0), curves.std(0, ddof=1) / math.sqrt(len(curves))


@functools.cache
def enumerated_overlaps(grammar, leaves, t, depth):
    laws = leaves(grammar[0], t)
    overlaps = [enumerate_messages.overlap(laws)]
    for _ in range(depth):
        laws = enumerate_messages.parent_laws(laws, *grammar)
        overlaps.append(enumerate_messages.overlap(laws))
    return overlaps


# (2, 1, 4) draws its rules sparsely, the others as the prefix of a permutation
SIZES = [((2, 1, 2), 3), ((2, 2, 2), 2), ((3, 1, 2), 1), ((2, 1, 4), 1)]


@pytest.mark.parametrize(
    ("process", "leaves", "grammar", "depth"),
    [
        pytest.param(process, leaves, *sizes, marks=() if sizes in kept else pytest.mark.slow)
        for process, leaves, kept in (
            (Masking, enumerate_messages.mask_leaves, SIZES[:2]),
            (UniformNoise, enumerate_messages.replaced_leaves, SIZES[3:]),
        )
        for sizes in SIZES
    ],
)
def test_overlap_matches_enumeration(grammar, depth, process, leaves):
    times = [0.2, 0.6]
    mean, stderr = averaged_overlap(range(8), *grammar, process(grammar[0]), jnp.array(times), depth, 1024, 128)
    truth = np.transpose([enumerated_overlaps(grammar, leaves, t, depth) for t in times])
    assert np.all(abs(mean - truth) < 5 * stderr)


@pytest.mark.slow
def test_overlap_matches_belief_propagation_on_drawn_grammars():
    # a grammar shares its rules among all nodes of a level, density evolution does not: equal within the errors here
    times, depth, process = jnp.array([0.2, 0.4, 0.6]), 4, Masking(8)

    @eqx.filter_jit
    @jax.vmap
    def root_belief(key):
        rules_key, datum_key, noise_key = jax.random.split(key, 3)
        rhm = RandomHierarchyModel(num_symbols=8, num_synonyms=3, branching=2, depth=depth, key=rules_key)
        datum = rhm.sample(datum_key)

        def at(t):
            evidence = process.log_likelihood(process.corrupt(noise_key, datum.x, t), t)
            return belief_propagation.marginals(rhm, evidence)[0][0, datum.latent.levels[0][0]]

        return jax.vmap(at)(times)

    exact = np.array(root_belief(jax.random.split(jax.random.key(0), 4000)))
    exact_error = exact.std(0) / math.sqrt(len(exact))
    mean, stderr = averaged_overlap(range(8), 8, 3, 2, process, times, depth, 1024, 128)
    assert np.all(abs(mean[-1] - exact.mean(0)) < 5 * np.hypot(stderr[-1], exact_error))


@pytest.mark.parametrize("process", [Masking(8), pytest.param(UniformNoise(8), marks=pytest.mark.slow)])
def test_clean_leaves_are_certain_and_destroyed_ones_ignorant_at_every_level(process):
    curve = density_evolution.overlap(jax.random.key(0), 8, 3, 2, process, jnp.array([0.0, 1.0]), 4, 64, 16)
    np.testing.assert_allclose(curve[:, 0], 1, atol=1e-12)
    np.testing.assert_allclose(curve[:, 1], 1 / 8, atol=1e-12)


def test_leaf_overlap_has_its_closed_form():
    t, v = np.array([0.1, 0.5, 0.9]), 8
    mean, stderr = averaged_overlap(range(8), v, 3, 2, Masking(v), jnp.array(t), 0, 512, 16)
    assert np.all(abs(mean[0] - (1 - t + t / v)) < 5 * stderr[0])

    right = 1 - t + t / v  # a symbol shown right or wrong is believed as much as it is likely
    mean, stderr = averaged_overlap(range(8), v, 3, 2, UniformNoise(v), jnp.array(t), 0, 512, 16)
    assert np.all(abs(mean[0] - (right**2 + (1 - right) ** 2 / (v - 1))) < 5 * stderr[0])


def test_gaussian_overlap_depends_on_the_signal_to_noise_ratio_alone():
    times = jnp.array([0.05, 0.2, 1.0])
    preserving, exploding = (
        density_evolution.overlap(jax.random.key(0), 8, 3, 2, process, times, 3, 256, 16)
        for process in (GaussianProcess(8), GaussianProcess(8, VarianceExploding()))
    )
    np.testing.assert_allclose(preserving, exploding, rtol=1e-9)


@pytest.mark.slow
def test_overlap_falls_with_noise():
    curve = density_evolution.overlap(jax.random.key(0), 8, 3, 2, Masking(8), jnp.linspace(0.1, 0.9, 9), 6, 1024, 128)
    assert np.all(np.diff(curve, axis=1) < 0)


@pytest.mark.slow
def test_sharing_rule_tables_does_not_move_the_overlap():
    arguments = (8, 3, 2, Masking(8), jnp.array([0.3, 0.44, 0.6]), 4, 512)
    shared, shared_error = averaged_overlap(range(24), *arguments, rule_sets=16)
    own, own_error = averaged_overlap(range(100, 112), *arguments, rule_sets=512)
    assert np.all(abs(shared - own) < 5 * np.hypot(shared_error, own_error))


@pytest.mark.slow
def test_epsilon_process_follows_mean_field():
    # mean field averages numerator and normaliser apart: close, not equal (section 4 finds .02 between the two)
    noise = jnp.array([0.5, 0.7, 0.73, 0.76, 0.9])
    mean, _ = averaged_overlap(range(3), 32, 8, 2, EpsilonBelief(32), noise, 9, 1024, 64)
    np.testing.assert_allclose(mean[-1], mean_field.level_beliefs(noise, 9, 32, 8, 2).upward[0], atol=0.05)


@pytest.mark.slow
def test_finite_depth_overlap_matches_section_5():
    # the printed numbers come from few grammars; 150 grammars x 32 data of exact inference at L = 5 give
    # .919 .710 .418 .191 with errors .003 - .005, which is what the fifth row is held to
    mean, stderr = averaged_overlap(range(6), 32, 8, 2, Masking(32), jnp.array([0.1, 0.2, 0.3, 0.4]), 9, 2048, 64)
    np.testing.assert_allclose(mean[5], [0.93, 0.75, 0.40, 0.16], atol=0.06)
    np.testing.assert_allclose(mean[7], [0.98, 0.81, 0.36, 0.09], atol=0.06)
    np.testing.assert_allclose(mean[9], [1.00, 0.95, 0.34, 0.04], atol=0.06)
    exact, exact_error = np.array([0.919, 0.710, 0.418, 0.191]), np.array([0.003, 0.005, 0.005, 0.0035])
    assert np.all(abs(mean[5] - exact) < 5 * np.hypot(stderr[5], exact_error))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_overlap_keeps_the_dtype_of_its_times(dtype):
    times = jnp.array([0.2, 0.5], dtype)
    assert density_evolution.overlap(jax.random.key(0), 8, 3, 2, Masking(8), times, 1, 64, 16).dtype == dtype


def test_single_precision_is_enough():
    arguments = (8, 3, 2, GaussianProcess(8))
    single, single_error = averaged_overlap(range(6), *arguments, jnp.array([0.03, 0.12], jnp.float32), 12, 512, 32)
    double, double_error = averaged_overlap(range(6, 12), *arguments, jnp.array([0.03, 0.12]), 12, 512, 32)
    assert np.all(abs(single - double) <= 5 * np.hypot(single_error, double_error) + 1e-6)


@pytest.fixture(scope="module")
def small_search():
    return density_evolution.critical_noise(
        jax.random.key(0), 8, 3, 2, Masking(8), levels=20, population=512, rule_sets=64, refinements=3
    )


def test_critical_noise_of_masks_with_a_small_population(small_search):
    assert abs(small_search.value - SECTION_5[8, 3, 2][0]) < 5 * small_search.stderr + 0.01  # the table's own error
    assert small_search.stderr < 0.02


def test_critical_noise_shows_the_curves_that_it_stands_on(small_search):
    found = small_search
    np.testing.assert_allclose(found.value, found.crossings.mean())
    scatter, cell = np.var(found.crossings, ddof=1) / 8, found.resolution**2 / 12  # a crossing is uniform in its cell
    np.testing.assert_allclose(found.stderr, math.sqrt(scatter + cell))
    assert found.noise_times.shape == found.overlaps.shape == (8, 24)
    assert np.all(np.diff(found.noise_times) >= 0)
    assert math.isclose(found.resolution, 1 / 9**3)
    for crossing, times, overlaps in zip(found.crossings, found.noise_times, found.overlaps, strict=True):
        below, above = times < crossing, times > crossing  # the nearest times tried hold the crossing between them
        assert overlaps[below][-1] > 0.5 > overlaps[above][0]
        assert math.isclose(times[above][0] - times[below][-1], found.resolution, rel_tol=1e-5)


@pytest.mark.parametrize(("grammar", "expected"), [((4, 4, 2), 0), pytest.param((8, 1, 2), 1, marks=pytest.mark.slow)])
def test_grammars_without_transition_give_the_end_of_the_range(grammar, expected):
    found = density_evolution.critical_noise(
        jax.random.key(0), *grammar, Masking(grammar[0]), levels=30, population=256, rule_sets=16, replicas=2
    )
    assert abs(found.value - expected) < 0.02


def test_levels_default_to_a_thousandfold_growth():
    # F'(p*) = 1.44225 at (32, 8, 2), 1.10204 at (8, 2, 2): section 4
    assert density_evolution._deep(32, 8, 2) == math.ceil(math.log(1000) / math.log(1.44225))
    assert density_evolution._deep(8, 2, 2) == math.ceil(math.log(1000) / math.log(1.10204))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 1}, "at least 2 replicas"),
        ({"points": 0}, "1 point"),
        ({"refinements": 0}, "1 refinement"),
        ({"population": 100, "rule_sets": 64}, "population = 100 is not a positive multiple of rule_sets = 64"),
        ({"levels": -1}, "depth = -1"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        density_evolution.critical_noise(jax.random.key(0), 8, 3, 2, Masking(8), **options)


def test_a_grammar_without_transition_asks_for_the_number_of_levels():
    with pytest.raises(ValueError, match="never lost"):
        density_evolution.critical_noise(jax.random.key(0), 8, 2, 3, Masking(8))


def test_times_may_be_one_a_list_or_whole_numbers():
    """Of given random numbers a time's curve does not depend on which others are asked for; masking all leaves 1/8."""
    options = (2, 64, 8)
    curves = density_evolution.overlap(jax.random.PRNGKey(1), 8, 3, 2, Masking(8), [[0.3, 1]], *options)
    assert curves.shape == (3, 1, 2)
    one = jax.jit(lambda t: density_evolution.overlap(jax.random.key(1), 8, 3, 2, Masking(8), t, *options))(0.3)
    np.testing.assert_allclose(curves[:, 0, 0], one, rtol=1e-12)
    np.testing.assert_allclose(density_evolution.overlap(jax.random.key(1), 8, 3, 2, Masking(8), 1, *options), 1 / 8)


def test_another_alphabet_is_refused():
    with pytest.raises(ValueError, match="noises 4 symbols, the grammar has 8"):
        density_evolution.overlap(jax.random.key(0), 8, 3, 2, Masking(4), jnp.array([0.1]), 1)


def test_ambiguous_rules_are_refused():
    with pytest.raises(ValueError, match="num_synonyms = 9"):
        density_evolution.overlap(jax.random.key(0), 8, 9, 2, Masking(8), jnp.array([0.1]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("grammar", SECTION_5)
def test_mask_thresholds_match_section_5(grammar):
    found = density_evolution.critical_noise(jax.random.key(0), *grammar, Masking(grammar[0]))
    assert abs(found.value - SECTION_5[grammar][0]) < 0.01 + 3 * found.stderr
    assert found.stderr < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("grammar", SECTION_5)
def test_uniform_noise_thresholds_match_section_5(grammar):
    found = density_evolution.critical_noise(jax.random.key(0), *grammar, UniformNoise(grammar[0]))
    assert abs(1 - found.value - SECTION_5[grammar][1]) < 0.01 + 3 * found.stderr
    assert found.stderr < 0.005


def signal_to_noise(found):
    """SNR* and its standard error, from the OU time: d SNR / dt = -2 SNR (1 + SNR)."""
    snr = 1 / math.expm1(2 * float(found.value))
    return snr, 2 * snr * (1 + snr) * float(found.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("grammar", [(32, 8, 2), (16, 4, 2)])
def test_gaussian_thresholds_match_section_5(grammar):
    found = density_evolution.critical_noise(jax.random.key(0), *grammar, GaussianProcess(grammar[0]))
    snr, error = signal_to_noise(found)
    assert abs(snr - SECTION_5[grammar][2]) < 0.02 * snr + 3 * error
    assert error < 0.02 * snr


# Section 5 prints 3.51 and .565 for these two; the plain program below loses the class at the first in most populations
# and keeps it at .52 already, so that they are held to it instead.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("grammar", "depth", "lost", "kept"), [((8, 3, 2), 40, 3.4, 3.95), ((8, 2, 2), 90, 0.42, 0.50)]
)
def test_gaussian_thresholds_lie_where_a_plain_population_tips(grammar, depth, lost, kept):
    v, m, _ = grammar
    for snr, fate in ((lost, 1 / v), (kept, 1.0)):
        rng = np.random.default_rng(0)
        curve = population.overlaps(rng, v, m, population.gaussian_leaves, snr, 20_000, depth)
        assert abs(curve[-1] - fate) < 0.2

    found = density_evolution.critical_noise(jax.random.key(0), *grammar, GaussianProcess(v))
    snr, error = signal_to_noise(found)
    assert lost - 3 * error < snr < kept + 3 * error
    assert error < 0.05 * snr


@pytest.mark.parametrize("depth", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_gaussian_overlap_matches_a_plain_population(depth):
    snrs = (3.2, 4.2)
    plain = np.array(
        [
            [
                population.overlaps(np.random.default_rng(k), 8, 3, population.gaussian_leaves, x, 2000, depth)[-1]
                for x in snrs
            ]
            for k in range(8)
        ]
    )
    times = jnp.array([0.5 * math.log1p(1 / x) for x in snrs])
    mean, stderr = averaged_overlap(range(8), 8, 3, 2, GaussianProcess(8), times, depth, 1024, 128)
    assert np.all(abs(mean[-1] - plain.mean(0)) < 5 * np.hypot(stderr[-1], plain.std(0, ddof=1) / math.sqrt(8)))
