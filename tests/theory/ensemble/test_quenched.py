"""Quenched density evolution against enumeration and against belief propagation on the same grammar."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, UniformNoise
from hierarchical import RandomHierarchyModel
from tests.grammars import CASES, enumerated
from theory import density_evolution, quenched
from theory.inference import belief_propagation

TIMES = jnp.array([0.3, 0.5, 0.7])


def replicated(rhm, process, count=12, population=256):
    """The class overlap of independent populations: mean and standard error."""
    keys = jax.random.split(jax.random.key(1), count)
    curves = np.array([quenched.overlap(k, rhm, process, TIMES, population=population)[0] for k in keys])
    return curves.mean(0), curves.std(0, ddof=1) / math.sqrt(count)


def exact_overlap(derivations, num_classes, t):
    """E P(class | masked string) of the true class: all strings and all 2^4 masks, from the list of derivations."""
    strings = np.array([levels[-1] for _, levels in derivations])
    classes = np.array([levels[0][0] for _, levels in derivations])
    weights = np.array([weight for weight, _ in derivations])
    total = 0.0
    for mask in itertools.product([False, True], repeat=strings.shape[1]):
        shown = ~np.array(mask)
        agree = (strings[:, None, shown] == strings[None, :, shown]).all(-1)
        same_class = classes[:, None] == classes[None]
        belief = (agree * same_class) @ weights / (agree @ weights)
        total += np.prod(np.where(mask, t, 1 - t)) * (weights @ belief)
    return total


@pytest.mark.parametrize("name", ["uniform", "zipf", "shared"])
def test_class_overlap_matches_enumeration(name):
    rhm, derivations = enumerated(name)
    mean, stderr = replicated(rhm, Masking(rhm.num_symbols))
    truth = [exact_overlap(derivations, rhm.num_classes, float(t)) for t in TIMES]
    assert np.all(abs(mean - truth) < 5 * stderr)


@pytest.mark.slow  # by default enumeration says it
@pytest.mark.parametrize("process", [Masking(8), UniformNoise(8)])
def test_class_overlap_is_that_of_belief_propagation_on_one_grammar(process):
    rhm = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(3))

    @eqx.filter_jit
    def beliefs(key):
        data_key, noise_key = jax.random.split(key)
        datum = rhm.sample(data_key)

        def at(t):
            evidence = process.log_likelihood(process.corrupt(noise_key, datum.x, t), t)
            return belief_propagation.marginals(rhm, evidence)[0][0, datum.latent.levels[0][0]]

        return jax.vmap(at)(TIMES)

    exact = np.array(jax.jit(jax.vmap(beliefs))(jax.random.split(jax.random.key(0), 4000)))
    mean, stderr = replicated(rhm, process)
    assert np.all(abs(mean - exact.mean(0)) < 5 * np.hypot(stderr, exact.std(0) / math.sqrt(len(exact))))


@pytest.mark.slow
def test_grammars_average_to_their_own_beliefs_not_to_one_another():
    """Two grammars of one size have different thresholds; the annealed one is a single number for all."""
    found = [
        quenched.critical_noise(
            jax.random.key(9), RandomHierarchyModel(8, 3, 2, 8, key=jax.random.key(seed)), Masking(8), population=128
        )
        for seed in range(5)
    ]
    values, errors = np.array([x.value for x in found]), np.array([x.stderr for x in found])
    assert values.std(ddof=1) > 2 * np.median(errors)
    assert np.all((values > 0.3) & (values < 0.6))


@pytest.mark.slow
def test_clean_leaves_are_certain_and_destroyed_ones_ignorant():
    rhm = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(3))
    curve = quenched.overlap(jax.random.key(0), rhm, Masking(8), jnp.array([0.0, 1.0]), population=64)
    np.testing.assert_allclose(curve[:, 0], 1, atol=1e-12)
    np.testing.assert_allclose(curve[0, 1], 1 / 8, atol=1e-12)


def test_a_crossing_lies_between_the_times_that_hold_it():
    rhm = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(3))
    found = quenched.critical_noise(jax.random.key(2), rhm, Masking(8), population=256)
    assert math.isclose(found.resolution, 1 / 9**3)
    np.testing.assert_allclose(found.value, found.crossings.mean())
    around = jnp.array([float(found.crossings[0]) - found.resolution, float(found.crossings[0]) + found.resolution])
    first = jax.random.split(jax.random.key(2), 4)[0]
    before, after = quenched.overlap(first, rhm, Masking(8), around, population=256)[0]
    assert before > 0.5 > after


def test_times_may_be_one_a_list_or_whole_numbers():
    """Of given random numbers a time's curve does not depend on which others are asked for; masking all leaves 1/3."""
    rhm = RandomHierarchyModel(**CASES["uniform"], key=jax.random.key(0))
    curves = quenched.overlap(jax.random.PRNGKey(1), rhm, Masking(3), [[0.3, 1]], population=16)
    assert curves.shape == (3, 1, 2)
    one = jax.jit(lambda t: quenched.overlap(jax.random.key(1), rhm, Masking(3), t, population=16))(0.3)
    np.testing.assert_allclose(curves[:, 0, 0], one, rtol=1e-12)
    np.testing.assert_allclose(quenched.overlap(jax.random.key(1), rhm, Masking(3), 1, population=16), 1 / 3)


def test_what_does_not_fit_is_refused():
    rhm, filtered = (RandomHierarchyModel(**CASES[name], key=jax.random.key(0)) for name in ("uniform", "filtered-1"))
    key = jax.random.key(0)
    for grammar, process, times, message in (
        (filtered, Masking(3), TIMES, "filter_level = 1"),
        (rhm, Masking(4), TIMES, "noises 4 symbols, the grammar has 3"),
        (rhm, Masking(3), jnp.array([0.2, 1.5]), r"noise_times = 1\.5: give finite numbers from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            quenched.overlap(key, grammar, process, times)
    with pytest.raises(ValueError, match="at least 2 replicas"):
        quenched.critical_noise(key, rhm, Masking(3), replicas=1)


@pytest.mark.slow
def test_growth_through_masks_is_smaller_than_mean_field_says():
    """PHYSICS-hierarchy, corrections: 1.182(6) at (8, 3, 2), 1.278(8) at (32, 8, 2); mean field 1.224 and 1.442."""
    for grammar, t, growth, error in (((8, 3, 2), 0.438, 1.182, 0.006), ((32, 8, 2), 0.273, 1.278, 0.008)):
        found = density_evolution.growth_per_level(jax.random.key(0), *grammar, Masking(grammar[0]), t)
        assert abs(found.value - growth) < 5 * math.hypot(float(found.stderr), error)
