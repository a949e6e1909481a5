"""Operations on grammars with evidence, and on two grammars: against enumeration, limits and gradients."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import RandomHierarchyModel
from tests.grammars import CASES, enumerated
from tests.references import enumeration
from theory import (
    count_derivations,
    cross_entropy,
    kl_divergence,
    log_evidence,
    most_likely,
    posterior_entropy,
    rule_counts,
    top_k,
)


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """A grammar and its derivations; evidence (soft, partly hard, impossible), and the posteriors of the first two."""
    rhm, data = enumerated(request.param)
    evidence = np.random.default_rng(0).normal(size=(3, rhm.num_leaves, rhm.num_symbols)) * 2
    shown = data[len(data) // 2][1][-1][0]
    evidence[1, 0] = np.where(np.arange(rhm.num_symbols) == shown, 0, -np.inf)
    evidence[2] = -np.inf
    return rhm, data, evidence, [enumeration.posterior(data, datum) for datum in evidence[:2]]


def test_the_entropy_is_that_of_the_listed_posterior(case):
    rhm, _, evidence, posteriors = case
    got = posterior_entropy(rhm, evidence)
    want = [-(w[w > 0] * np.log(w[w > 0])).sum() for _, w in posteriors]
    np.testing.assert_allclose(got[:2], want, rtol=1e-10)
    assert np.isnan(got[2])
    np.testing.assert_allclose(posterior_entropy(rhm, np.zeros_like(evidence[0])), rhm.entropy, rtol=1e-10)


def test_the_most_likely_tree_is_the_largest_of_the_list(case):
    rhm, data, evidence, posteriors = case
    got = most_likely(rhm, evidence)
    for n, (log_sum, weights) in enumerate(posteriors):
        best = int(np.argmax(weights))
        np.testing.assert_allclose(got.log_prob[n], log_sum + np.log(weights[best]), rtol=1e-10)
        for level, listed in zip(got.derivation.levels, data[best][1], strict=True):
            np.testing.assert_array_equal(level[n], np.array(listed, int))
    assert got.log_prob[2] == -jnp.inf
    assert all((level[2] == -1).all() and not valid[2].any()
               for level, valid in zip(got.derivation.levels, got.derivation.valid, strict=True))  # fmt: skip


def test_counts_are_the_gradient_of_the_evidence_by_rule_log_probs(case):
    rhm, _, evidence, _ = case
    counts = rule_counts(rhm, evidence)
    nodes = [0 if level < rhm.filter_level else rhm.num_nodes[level] for level in range(rhm.depth)]
    for table, number in zip(counts, nodes, strict=True):
        np.testing.assert_allclose(table.sum((1, 2)), [number, number, 0], atol=1e-12)
    if rhm.filter_level:
        return
    log_probs = tuple(rhm.log_prob_of_rules(level) for level in range(rhm.depth))

    def total(log_probs):
        tilted = object.__new__(type(rhm))
        for name in ("rules", "vocabulary", "filter_level"):
            object.__setattr__(tilted, name, getattr(rhm, name))
        object.__setattr__(tilted, "rule_log_probs", log_probs)
        return log_evidence(tilted, evidence[0])

    for table, slope in zip(counts, jax.grad(total)(log_probs), strict=True):
        np.testing.assert_allclose(table[0], slope, atol=1e-10)


def test_the_k_most_likely_trees_are_the_first_of_the_sorted_list(case):
    rhm, data, evidence, posteriors = case
    k = 5
    if rhm.filter_level:
        with pytest.raises(ValueError, match=f"filter_level = {rhm.filter_level}: a filtered grammar"):
            top_k(rhm, evidence, k)
        return
    got = top_k(rhm, evidence, k)
    for n, (log_sum, weights) in enumerate(posteriors):
        order = np.argsort(-weights, kind="stable")[:k]
        np.testing.assert_allclose(got.log_prob[n], log_sum + np.log(weights[order]), rtol=1e-10)
        for rank, place in enumerate(order):
            for level, listed in zip(got.derivation.levels, data[place][1], strict=True):
                np.testing.assert_array_equal(level[n, rank], np.array(listed, int))
    first = most_likely(rhm, evidence)
    np.testing.assert_array_equal(got.log_prob[:, 0], first.log_prob)
    jax.tree.map(lambda all_k, one: np.testing.assert_array_equal(all_k[:, 0], one), got.derivation, first.derivation)


def test_trees_that_do_not_exist_are_marked():
    """Hard evidence leaves one tree, and equally likely ones come in the rules' order."""
    rhm, data = enumerated("uniform")
    shown = np.where(np.eye(3, dtype=bool)[list(data[3][1][-1])], 0.0, -np.inf)
    got = top_k(rhm, shown, 3)
    assert np.isfinite(got.log_prob).tolist() == [True, False, False]
    assert (got.derivation.leaves[1:] == -1).all() and not got.derivation.valid[0][1:].any()
    equal = top_k(rhm, np.zeros((4, 3)), len(data) + 1)
    np.testing.assert_allclose(equal.log_prob[:-1], -rhm.entropy, rtol=1e-12)
    assert equal.log_prob[-1] == -np.inf
    np.testing.assert_array_equal(equal.derivation.leaves[:-1], [levels[-1] for _, levels in data])
    with pytest.raises(ValueError, match="k = 0: give 1 or more"):
        top_k(rhm, shown, 0)


