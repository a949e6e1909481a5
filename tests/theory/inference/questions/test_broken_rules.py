"""A grammar with one broken rule: its law, the optimal test, the parts of the surprise, against lists of all trees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import theory
from diffusion import GaussianProcess, Masking, UniformNoise
from hierarchical import BrokenRules, RandomHierarchyModel
from tests.grammars import CASES, enumerated
from tests.laws import assert_drawn_from
from tests.references import enumeration
from tests.references.listed import Listed
from theory import NoisedStrings, broken_node_log_ratios, broken_rule_log_ratio, hard_evidence, log_evidence, surprises

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
BREAKS = [("uniform", 0), ("uniform", 1), ("classes", 0), ("zipf", 0), ("zipf", 1), ("per-level", 0), ("per-level", 1),
          ("filtered-1", 1)]  # fmt: skip
SLOW = [
    ("uniform", 0),
    ("uniform", 1),
    ("zipf", 0),
    ("zipf", 1),
    ("per-level", 0),
]  # where the list confirms it once already
over_breaks = pytest.mark.parametrize(
    ("name", "level"), [pytest.param(*case, marks=pytest.mark.slow if case in SLOW else ()) for case in BREAKS]
)


def tables(rhm):
    rules = [np.asarray(table) for table in rhm.rules]
    return rules, [np.exp(np.asarray(rhm.log_prob_of_rules(level), np.float64)) for level in range(rhm.depth)]


@functools.cache
def broken_trees(name, level):
    """Weights, broken nodes, and the symbols of every level, of all trees with a broken rule."""
    rhm = enumerated(name)[0]
    trees = enumeration.broken(*tables(rhm), level, rhm.vocabulary[level + 1], rhm.filter_level)
    weights, nodes, levels = zip(*trees, strict=True)
    return np.array(weights), np.array(nodes), [np.array(symbols, int) for symbols in zip(*levels, strict=True)]


def likelihood(levels, evidence):
    """The probability of the evidence of one datum, {level: (nodes, symbols)}, given each tree."""
    logs = 0
    for level, table in evidence.items():
        for node, row in enumerate(np.asarray(table)):
            logs = logs + row[levels[level][:, node]]
    return np.exp(logs)


def evidence_of(rhm, inner=()):
    rng = np.random.default_rng(3)
    return {level: rng.normal(size=(5, rhm.num_nodes[level], rhm.vocabulary[level])) for level in (*inner, rhm.depth)}


@over_breaks
def test_the_ratio_is_that_of_the_lists_of_all_trees(name, level):
    """Of soft evidence of the leaves and of every other level too: which node is broken, and if any is."""
    rhm, data = enumerated(name)
    weights, nodes, levels = broken_trees(name, level)
    kept = np.array([weight for weight, _ in data])
    whole = [np.array(symbols, int) for symbols in zip(*(levels for _, levels in data), strict=True)]
    for inner in ((), [at for at, number in enumerate(rhm.num_nodes[:-1]) if number]):
        evidence = evidence_of(rhm, inner)
        found, total = broken_node_log_ratios(rhm, evidence, level), broken_rule_log_ratio(rhm, evidence, level)
        for n in range(5):
            one = {at: table[n] for at, table in evidence.items()}
            p0 = kept @ likelihood(whole, one)
            joint = np.bincount(nodes, weights * likelihood(levels, one))
            np.testing.assert_allclose(found[n], np.log(len(joint) * joint / p0), rtol=0, atol=1e-10)
            np.testing.assert_allclose(total[n], np.log(joint.sum() / p0), rtol=0, atol=1e-10)


@over_breaks
def test_whole_strings_are_told_for_certain(name, level):
    """Every string of the grammar has ratio 0, every broken one an infinite one, others are of neither law."""
    rhm, data = enumerated(name)
    whole = {levels[-1] for _, levels in data}
    torn = {tuple(leaves) for leaves in broken_trees(name, level)[2][-1].tolist()} - whole
    assert torn and (rhm.filter_level or len(torn) == len(np.unique(broken_trees(name, level)[2][-1], axis=0)))
    assert (ratio_of_strings(rhm, sorted(torn), level) == np.inf).all()
    if not rhm.filter_level:
        assert (ratio_of_strings(rhm, sorted(whole), level) == -np.inf).all()
        strings = np.stack(np.unravel_index(np.arange(3**4), (3,) * 4), -1)
        neither = [x for x in strings.tolist() if tuple(x) not in whole | torn]
        if neither and rhm.num_leaves == 4:
            assert np.isnan(ratio_of_strings(rhm, neither, level)).all()


def ratio_of_strings(rhm, strings, level):
    """Of 40 strings, the first ones again where there are fewer: one shape of all tests on whole strings."""
    strings = np.resize(np.array(strings), (40, rhm.num_leaves))
    return broken_rule_log_ratio(rhm, hard_evidence(strings, rhm.num_symbols), level)


@over_breaks
def test_masked_strings_and_their_nodes_keep_infinities_apart(name, level):
    """With some sites hidden P0 or P1 may exclude a string, and nothing is NaN that one of them can give."""
    rhm, data = enumerated(name)
    weights, _, levels = broken_trees(name, level)
    drawn = BrokenRules(rhm, level).sample(KEY, 40).x
    x_t = Masking(rhm.num_symbols).corrupt(jax.random.key(1), drawn, 0.4)
    kept = np.array([weight for weight, _ in data])
    whole = [np.array(symbols, int) for symbols in zip(*(levels for _, levels in data), strict=True)]
    evidence = np.asarray(hard_evidence(x_t, rhm.num_symbols))
    found, want = broken_rule_log_ratio(rhm, evidence, level), []
    for table in evidence:
        one = {rhm.depth: table}
        with np.errstate(divide="ignore"):
            want.append(np.log(weights @ likelihood(levels, one)) - np.log(kept @ likelihood(whole, one)))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-10)
    assert np.isinf(want).any() and np.isfinite(want).any()


@pytest.mark.parametrize(
    ("name", "level"), [pytest.param(*case, marks=() if case == ("zipf", 1) else pytest.mark.slow) for case in BREAKS]
)
def test_noised_strings_are_read_as_what_they_show(name, level):
    rhm = enumerated(name)[0]
    x_t = Masking(rhm.num_symbols).corrupt(jax.random.key(1), BrokenRules(rhm, level).sample(KEY, 40).x, 0.4)
    noised = NoisedStrings(Masking(rhm.num_symbols), x_t, 0.4)
    want = broken_rule_log_ratio(rhm, hard_evidence(x_t, rhm.num_symbols), level)
    np.testing.assert_allclose(broken_rule_log_ratio(rhm, noised, level), want, rtol=0, atol=1e-6)  # float32 times


@over_breaks
def test_broken_strings_are_drawn_by_their_law(name, level):
    """Strings against the list; the tree says which node is broken, and a parse finds the same nodes to be valid."""
    rhm, (weights, nodes, levels) = enumerated(name)[0], broken_trees(name, level)
    drawn = BrokenRules(rhm, level).sample(jax.random.key(2), (2000,))
    strings, place = np.unique(levels[-1], axis=0, return_inverse=True)
    index = {tuple(x): i for i, x in enumerate(strings.tolist())}
    counts = np.bincount([index[tuple(x)] for x in np.asarray(drawn.x).tolist()], minlength=len(strings))
    assert_drawn_from(counts, np.bincount(np.ravel(place), weights))
    assert_drawn_from(np.bincount(np.asarray(drawn.latent.node)), np.bincount(nodes, weights))
    parsed, tree = rhm.parse(drawn.x), drawn.latent.tree
    for at in range(max(level, rhm.filter_level), rhm.depth + 1):
        np.testing.assert_array_equal(tree.valid[at], parsed.valid[at])
        np.testing.assert_array_equal(np.where(tree.valid[at], tree.levels[at], -1), parsed.levels[at])
    if not rhm.filter_level:
        assert not parsed.valid[0].any() and not np.any(tree.valid[0])


@pytest.mark.parametrize("name", [pytest.param("uniform", marks=pytest.mark.slow), "zipf", "per-level", "filtered-1"])
def test_surprises_are_those_of_subtrees_and_add_up(name):
    """Each term from the probabilities of the evidence of subtrees, by the list; their sum is -ln p."""
    rhm, _ = enumerated(name)
    listed = Listed(*tables(rhm), rhm.filter_level)
    present = [level for level, number in enumerate(rhm.num_nodes) if number]
    evidence = evidence_of(rhm, present[:-1])
    found = surprises(rhm, evidence)
    np.testing.assert_allclose(sum(x.sum(1) for x in found), -log_evidence(rhm, evidence), rtol=1e-12)
    full = [evidence.get(at, np.zeros((5, 0, 1))) for at in range(rhm.depth + 1)]

    def log_prob(datum, level, node):
        return listed.weights(listed.log_likelihood([table[datum] for table in full], listed.below(level, node)))[0]

    for n in range(2):
        for level, below in zip(present, [*present[1:], None], strict=True):
            for node in range(rhm.num_nodes[level]):
                want = -log_prob(n, level, node)
                if below is not None:
                    s = rhm.num_nodes[below] // rhm.num_nodes[level]
                    want += sum(log_prob(n, below, child) for child in range(s * node, s * node + s))
                np.testing.assert_allclose(found[level][n, node], want, rtol=0, atol=1e-10)


def test_only_the_broken_node_of_a_whole_string_is_infinitely_surprising():
    rhm = enumerated("zipf")[0]
    for level in (0, 1):
        drawn = BrokenRules(rhm, level).sample(KEY, 20)
        found = surprises(rhm, hard_evidence(drawn.x, rhm.num_symbols))
        for at, terms in enumerate(found):
            where = np.isinf(terms)
            np.testing.assert_array_equal(where.any(1), at == level)
            if at == level:
                np.testing.assert_array_equal(np.argmax(where, 1), drawn.latent.node)
            elif at < level:
                np.testing.assert_array_equal(terms, 0)


@functools.cache
def noised_pairs(process):
    """Evidence of 4000 noised strings of a grammar, and of as many with a broken rule."""
    rhm, t = RandomHierarchyModel(4, 2, 2, 2, key=jax.random.key(5)), 0.7
    laws = (rhm, jax.random.key(0), jax.random.key(2)), (BrokenRules(rhm, 1), jax.random.key(1), jax.random.key(3))
    drawn = [process.corrupt(noise_key, law.sample(key, 4000).x, t) for law, key, noise_key in laws]
    return rhm, [process.log_likelihood(x_t, t) for x_t in drawn]


over_noises = pytest.mark.parametrize(
    "process", [Masking(4), UniformNoise(4), GaussianProcess(4)], ids=lambda process: type(process).__name__
)


@over_noises
def test_the_mean_of_the_ratio_over_the_grammar_is_one(process):
    """E_0 [P1 / P0] = 1, and less under masks: what only a broken string can give has no part in it."""
    rhm, (whole, _) = noised_pairs(process)
    ratio = np.exp(broken_rule_log_ratio(rhm, whole, 1))
    error = ratio.std() / len(ratio) ** 0.5
    assert ratio.mean() < 1 - 5 * error if isinstance(process, Masking) else abs(ratio.mean() - 1) < 5 * error


@over_noises
def test_no_other_score_finds_more_broken_strings(process):
    """The area under the ratio's curve beats those of the surprise, of its terms at the level, and of any node's."""
    rhm, pair = noised_pairs(process)

    def area(score):
        scores = np.concatenate([np.asarray(score(evidence), float) for evidence in pair])
        return roc_auc_score(np.repeat([0, 1], 4000), np.nan_to_num(scores, posinf=1e9, neginf=-1e9))

    best = area(lambda e: broken_rule_log_ratio(rhm, e, 1))
    others = (
        lambda e: -log_evidence(rhm, e),
        lambda e: surprises(rhm, e)[1].sum(1),
        lambda e: surprises(rhm, e)[1].max(1),
    )
    assert best > 0.5 + 0.02 and all(area(score) < best + 0.002 for score in others)


@pytest.mark.parametrize(
    ("depth", "level"), [(4, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((5, 4), (8, 0), (8, 7)))]
)
def test_depth_and_single_precision_cost_no_finite_value(depth, level):
    """2^depth leaves in float32 against float64, with evidence that is sharp."""
    rhm = RandomHierarchyModel(8, 3, 2, depth, key=jax.random.key(0))
    soft = 30 * np.random.default_rng(0).normal(size=(3, 2**depth, 8))
    want = broken_rule_log_ratio(rhm, soft, level)
    found = broken_rule_log_ratio(rhm, soft.astype(np.float32), level)
    assert found.dtype == jnp.float32 and np.isfinite(want).all()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=5e-2)


def test_they_run_inside_programs_and_take_any_batch():
    rhm = enumerated("uniform")[0]
    evidence = np.random.default_rng(1).normal(size=(2, 3, 4, 3))
    whole = broken_rule_log_ratio(rhm, evidence, 1)
    assert whole.shape == (2, 3) and broken_node_log_ratios(rhm, evidence, 1).shape == (2, 3, 2)
    inside = jax.jit(jax.vmap(lambda e: broken_rule_log_ratio(rhm, e, 1)))(evidence)
    np.testing.assert_allclose(inside, whole, rtol=1e-12)
    assert [x.shape for x in surprises(rhm, evidence)] == [(2, 3, 1), (2, 3, 2), (2, 3, 4)]


def test_what_cannot_break_is_refused_by_name():
    rhm, full = enumerated("uniform")[0], RandomHierarchyModel(3, 3, 2, 2, key=jax.random.key(0))
    large = RandomHierarchyModel(300, 2, 2, 1, key=jax.random.key(0))
    for make in (BrokenRules, lambda rhm, level: broken_rule_log_ratio(rhm, np.zeros((4, 3)), level)):
        for grammar, level, message in (
            (rhm, 2, r"level = 2: this grammar has rules at the levels \[0, 1\]"),
            (enumerated("filtered-2")[0], 1, r"level = 1: this grammar has rules at the levels \[\]"),
            (rhm, True, "level = True: give a whole number"),
            (full, 1, "all 9 tuples are given by a rule, none is free: lower num_synonyms"),
        ):
            with pytest.raises(ValueError, match=message):
                make(grammar, level)
    with pytest.raises(ValueError, match=r"300\^2 tuples are more than 65536, the most that are listed"):
        BrokenRules(large, 0)
    with pytest.raises(ValueError, match="the evidence holds NaN"):
        broken_rule_log_ratio(rhm, np.full((4, 3), np.nan), 0)
    assert set(CASES) >= {name for name, _ in BREAKS} and theory.surprises is surprises
