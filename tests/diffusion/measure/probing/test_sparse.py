"""Sparse autoencoders find dictionaries that were planted; features are matched one to one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import TrainConfig
from diffusion.measure import mean_estimate, probing
from hierarchical import RandomHierarchyModel, sample_trees

pytestmark = pytest.mark.optimised

WIDTH, DATA = 128, 8192


def planted(level, grammar=0, smallest=0.5):
    """x = sum over the nodes of a level of a D[node, symbol]: x, D, and which are on.

    Sizes a are uniform in [smallest, 2 - smallest].
    """
    rhm = RandomHierarchyModel(8, 4, 2, 3, key=jax.random.key(10 * grammar))
    symbols = np.asarray(sample_trees(jax.random.key(10 * grammar + 1), rhm, DATA).levels[level])
    rng, nodes = np.random.default_rng([level, grammar] if grammar else level), np.arange(symbols.shape[1])
    dictionary = rng.normal(size=(len(nodes), 8, WIDTH))
    dictionary /= np.linalg.norm(dictionary, axis=-1, keepdims=True)
    sizes = rng.uniform(smallest, 2 - smallest, symbols.shape)[..., None]
    x = (sizes * dictionary[nodes, symbols]).sum(1)
    return x, dictionary.reshape(-1, WIDTH), np.eye(8, dtype=bool)[symbols].reshape(DATA, -1)


def matched_f1(level, grammar, smallest=0.5):
    x, dictionary, on = planted(level, grammar, smallest)
    found = probing.train_sparse(jax.random.key(2 + grammar), x, len(dictionary), 2**level)
    return float(probing.best_match(found.features(x), on).mean_f1.value)


@pytest.mark.parametrize("level", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)])
def test_planted_features_are_found_at_every_level(level):
    x, dictionary, on = planted(level)
    found = probing.train_sparse(jax.random.key(2), x, len(dictionary), 2**level)
    features = found.features(x)
    assert int((features > 0).sum(1).max()) <= 2**level
    match = probing.best_match(features, on)
    assert match.mean_f1.value >= 0.95
    assert probing.matched_cosine(found.dictionary, dictionary).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("level", range(4))
def test_planted_features_of_five_grammars_are_found(level):
    """The head of `sparse.py` quotes these means."""
    found = mean_estimate([matched_f1(level, grammar) for grammar in range(5)])
    print(f"level {level}: F1 {found.value:.4f} +- {found.stderr:.4f}")
    assert found.value >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("level", range(3))
def test_planted_features_of_equal_sizes_are_harder_to_find(level):
    """Sums of the features of two nodes explain them as well."""
    found = mean_estimate([matched_f1(level, grammar, 1.0) for grammar in range(3)])
    print(f"level {level}, equal sizes: F1 {found.value:.4f} +- {found.stderr:.4f}")
    assert found.value < 0.95


def test_a_trained_dictionary_has_unit_directions_and_rebuilds_by_them():
    x = np.eye(4, dtype=np.float32)[np.arange(64) % 4] * (1 + np.arange(64) % 3)[:, None]
    how = TrainConfig(steps=100, batch_size=16, learning_rate=1e-2, weight_decay=0.0, ema_decay=0.9)
    found = probing.train_sparse(np.array([0, 3], np.uint32), x, np.int64(4), 1, how)
    np.testing.assert_allclose(np.linalg.norm(found.dictionary, axis=1), 1, rtol=1e-5)
    rebuilt = eqx.filter_jit(found.rebuilt)(x.reshape(8, 8, 4))
    np.testing.assert_allclose(rebuilt, found.features(x).reshape(8, 8, 4) @ found.dictionary, atol=1e-5)


def test_matching_finds_the_permutation_and_the_errors_of_features():
    """Feature 3 - l is latent l; the second latent's feature misses a quarter of it, F1 = 2 (3/4) / (7/4)."""
    rng = np.random.default_rng(0)
    on = rng.integers(0, 2, (4000, 3))
    features = np.concatenate([rng.uniform(0, 1, (4000, 1)), on[:, ::-1] * 2.5], 1)
    features[:, 2] *= rng.uniform(size=4000) > 0.25
    found = probing.best_match(features, on)
    assert found.feature.tolist() == [3, 2, 1]
    np.testing.assert_array_equal(found.f1.value[jnp.array([0, 2])], 1)
    assert abs(found.f1.value[1] - 6 / 7) < 5 * found.f1.stderr[1]
    assert found.mean_f1.value == pytest.approx(float(found.f1.value.mean()))
    missed, total = on[2000:, 1] * (features[2000:, 2] == 0), on[2000:, 1].sum()
    np.testing.assert_allclose(found.f1.value[1], 2 * (total - missed.sum()) / (2 * total - missed.sum()))


def test_a_latent_without_a_feature_has_none():
    on = np.arange(40)[:, None] % 4 == np.arange(3)
    found = probing.best_match(on[:, 1:2], on)
    assert found.feature.tolist() == [-1, 0, -1] and found.f1.value.tolist() == [0, 1, 0]
    np.testing.assert_allclose(probing.matched_cosine([[0, -2.0, 0]], np.eye(3)), [0, 1, 0])


def test_wrong_tables_are_refused_by_name():
    for features, latents, message in (
        (np.ones((4, 2)), np.ones((5, 2)), r"features \(4, 2\), latents \(5, 2\)"),
        (np.ones((4, 2)), np.full((4, 2), 2), "a latent is neither 0 nor 1"),
    ):
        with pytest.raises(ValueError, match=message):
            probing.best_match(features, latents)
    with pytest.raises(ValueError, match="a direction is 0 or not finite"):
        probing.matched_cosine(np.zeros((1, 2)), np.ones((1, 2)))
    key, x = jax.random.key(0), np.ones((4, 2))
    for states, features, active, message in (
        (np.ones(4), 2, 1, r"states have shape \(4,\)"),
        (x, 2, 3, "num_active = 3 of num_features = 2: lower it"),
        (x * [[1], [0], [0], [0]], 2, 1, "1 states are not 0, num_features = 2"),
        (x, 0, 1, "num_features = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            probing.train_sparse(key, states, features, active)
