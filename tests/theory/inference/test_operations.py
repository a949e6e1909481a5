"""Most likely trees, entropies and rule counts: against enumeration, the draws of the grammar, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.grammars import CASES, enumerated
from tests.references import enumeration
from theory import log_evidence, most_likely, posterior_entropy, rule_counts


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