def test_as_many_strings_are_left_as_are_listed(case):
    rhm, data, evidence, _ = case
    if rhm.filter_level:
        with pytest.raises(ValueError, match=f"filter_level = {rhm.filter_level}: a filtered grammar"):
            count_derivations(rhm, evidence)
        return
    sites = np.arange(rhm.num_leaves)
    left = [sum(np.isfinite(datum[sites, levels[-1]].sum()) for _, levels in data) for datum in evidence[:2]]
    assert 0 < left[1] < left[0] == len(data)
    np.testing.assert_allclose(count_derivations(rhm, evidence), [*np.log(left), -np.inf], rtol=1e-12)


def with_other_probabilities(rhm):
    rng = np.random.default_rng(2)
    drawn = [rng.dirichlet(np.ones(table.shape[1]), table.shape[0]) for table in rhm.rules]
    log_probs = tuple(jnp.log(table) for table in drawn)
    return eqx.tree_at(lambda r: r.rule_log_probs, rhm, log_probs, is_leaf=lambda leaf: leaf is None)


def test_divergences_are_those_of_the_listed_trees(case):
    """The same rules with other probabilities: both lists of trees are in the same order."""
    p, data, *_ = case
    if p.filter_level:
        with pytest.raises(ValueError, match=r"filter_level = \d of p"):
            kl_divergence(p, p)
        return
    q = with_other_probabilities(p)
    probs = [np.exp(np.asarray(q.log_prob_of_rules(level))) for level in range(q.depth)]
    listed = enumeration.derivations([np.asarray(table) for table in q.rules], probs)
    weights = np.array([[one[0], other[0]] for one, other in zip(data, listed, strict=True)]).T
    assert all(one[1] == other[1] for one, other in zip(data, listed, strict=True))
    np.testing.assert_allclose(cross_entropy(p, q), -(weights[0] * np.log(weights[1])).sum(), rtol=1e-10)
    np.testing.assert_allclose(kl_divergence(p, q), (weights[0] * np.log(weights[0] / weights[1])).sum(), rtol=1e-10)
    np.testing.assert_allclose(cross_entropy(p, p), p.entropy, rtol=1e-12)
    assert abs(kl_divergence(p, p)) < 1e-12


def test_a_rule_that_the_other_grammar_lacks_makes_them_infinite():
    p, q = (RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(seed)) for seed in (0, 1))
    assert kl_divergence(p, q) == cross_entropy(p, q) == math.inf
    sure = [jnp.log(jnp.array([[1.0, 0.0]] * 3))] * 2  # of p only rules that q has too
    one, two = (RandomHierarchyModel.from_rules(p.rules, probs) for probs in (sure, None))
    np.testing.assert_allclose(jax.jit(kl_divergence)(one, two), 3 * math.log(2), rtol=1e-12)
    assert jax.jit(kl_divergence)(two, one) == math.inf
    slope = jax.grad(lambda probs: kl_divergence(eqx.tree_at(lambda r: r.rule_log_probs, one, probs), two))(tuple(sure))
    assert not any(np.isnan(table).any() for table in slope)
    with pytest.raises(ValueError, match=r"vocabulary: \(3, 3, 3\) of p, .* of q: give grammars of one shape"):
        kl_divergence(p, RandomHierarchyModel(3, 2, 2, 3, key=jax.random.key(0), num_classes=3))


@pytest.mark.parametrize("function", [most_likely, posterior_entropy, rule_counts])
def test_batch_axes_and_jit_change_nothing(function):
    rhm, _ = enumerated("zipf")
    evidence = np.random.default_rng(1).normal(size=(2, 2, rhm.num_leaves, rhm.num_symbols))
    whole, inside = function(rhm, evidence), jax.jit(lambda x: function(rhm, x))(evidence)
    for leaf, same, one in zip(*map(jax.tree.leaves, (whole, inside, function(rhm, evidence[1, 0]))), strict=True):
        np.testing.assert_allclose(leaf, same, rtol=1e-12)
        np.testing.assert_allclose(leaf[1, 0], one, rtol=1e-12)
    with pytest.raises(ValueError, match="the evidence holds NaN"):
        function(rhm, evidence * np.nan)
