"""Entropies of levels against the list of all derivations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import UniformNoise
from tests.grammars import enumerated
from tests.references import enumeration
from theory import NoisedStrings
from theory.ensemble.information import level_entropies


def enumerated_entropies(derivations, evidence):
    """H(symbols of a level | y) of every level, from the posterior weight of every derivation."""
    _, weights = enumeration.posterior(derivations, evidence)
    entropies = []
    for level in range(len(derivations[0][1])):
        joint = {}
        for weight, (_, levels) in zip(weights, derivations, strict=True):
            joint[levels[level]] = joint.get(levels[level], 0.0) + weight
        probs = np.array([p for p in joint.values() if p > 0])
        entropies.append(-np.sum(probs * np.log(probs)))
    return entropies


@pytest.mark.parametrize(
    "name", ["classes", "per-level", "shared", *(pytest.param(n, marks=pytest.mark.slow) for n in ("uniform", "zipf"))]
)
def test_entropies_of_levels_match_enumeration(name):
    rhm, derivations = enumerated(name)
    evidence = 2 * jax.random.normal(jax.random.key(0), (3, rhm.num_leaves, rhm.num_symbols), float)
    evidence = evidence.at[0].set(0.0)
    shown = jnp.asarray(derivations[1][1][-1][:2])
    hard = jnp.where(jnp.arange(rhm.num_symbols)[None] == shown[:, None], 0.0, -jnp.inf)
    evidence = evidence.at[1, :2].set(hard)  # two leaves are seen, the others only felt
    found = level_entropies(rhm, evidence)
    truth = [enumerated_entropies(derivations, np.asarray(datum)) for datum in evidence]
    np.testing.assert_allclose(found, truth, atol=1e-10)
    np.testing.assert_allclose(found[0, -1], rhm.entropy, rtol=1e-10)  # without evidence, of the whole string


def test_a_whole_string_leaves_no_entropy_and_an_impossible_one_has_none():
    rhm, derivations = enumerated("uniform")
    strings = {levels[-1] for _, levels in derivations}
    foreign = next(s for s in np.ndindex(*(3,) * 4) if s not in strings)
    both = np.array([derivations[0][1][-1], foreign])
    evidence = jnp.where(jnp.arange(3)[None, None] == both[..., None], 0.0, -jnp.inf)
    found = level_entropies(rhm, evidence)
    np.testing.assert_allclose(found[0], 0, atol=1e-12)
    assert jnp.isnan(found[1]).all()


def test_whole_numbers_lists_noised_strings_and_any_batch_axes_are_evidence():
    rhm, derivations = enumerated("uniform")
    whole = np.random.default_rng(0).integers(-3, 1, (2, 3, rhm.num_leaves, rhm.num_symbols))
    truth = [[enumerated_entropies(derivations, datum) for datum in row] for row in whole]
    for found in (level_entropies(rhm, whole), level_entropies(rhm, whole.astype(np.int8).tolist())):
        np.testing.assert_allclose(found, truth, atol=1e-10)
    np.testing.assert_allclose(jax.jit(level_entropies)(rhm, jnp.asarray(whole[0, 0])), truth[0][0], atol=1e-10)
    shown = np.zeros((rhm.num_leaves, rhm.num_symbols), bool)
    truth = enumerated_entropies(derivations, shown.astype(float))
    np.testing.assert_allclose(level_entropies(rhm, shown), truth, atol=1e-10)

    process, x_t, t = UniformNoise(rhm.num_symbols), np.array([[0, 1, 2, 2], [2, 2, 1, 0]]), np.array([0.3, 0.6])
    written = np.log((1 - t)[:, None, None] * np.eye(3)[x_t] + t[:, None, None] / 3)
    truth = [enumerated_entropies(derivations, datum) for datum in written]
    np.testing.assert_allclose(level_entropies(rhm, NoisedStrings(process, x_t, t)), truth, atol=1e-10)


def test_evidence_that_is_none_is_refused():
    rhm, _ = enumerated("uniform")
    with pytest.raises(ValueError, match="the evidence holds NaN"):
        level_entropies(rhm, np.full((1, 4, 3), np.nan))
    with pytest.raises(ValueError, match=r"evidence must be \(..., leaves, symbols\) = \(..., 4, 3\), got \(2, 4\)"):
        level_entropies(rhm, np.zeros((2, 4)))


def test_a_filtered_grammar_is_refused():
    with pytest.raises(ValueError, match="filter_level = 1"):
        level_entropies(enumerated("filtered-1")[0], jnp.zeros((1, 4, 3)))
