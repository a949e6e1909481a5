"""Random hierarchy models against the enumerated list of their strings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hierarchical import RandomHierarchyModel, draw_rules
from hierarchical.grammar.rules import match
from hierarchical.grammar.sizes import check_filter_level, whole_per_level
from hierarchical.law import check_shape
from tests.grammars import CASES, enumerated
from tests.references import enumeration

UNFILTERED = [name for name in CASES if not name.startswith("filtered")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("zipf", "classes") else ()) for name in CASES]
)
def test_entropy_is_that_of_the_enumerated_derivations(name):
    rhm, data = enumerated(name)
    np.testing.assert_allclose(rhm.entropy, enumeration.entropy(data), rtol=1e-12)


def test_number_of_strings_and_entropy_of_the_definition():
    rhm = RandomHierarchyModel(32, 8, 2, 9, key=jax.random.key(0))
    assert rhm.num_leaves == 512
    assert rhm.entropy == pytest.approx(math.log(32) + 511 * math.log(8), rel=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_samples_follow_the_enumerated_law(name):
    rhm, data = enumerated(name)
    draws = 20_000
    sample = jax.jit(jax.vmap(rhm.sample))(jax.random.split(jax.random.key(1), draws))
    rows = np.concatenate([np.asarray(sample.latent.levels[0]), np.asarray(sample.x)], 1)
    index, law = {}, {}
    for weight, levels in data:
        row = (*levels[0], *levels[-1])
        law[row] = law.get(row, 0.0) + weight
        index.setdefault(row, len(index))
    counts = np.bincount([index[tuple(row)] for row in rows.tolist()], minlength=len(index))  # KeyError: not in the law
    expected = draws * np.array([law[row] for row in index])
    few = expected < 5  # pool what chi-square cannot take one by one
    observed, expected = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    keep = expected > 0
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3


@pytest.mark.parametrize("name", UNFILTERED)
def test_parse_inverts_sample(name):
    rhm, _ = enumerated(name)
    sample = jax.jit(jax.vmap(rhm.sample))(jax.random.split(jax.random.key(2), 50))
    parsed = jax.jit(jax.vmap(rhm.parse))(sample.x)
    for drawn, read, valid in zip(sample.latent.levels, parsed.levels, parsed.valid, strict=True):
        np.testing.assert_array_equal(drawn, read)
        assert valid.all()


def test_parse_marks_exactly_the_nodes_above_a_wrong_tuple():
    rules = [np.array([[[0, 1]], [[1, 0]]])] * 3  # 0 -> 01, 1 -> 10: Thue-Morse words
    rhm = RandomHierarchyModel.from_rules(rules)
    parsed = rhm.parse(jnp.array([0, 1, 1, 0, 1, 1, 0, 1], jnp.int32))  # the third pair is no rule's
    assert [level.tolist() for level in parsed.levels] == [[-1], [0, -1], [0, 1, -1, 0], [0, 1, 1, 0, 1, 1, 0, 1]]
    assert [level.tolist() for level in parsed.valid] == [
        [False],
        [True, False],
        [True, True, False, True],
        [True] * 8,
    ]


@pytest.mark.parametrize(("v", "m", "s"), [(5, 3, 3), (256, 2, 4)])  # few tuples, and more than a table could hold
def test_match_is_a_dictionary_of_the_rules(v, m, s):
    table = np.asarray(draw_rules(jax.random.key(0), v, m, s, v))
    parents = {tuple(rule): parent for parent, rules in enumerate(table.tolist()) for rule in rules}
    random = np.random.default_rng(0)
    tuples = np.concatenate([table.reshape(-1, s), random.integers(-1, v + 1, (200, s))])  # v is the mask
    found = jax.jit(match, static_argnums=2)(table, jnp.asarray(tuples, jnp.int32), v)
    assert found.tolist() == [parents.get(tuple(row), -1) for row in tuples.tolist()]


def test_parse_marks_symbols_outside_the_alphabet():
    rhm, _ = enumerated("uniform")
    leaves = rhm.sample(jax.random.key(3)).x.at[0].set(rhm.num_symbols)  # the mask symbol
    parsed = rhm.parse(leaves)
    assert not parsed.valid[-1][0] and not parsed.valid[1][0] and not parsed.valid[0][0]
    assert parsed.valid[1][1]


@pytest.mark.parametrize("name", ["filtered-1", "filtered-2"])
def test_filtered_strings_are_accepted_and_their_class_is_left_open(name):
    rhm, data = enumerated(name)
    accepted = {levels[-1] for _, levels in data}
    every = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), -1).reshape(-1, 4)
    parsed = jax.jit(jax.vmap(rhm.parse))(jnp.asarray(every, jnp.int32))
    assert {tuple(row) for row in every[np.asarray(parsed.valid[0][:, 0])].tolist()} == accepted
    assert (parsed.levels[0] == -1).all()


@pytest.mark.parametrize("sizes", [(8, 3, 2, 8), (40, 10, 2, 40), (6, 4, 3, 5)])
def test_rules_are_distinct_tuples(sizes):
    table = np.asarray(draw_rules(jax.random.key(4), *sizes))
    assert table.shape == sizes[:3] and table.min() >= 0 and table.max() < sizes[3]
    assert len(np.unique(table.reshape(-1, sizes[2]), axis=0)) == sizes[0] * sizes[1]


@pytest.mark.parametrize(("sizes", "codes"), [((2, 1, 2, 2), 4), ((2, 1, 2, 3), 9)], ids=["permuted", "redrawn"])
def test_rules_are_uniform_without_replacement(sizes, codes):
    keys = jax.random.split(jax.random.key(5), 20_000)
    tables = np.asarray(jax.jit(jax.vmap(lambda key: draw_rules(key, *sizes)))(keys)).reshape(len(keys), -1, 2)
    numbers = tables @ np.array([sizes[3], 1])
    slots = numbers.shape[1]
    ordered = numbers @ codes ** np.arange(slots)
    _, counts = np.unique(ordered, return_counts=True)
    assert len(counts) == math.perm(codes, slots)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_large_tuple_spaces_are_not_enumerated():
    table = np.asarray(draw_rules(jax.random.key(6), 256, 16, 4, 256))  # 256^4 = 4.3e9 tuples
    assert len(np.unique(table.reshape(-1, 4), axis=0)) == 256 * 16


def test_an_ensemble_is_a_vmap():
    keys = jax.random.split(jax.random.key(7), 3)
    ensemble = jax.vmap(lambda key: RandomHierarchyModel(4, 2, 2, 2, key=key))(keys)
    single = RandomHierarchyModel(4, 2, 2, 2, key=jax.random.split(jax.random.key(7), 3)[1])
    for many, one in zip(ensemble.rules, single.rules, strict=True):
        np.testing.assert_array_equal(many[1], one)


def test_zipf_probabilities_fall_as_a_power():
    rhm = RandomHierarchyModel(5, 4, 2, 2, zipf_exponent=(None, 0.7), key=jax.random.key(8))
    ratio = np.exp(np.asarray(rhm.rule_log_probs[1]))
    np.testing.assert_allclose(ratio / ratio[:, :1], np.broadcast_to(np.arange(1, 5) ** -1.7, (5, 4)), rtol=1e-12)
    assert rhm.rule_log_probs[0] is None


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(num_symbols=4, num_synonyms=5, branching=2, depth=3), "20 distinct 2-tuples, only 16 of 4 symbols exist"),
        (dict(num_symbols=4, num_synonyms=2, branching=1, depth=3), "1 children: at least 2"),
        (dict(num_symbols=4, num_synonyms=0, branching=2, depth=3), "0 synonyms: at least 1"),
        (dict(num_symbols=4, num_synonyms=2, branching=2, depth=0), "depth = 0"),
        (dict(num_symbols=4, num_synonyms=2, branching=2), "pass depth"),
        (dict(num_symbols=(4, 4), num_synonyms=2, branching=2, depth=3), "2 entries for depth = 3"),
        (dict(num_symbols=4, num_synonyms=2, branching=2, depth=3, filter_level=4), "filter_level = 4 is outside"),
        (dict(num_symbols=4, num_synonyms=True, branching=2, depth=3), "num_synonyms = True: give a whole number"),
        (dict(num_symbols=4, num_synonyms=2, branching=2, depth=3, num_classes=2, shared_rules=True), "same sizes"),
        (dict(num_symbols=10**9, num_synonyms=3, branching=2, depth=2), "3000000000 rules .*: lower num_symbols"),
        (dict(num_symbols=2**31, num_synonyms=1, branching=2, depth=1, num_classes=2), "2147483648 symbols, more"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        RandomHierarchyModel(**sizes, key=jax.random.key(9))


def test_sizes_that_are_no_whole_numbers_are_refused():
    """By themselves, for the type checker of the tests refuses them before."""
    for level in (1.5, True):
        with pytest.raises(ValueError, match=f"filter_level = {level}: give a whole number"):
            check_filter_level(level, 2)
    with pytest.raises(ValueError, match=r"num_symbols = 3\.5: give a whole number"):
        whole_per_level("num_symbols", [3, 3.5], 2)
    with pytest.raises(ValueError, match=r"shape = 2\.5: give positive whole numbers"):
        check_shape(2.5)


def test_numpy_sizes_are_those_of_python():
    ours = RandomHierarchyModel(np.array([4, 3]).tolist(), 2, 2, key=jax.random.key(10))
    theirs = RandomHierarchyModel([*np.array([4, 3])], np.int64(2), np.int8(2), np.int32(2), key=jax.random.key(10))
    assert theirs.vocabulary == ours.vocabulary and all(type(size) is int for size in theirs.vocabulary)
    for one, other in zip(ours.rules, theirs.rules, strict=True):
        np.testing.assert_array_equal(one, other)
    key, strings = jax.random.key(11), ours.sample(jax.random.key(11), (3,)).x
    for shape in (np.int64(3), (np.int64(3),), [3]):
        np.testing.assert_array_equal(ours.sample(jax.random.clone(key), shape).x, strings)
    with pytest.raises(ValueError, match="shape = True: give positive whole numbers"):
        ours.sample(key, True)


@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        ([np.array([[[0, 1]], [[0, 1]]])], {}, r"the tuple \(0, 1\) 2 times"),
        ([np.array([[[0, 2]], [[0, 1]]])] * 2, {}, "uses symbols 0 .. 2, but the next level has 2"),
        ([np.array([[[0, -4294967295]], [[1, 0]]])], {}, "holds the symbol -4294967295: symbols are from 0 to 2"),
        ([np.array([[[0, 2**40]], [[1, 0]]])], {}, "holds the symbol 1099511627776: symbols are from 0 to 2"),
        ([np.array([[0, 1]])], {}, "tables \\(parents, synonyms, branching\\)"),
        ([np.array([[[0, 1]], [[1, 0]]])], {"rule_log_probs": [np.log([[0.5], [0.5]])]}, "total probability 0.5"),
    ],
)
def test_impossible_rules_are_refused(rules, options, message):
    with pytest.raises(ValueError, match=message):
        RandomHierarchyModel.from_rules(rules, **options)
    with pytest.raises(ValueError, match=message):  # what NumPy knows is known inside jit
        jax.jit(lambda: RandomHierarchyModel.from_rules(rules, **options))()


def test_a_string_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="has 4 leaves"):
        enumerated("uniform")[0].parse(jnp.zeros(5, jnp.int32))
