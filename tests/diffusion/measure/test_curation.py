"""Curation: n-gram weights beside exact log ratios, effective numbers, balance by recovered clusters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import balanced, effective_number, ngram_log_weights, recovery
from hierarchical import RandomHierarchyModel
from theory import hard_evidence, log_evidence

pytestmark = pytest.mark.optimised

KEY = np.array([0, 0], np.uint32)  # an old-style key, which may be used again


def shares(seed, level, lengths, by_place=False):
    """R^2 of weights with the exact ln p_target / p_source, (8, 4, 2, 3) with other rule probabilities at a level."""
    source = RandomHierarchyModel(8, 4, 2, 3, key=jax.random.key(seed))
    shifted = jnp.broadcast_to(jnp.log(jnp.array([0.7, 0.1, 0.1, 0.1])), (8, 4))
    target = RandomHierarchyModel.from_rules(source.rules, [shifted if at == level else None for at in range(3)])
    a, b, x = (law.sample(jax.random.key(k), (65_536,)).x for k, law in enumerate((target, source, source), 1))
    evidence = hard_evidence(x[:4096], 8)
    exact = np.asarray(log_evidence(target, evidence) - log_evidence(source, evidence))
    return [np.corrcoef(exact, ngram_log_weights(x[:4096], a, b, n, 8, by_place=by_place))[0, 1] ** 2 for n in lengths]


@pytest.mark.slow
def test_rules_that_shift_are_seen_by_ngrams_as_long_as_what_they_produce():
    """Rules of the last level produce 2 leaves, those above 4."""
    single, pair = shares(0, 2, (1, 2))
    assert single < 0.5 < 0.99 < pair


def test_rules_that_shift_above_are_seen_by_ngrams_as_long_as_what_they_produce():
    single, pair, four = shares(0, 1, (1, 2, 4))
    assert single < pair < 0.6 < 0.95 < four


@pytest.mark.slow
@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize(("level", "lengths"), [(2, (1, 2)), (1, (1, 2, 4)), (0, (1, 2, 4))])
def test_table_of_shares(level, lengths, by_place, capsys):
    """The table of docs/curation.md, six grammars."""
    rows = np.array([shares(seed, level, lengths, by_place) for seed in range(6)])
    mean, error = rows.mean(0), rows.std(0, ddof=1) / 6**0.5
    with capsys.disabled():
        print(f"\nlevel {level}, n = {lengths}, by place {by_place}: {mean.round(3)} +- {error.round(3)}")
    assert np.all(np.diff(mean) > 0)
    assert level == 0 or mean[-1] > 0.95


def test_equal_counts_weigh_nothing_and_weights_are_sums_over_ngrams():
    x = np.array([[0, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_allclose(ngram_log_weights(x, x, x[::-1], 2, 2), 0, atol=1e-12)
    target, source = np.array([[0, 1, 0, 1]]), np.array([[1, 1, 0, 0]])
    weights = ngram_log_weights([[0, 1, 1, 1]], target, source, 2, 2, pseudocount=1.0)
    assert weights[0] == pytest.approx(np.log(3 / 1) + np.log(1 / 2))
    placed = ngram_log_weights([[0, 1, 1, 1]], target, source, 2, 2, by_place=True, pseudocount=1.0)
    assert placed[0] == pytest.approx(np.log(2 / 1) + np.log(1 / 1))


def test_effective_numbers():
    probs = np.array([0.5, 0.25, 0.125, 0.125])
    groups = np.random.default_rng(0).choice(4, 20_000, p=probs)
    found = effective_number(groups.astype(np.int8) + 3)
    assert abs(found.value - np.exp(-np.sum(probs * np.log(probs)))) < 5 * found.stderr
    assert effective_number([0, 0, 0]).value == 1


def test_balance_by_recovered_clusters_brings_rare_concepts_back():
    """Rules of the root by Zipf's law: 32 concepts, few of them common; clusters of strings are found unlabelled."""
    rhm = RandomHierarchyModel(8, 4, 2, 3, zipf_exponent=[0.5, None, None], key=jax.random.key(3))
    sample = rhm.sample(jax.random.key(4), (8192,))
    pairs = np.asarray(sample.latent.levels[1])
    concept = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    probs = np.exp(rhm.rule_log_probs[0][0])
    before = effective_number(concept)
    assert abs(before.value - 8 * np.exp(-np.sum(probs * np.log(probs)))) < 5 * before.stderr
    found = recovery.recover(KEY, sample.x, (2, 2, 2), 8)
    groups = np.unique(found.levels[1], axis=0, return_inverse=True)[1].reshape(-1)
    chosen = np.asarray(balanced(KEY, groups, 8192))
    after = effective_number(concept[chosen])
    assert before.value < 26 < 31.5 < after.value < 32.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ngram_log_weights(x, x, x, 3, 2), "n = 3 does not divide"),
        (lambda x: ngram_log_weights(x, x, x, 2, 1), "num_symbols = 1: give 0 .. 0"),
        (lambda x: ngram_log_weights(x, x[:, :2], x, 2, 2), "one length"),
        (lambda x: ngram_log_weights(x, x, x, 2, 2, pseudocount=0.0), "must be positive"),
        (lambda x: ngram_log_weights(x, x, x, 4, 256), "lower n"),
        (lambda x: effective_number(x), "give .data,. whole numbers"),
        (lambda x: balanced(KEY, [-1, 0], 3), "0 or more"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([[0, 1, 1, 0]]))
