"""Learning of rules: expected counts by enumeration, rising likelihood, rules found, descent, classes that are new."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import recovery
from hierarchical import RandomHierarchyModel
from theory import learning, log_evidence, marginals, rule_counts

KEY = np.array([0, 0], np.uint32)  # an old-style key, which may be used again
SIZES = (8, 4, 2, 3)
THRESHOLD = 8 * 4**3  # P* = n m^L


def grammar(seed):
    return RandomHierarchyModel(*SIZES, key=jax.random.key(seed))


@pytest.fixture(scope="module")
def soft():
    """Two classes, three symbols of the middle level, two of the leaves: probabilities at random."""
    return learning.SoftGrammar.random(jax.random.key(0), (3, 2), (2, 2), 2)


def enumerated(grammar, string):
    """p(string) and the expected counts, from all trees."""
    (top, bottom), probs = map(np.asarray, grammar.tuples), [np.exp(rows) for rows in grammar.log_probs]
    total, counts = 0.0, [np.zeros_like(rows) for rows in probs]
    for root, first in itertools.product(range(len(probs[0])), range(len(top))):
        for below in itertools.product(range(len(bottom)), repeat=2):
            if [*bottom[below[0]], *bottom[below[1]]] != list(string):
                continue
            weight = probs[0][root, first] / len(probs[0])
            for symbol, k in zip(top[first], below, strict=True):
                weight *= probs[1][symbol, k]
            total += weight
            counts[0][root, first] += weight
            for symbol, k in zip(top[first], below, strict=True):
                counts[1][symbol, k] += weight
    return np.log(total), [table / total for table in counts]


def test_expected_counts_equal_enumeration(soft):
    strings = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    counts = soft.expected_counts(strings)
    logs = soft.log_evidence(strings)
    for number, string in enumerate(strings):
        log, truth = enumerated(soft, string)
        assert logs[number] == pytest.approx(log, abs=1e-10)
        for table, want in zip(counts, truth, strict=True):
            np.testing.assert_allclose(table[number], want, atol=1e-10)


@pytest.mark.parametrize("formulation", ["segments", pytest.param("levels", marks=pytest.mark.slow)])
def test_the_fast_formulation_is_right_where_tuples_have_several_parents(formulation):
    """More rules than tuples: lists of the rules that produce a symbol are longer than distinct tuples allow."""
    soft = learning.SoftGrammar.random(jax.random.key(1), 4, (2, 2, 2))
    evidence = jax.random.normal(jax.random.key(2), (5, 8, 4))
    for ask in (rule_counts, marginals):
        fast = ask(soft.model, evidence, formulation=formulation)
        for table, want in zip(fast, ask(soft.model, evidence, formulation="logarithmic"), strict=True):
            np.testing.assert_allclose(table, want, atol=1e-10)
    few = RandomHierarchyModel.of_tables(  # four rules and four tuples, of which two have two parents
        [jnp.array([[[0, 0], [0, 1]], [[0, 0], [0, 1]]], jnp.int32)] * 2, [None, None], (2, 2, 2)
    )
    evidence = jax.random.normal(jax.random.key(3), (64, 4, 2))
    for table, want in zip(
        rule_counts(few, evidence, formulation=formulation),
        rule_counts(few, evidence, formulation="logarithmic"),
        strict=True,
    ):
        np.testing.assert_allclose(table, want, atol=1e-10)


def test_a_grammar_made_soft_gives_strings_the_same_probability():
    rhm = RandomHierarchyModel(3, 2, 2, 2, zipf_exponent=0.5, key=jax.random.key(0))
    x = rhm.sample(jax.random.key(1), (6,)).x
    soft = learning.SoftGrammar.from_model(rhm)
    np.testing.assert_allclose(soft.log_evidence(x), log_evidence(rhm, soft.evidence(x, None)), atol=1e-10)
    assert learning.rules_found(soft, rhm).tolist() == [1, 1]


def test_labels_are_evidence_of_the_root(soft):
    strings = np.array([[0, 1, 1, 0], [0, 0, 0, 1]])
    both = jnp.stack([soft.log_evidence(strings, [label, label]) for label in (0, 1)])
    np.testing.assert_allclose(jax.nn.logsumexp(both, 0), soft.log_evidence(strings), atol=1e-10)
    counts = soft.expected_counts(strings, [0, 1])
    np.testing.assert_allclose(counts[0].sum(-1), np.eye(2), atol=1e-10)


def test_every_step_raises_the_likelihood():
    x = grammar(1).sample(jax.random.key(1), (300,)).x
    start = learning.SoftGrammar.random(jax.random.key(2), 8, (2, 2, 2))
    learned = learning.learn(start, x, num_steps=30, pseudocount=0.0)
    assert np.all(np.diff(learned.log_likelihood) > 0)
    assert not learned.converged
    for rows in learned.grammar.log_probs:
        np.testing.assert_allclose(jnp.exp(rows).sum(1), 1, atol=1e-10)


def learned_from(rhm, seed, n, num_steps=200):
    x = rhm.sample(jax.random.key(seed), (n,)).x
    found = recovery.recover(jax.random.key(seed), x, (2, 2, 2), 8)
    start = learning.SoftGrammar.from_recovered(found, 8)
    return x, start, learning.learn(start, x, num_steps=num_steps)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_all_rules_are_learned_from_strings_alone(seed):
    """(8, 4, 2, 3) from 4 P* strings; held-out loss within 1% of the entropy."""
    rhm = grammar(seed)
    _, _, learned = learned_from(rhm, 100 + seed, 4 * THRESHOLD)
    assert learning.rules_found(learned.grammar, rhm).tolist() == [1, 1, 1]
    held = -learned.grammar.log_evidence(rhm.sample(jax.random.key(200 + seed), (4096,)).x)
    stderr = float(jnp.std(held)) / 4096**0.5
    assert float(jnp.mean(held)) - rhm.entropy < 0.01 * rhm.entropy - 2 * stderr


def test_the_slope_is_the_difference_of_counts(soft):
    """By weights whose softmax the probabilities are: n(a, x) - n(a) p(x | a)."""
    strings = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])

    def likelihood(weights):
        rows = tuple(map(jax.nn.log_softmax, weights))
        return jnp.sum(learning.SoftGrammar(soft.tuples, rows, 2).log_evidence(strings))

    slope = jax.grad(likelihood)(soft.log_probs)
    counts = [table.sum(0) for table in soft.expected_counts(strings)]
    for got, n, rows in zip(slope, counts, soft.log_probs, strict=True):
        np.testing.assert_allclose(got, n - n.sum(1, keepdims=True) * jnp.exp(rows), atol=1e-10)


def test_descent_ends_where_expectation_does(soft):
    strings = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    learned = learning.learn(soft, strings, num_steps=300, pseudocount=0.0)
    descended = learning.descend_likelihood(soft, strings, num_steps=300)
    assert descended.log_likelihood[-1] == pytest.approx(float(jnp.nanmax(learned.log_likelihood)), abs=0.01)


@pytest.mark.parametrize("n", [16, pytest.param(64, marks=pytest.mark.slow)])
def test_classes_that_are_new_are_learned_when_their_rules_were_seen(n):
    """Lower levels known: n m rules, and after P strings each was seen with probability 1 - (1 - 1 / n m)^P."""
    rhm = grammar(4)
    known = learning.SoftGrammar.from_model(rhm)
    even = jnp.full_like(known.log_probs[0], -np.log(64))
    start = learning.SoftGrammar(known.tuples, (even, *known.log_probs[1:]), 8)
    shares = []
    for seed in range(6):
        sample = rhm.sample(jax.random.key(seed), (n,))
        labels = np.asarray(sample.latent.levels[0])[:, 0]
        learned = learning.learn(start, sample.x, labels, levels=(0,), pseudocount=0.0, num_steps=3)
        used = {
            (label, *pair) for label, pair in zip(labels, np.asarray(sample.latent.levels[1]).tolist(), strict=True)
        }
        probs = np.exp(learned.grammar.log_probs[0])[np.unique(labels)]
        assert int(np.sum(probs > 0)) == len(used)
        shares.append(len(used) / 32)
        for old, new in zip(start.log_probs[1:], learned.grammar.log_probs[1:], strict=True):
            np.testing.assert_array_equal(old, new)
    assert abs(np.mean(shares) - (1 - (1 - 1 / 32) ** n)) < 5 * np.std(shares, ddof=1) / 6**0.5


def test_names_of_symbols_do_not_matter():
    rhm = grammar(0)
    names = [np.arange(8), *(np.random.default_rng(i).permutation(8) for i in (1, 2)), np.arange(8)]
    rules = [names[level + 1][np.asarray(table)][np.argsort(names[level])] for level, table in enumerate(rhm.rules)]
    other = learning.SoftGrammar.from_model(RandomHierarchyModel.from_rules(rules))
    assert learning.rules_found(other, rhm).tolist() == [1, 1, 1]
    assert learning.rules_found(learning.SoftGrammar.from_model(grammar(1)), rhm).mean() < 0.6


def recovered():
    """Three clusters of pairs, as if strings had given them."""
    rng = np.random.default_rng(0)
    return recovery.Recovered({}, {level: rng.integers(0, 3, (50, 2**level)) for level in (1, 2)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda soft: soft.log_evidence([[0, 1, 3, 0]]), "symbol 3"),
        (lambda soft: soft.log_evidence([[0, 1, 1, 0]], [2]), "labels"),
        (lambda soft: learning.learn(soft, [0, 1, 1, 0]), "give .n, leaves."),
        (lambda soft: learning.learn(soft, [[0, 1, 1, 0]], levels=(2,)), r"give some of 0 .. 1"),
        (lambda soft: learning.learn(soft, [[0, 1, 1, 0]], pseudocount=-1.0), "neither is negative"),
        (lambda soft: learning.SoftGrammar.random(KEY, 300, (2, 2)), "tuples are more than 65536"),
        (lambda soft: learning.SoftGrammar.random(KEY, 3, (2, 2), concentration=0.0), "must be positive"),
        (lambda soft: learning.rules_found(soft, grammar(0)), "make them agree"),
        (lambda soft: learning.SoftGrammar.random(KEY, (3, 2, 2), (2, 2)), "has 3 entries for depth = 2"),
        (lambda soft: learning.SoftGrammar.from_recovered(recovered(), 3, smoothing=1.5), "give a share, 0 to 1"),
        (lambda soft: learning.SoftGrammar.from_recovered(recovered(), 2), "clusters beyond"),
        (
            lambda soft: learning.descend_likelihood(
                learning.SoftGrammar.from_model(RandomHierarchyModel(3, 2, 2, 2, key=KEY)), [[0, 1, 1, 0]]
            ),
            "would leave it there",
        ),
        (
            lambda soft: learning.learn(
                learning.SoftGrammar.from_model(RandomHierarchyModel(8, 2, 2, 2, key=KEY)),
                np.arange(32).reshape(8, 4) // 4,
            ),
            "smooth it",
        ),
    ],
)
def test_what_is_refused(soft, call, message):
    with pytest.raises(ValueError, match=message):
        call(soft)
