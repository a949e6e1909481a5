"""What `test_laws` does not say: operations on two grammars, ties, kinds of evidence, and what is refused."""

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
    cross_entropy,
    hard_evidence,
    kl_divergence,
    local_marginals,
    log_evidence,
    marginals,
    most_likely,
    posterior_entropy,
    rule_counts,
    top_k,
)


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
    for k in (0, True):
        with pytest.raises(ValueError, match=f"k = {k}: give a whole number, 1 or above"):
            top_k(rhm, shown, k)


def test_equal_trees_are_ordered_by_their_first_children():
    """Ties of unequal parts: at the same rule of the root, the tree with the more likely first child comes first."""
    rhm = RandomHierarchyModel(2, 2, 2, 2, key=jax.random.key(0))
    unequal = [jnp.log(jnp.array([[0.5, 0.5]] * 2)), jnp.log(jnp.array([[0.3, 0.7]] * 2))]
    rhm = RandomHierarchyModel.from_rules(rhm.rules, unequal)
    got = top_k(rhm, np.zeros((4, 2)), 16)
    fifth, sixth = (np.asarray(got.derivation.leaves[rank]).reshape(2, 2) for rank in (4, 5))
    assert got.log_prob[4] == got.log_prob[5]
    tables = [np.asarray(table) for table in rhm.rules]
    parents = np.asarray(got.derivation.levels[1][4])
    np.testing.assert_array_equal(fifth[0], tables[1][parents[0], 1])
    np.testing.assert_array_equal(sixth[0], tables[1][parents[0], 0])


def with_other_probabilities(rhm):
    rng = np.random.default_rng(2)
    drawn = [rng.dirichlet(np.ones(table.shape[1]), table.shape[0]) for table in rhm.rules]
    log_probs = tuple(jnp.log(table) for table in drawn)
    return eqx.tree_at(lambda r: r.rule_log_probs, rhm, log_probs, is_leaf=lambda leaf: leaf is None)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("uniform", "classes", "zipf") else ()) for n in CASES]
)
def test_divergences_are_those_of_the_listed_trees(name):
    """The same rules with other probabilities: both lists of trees are in the same order."""
    p, data = enumerated(name)
    if p.filter_level:
        with pytest.raises(ValueError, match=r"filter_level = \d of p"):
            kl_divergence(p, p)
        return
    q = with_other_probabilities(p)
    probs = [np.exp(np.asarray(q.log_prob_of_rules(level))) for level in range(q.depth)]
    listed = enumeration.derivations([np.asarray(table) for table in q.rules], probs)
    weights = np.array([[one[0], other[0]] for one, other in zip(data, listed, strict=True)]).T
    assert all(one[1] == other[1] for one, other in zip(data, listed, strict=True))
    both = jax.jit(lambda p, q: (cross_entropy(p, q), kl_divergence(p, q)))
    cross, divergence = both(p, q)
    np.testing.assert_allclose(cross, -(weights[0] * np.log(weights[1])).sum(), rtol=1e-10)
    np.testing.assert_allclose(divergence, (weights[0] * np.log(weights[0] / weights[1])).sum(), rtol=1e-10)
    cross, divergence = both(p, p)
    np.testing.assert_allclose(cross, p.entropy, rtol=1e-12)
    assert abs(divergence) < 1e-12


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


@pytest.mark.parametrize(
    "function", [most_likely, pytest.param(posterior_entropy, marks=pytest.mark.slow), rule_counts]
)
def test_batch_axes_and_jit_change_nothing(function):
    rhm, _ = enumerated("zipf")
    evidence = np.random.default_rng(1).normal(size=(2, 2, rhm.num_leaves, rhm.num_symbols))
    whole, inside = function(rhm, evidence), jax.jit(lambda x: function(rhm, x))(evidence)
    for leaf, same, one in zip(*map(jax.tree.leaves, (whole, inside, function(rhm, evidence[1, 0]))), strict=True):
        np.testing.assert_allclose(leaf, same, rtol=1e-12)
        np.testing.assert_allclose(leaf[1, 0], one, rtol=1e-12)
    with pytest.raises(ValueError, match="the evidence holds NaN"):
        function(rhm, evidence * np.nan)


def test_missing_sites_have_no_evidence_and_others_show_their_symbol():
    for x in (
        np.array([[0, -1, 2, 3]]),
        [[0, -1, 2, -1]],
        np.array([[0, 3, 2, 3]], np.uint8),
        jnp.array([[0, -1, 2, 3]]),
    ):
        found = hard_evidence(x, 3)
        np.testing.assert_array_equal(found[0, [0, 2]], np.where(np.eye(3)[[0, 2]], 0, -np.inf))
        np.testing.assert_array_equal(found[0, [1, 3]], 0)
    for wrong in ([4], [-2], np.array([255], np.uint8)):
        with pytest.raises(
            ValueError, match=f"x holds the symbol {np.asarray(wrong)[0]}: give symbols 0 .. 2, -1 or 3"
        ):
            hard_evidence(wrong, 3)
        inside = jax.jit(lambda x: hard_evidence(x, 3))(np.asarray(wrong))
        assert np.isnan(inside).all()


def test_evidence_of_levels_is_refused_by_name_where_it_does_not_fit():
    rhm, _ = enumerated("filtered-2")
    for wrong, message in (
        ({1: np.zeros((2, 3))}, r"evidence of level 1: this grammar has nodes at the levels \[0, 2\]"),
        ({3: np.zeros((4, 3))}, "evidence of level 3: this grammar"),
        ({2: np.zeros((3, 3))}, r"level 2 must be \(..., nodes, symbols\) = \(..., 4, 3\), got \(3, 3\)"),
        ({0: np.zeros((2, 1, 3)), 2: np.zeros((3, 4, 3))}, r"batch axes of the evidence of levels differ: {0: \(2,\)"),
        ({0: np.zeros((0, 1, 3))}, r"the batch \(0,\) is empty"),
        ({0: np.full((1, 3), np.nan)}, "the evidence holds NaN"),
        ({True: np.zeros((2, 3))}, "evidence of level True: this grammar"),
        ({0: np.zeros((1, 3), complex)}, "evidence of level 0: .* is of complex128"),
    ):
        with pytest.raises(ValueError, match=message):
            log_evidence(rhm, wrong)
    for level in (1, 3):
        with pytest.raises(ValueError, match=rf"level = {level}: this grammar has nodes at the levels \[0, 2\]"):
            local_marginals(rhm, np.zeros((4, 3)), level)


def test_evidence_of_levels_inside_programs():
    """Broadcast, mapped and compiled it is what it is directly."""
    rhm, _ = enumerated("classes")
    rng = np.random.default_rng(4)
    root, leaves = rng.normal(size=(1, 3)), rng.normal(size=(5, 4, 4))
    want = marginals(rhm, {0: np.broadcast_to(root, (5, 1, 3)), 2: leaves})
    for found in (
        marginals(rhm, {0: root, 2: leaves}),
        jax.jit(lambda x: marginals(rhm, {0: root, 2: x}))(leaves),
        jax.vmap(lambda x: marginals(rhm, {0: root, 2: x}))(leaves),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, want)
    alone = marginals(rhm, {2: leaves})
    jax.tree.map(np.testing.assert_array_equal, alone, marginals(rhm, leaves))
    assert log_evidence(rhm, {0: np.zeros((1, 3), np.float16), 2: jnp.full((4, 4), -1e6, jnp.bfloat16)}) < -1e6
