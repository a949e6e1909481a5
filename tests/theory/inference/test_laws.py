"""Laws that every operation of inference obeys, on twenty random grammars: lists of all trees, names, limits, slopes.

Five shapes, four draws each: unequal probabilities, other numbers of classes than of symbols, sizes that differ between
levels, filtered tops. Five data each: soft evidence of the leaves; of every node; strings with missing sites; an inner
node that excludes symbols; and impossible evidence.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from hierarchical import RandomHierarchyModel
from tests.references.listed import Listed

SHAPES = {
    "per-level": dict(num_symbols=(4, 3), num_synonyms=(3, 2), branching=(2, 3), num_classes=2),
    "deep": dict(num_symbols=3, num_synonyms=2, branching=2, depth=3, num_classes=2),
    "classes": dict(num_symbols=4, num_synonyms=3, branching=2, depth=2, num_classes=5),
    "filtered-1": dict(num_symbols=(3, 4), num_synonyms=(2, 3), branching=2, num_classes=2, filter_level=1),
    "filtered-2": dict(num_symbols=3, num_synonyms=2, branching=2, depth=2, num_classes=2, filter_level=2),
}
DRAWS = range(4)


class Operation:
    """What is asked of the library and of the list, and how the answer is renamed when symbols are."""

    def __init__(self, name, *options, answer=lambda x: x, needs_rules=False):
        self.function, self.options, self.answer, self.needs_rules = getattr(theory, name), options, answer, needs_rules
        self.name = name

    def asked(self, rhm, evidence):
        """The answer of the library; levels that a filter removes have no evidence."""
        return self.answer(self.function(rhm, present(evidence), *self.options))

    def listed(self, trees, evidence):
        """One answer for each datum, stacked as those of the library are."""
        answers = [getattr(trees, self.name)([table[n] for table in evidence], *self.options) for n in range(5)]
        return jax.tree.map(lambda *each: np.stack(each), *answers)


def tree_and_value(found):
    return found.log_prob, list(found.derivation.levels)


OPERATIONS = {
    "log_evidence": Operation("log_evidence"),
    "marginals": Operation("marginals", answer=list),
    "cavity_marginals": Operation("cavity_marginals", answer=list),
    "local_marginals": Operation("local_marginals", 2, answer=list),
    "upward_messages": Operation("upward_messages", answer=list),
    "posterior_entropy": Operation("posterior_entropy"),
    "rule_counts": Operation("rule_counts", answer=list),
    "most_likely": Operation("most_likely", answer=tree_and_value),
    "top_k": Operation("top_k", 3, answer=tree_and_value, needs_rules=True),
    "count_derivations": Operation("count_derivations", needs_rules=True),
}
over_operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
over_what_is_defined = pytest.mark.parametrize(
    ("operation", "shape"),
    [pytest.param(one, shape, marks=() if shape == "per-level" else pytest.mark.slow) for one in OPERATIONS.values()
     for shape in ("per-level", "filtered-1") if shape == "per-level" or not one.needs_rules],
    ids=lambda x: getattr(x, "name", x),
)  # fmt: skip
over_shapes = pytest.mark.parametrize(
    "shape", [pytest.param(shape, marks=pytest.mark.slow if shape == "classes" else ()) for shape in SHAPES]
)


@functools.cache
def drawn(shape, seed):
    """A grammar with rule probabilities of its own, the list of its trees, and evidence."""
    rng = np.random.default_rng(seed)
    rhm = RandomHierarchyModel(**SHAPES[shape], key=jax.random.key(seed))
    probs = [rng.dirichlet(np.ones(table.shape[1]), table.shape[0]) for table in rhm.rules]
    if seed == 3:  # a rule that is never used
        probs[-1][0, 0] = 0
        probs[-1][0] /= probs[-1][0].sum()
    with np.errstate(divide="ignore"):
        log_probs = tuple(jnp.asarray(np.log(table)) for table in probs)
    rhm = eqx.tree_at(lambda r: r.rule_log_probs, rhm, log_probs, is_leaf=lambda leaf: leaf is None)
    trees = Listed([np.asarray(table) for table in rhm.rules], probs, rhm.filter_level)
    return rhm, trees, given(rhm, trees, rng)


def given(rhm, trees, rng):
    """Log-likelihoods (5, nodes, symbols) of each level; levels that filtering removes have no nodes."""
    soft = [2 * rng.normal(size=(5, nodes, v)) for nodes, v in zip(rhm.num_nodes, rhm.vocabulary, strict=True)]
    for table in soft[:-1]:
        table[[0, 2]] = 0
    tree = rng.integers(len(trees.log_prior))
    string = trees.levels[-1][tree].copy()
    string[rng.random(len(string)) < 0.5] = -1
    soft[-1][2] = theory.hard_evidence(string, rhm.num_symbols)
    shown = trees.levels[-2 if rhm.filter_level < rhm.depth else -1][tree]
    table = soft[-2 if rhm.filter_level < rhm.depth else -1]
    table[3, 0] = np.where(np.arange(table.shape[2]) == shown[0], table[3, 0], -np.inf)
    soft[-1][4] = -np.inf
    return soft


def present(tables):
    """Without the levels that have no nodes, of which there is no evidence."""
    return {level: table for level, table in enumerate(tables) if table.shape[1]}


def same(found, want, **tolerance):
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(got), expected, **tolerance)


@over_operations
@over_shapes
def test_it_is_what_the_list_of_all_trees_says(operation, shape):
    for seed in DRAWS:
        rhm, trees, evidence = drawn(shape, seed)
        if operation.needs_rules and rhm.filter_level:
            with pytest.raises(ValueError, match=f"filter_level = {rhm.filter_level}: a filtered grammar"):
                operation.asked(rhm, evidence)
            continue
        found, want = operation.asked(rhm, evidence), operation.listed(trees, evidence)
        for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
            got = np.asarray(got)
            assert not np.isnan(got).any()
            asked_of_some_tree = ~np.isnan(expected)  # a message of a symbol that no tree has at this node
            np.testing.assert_allclose(got[asked_of_some_tree], expected[asked_of_some_tree], rtol=1e-10, atol=1e-10)


@over_what_is_defined
def test_names_of_symbols_do_not_matter(operation, shape):
    """Symbols of every level are renamed: tables of symbols are permuted with them, everything else stays."""
    rhm, _, evidence = drawn(shape, 0)
    rng = np.random.default_rng(1)
    new = [rng.permutation(v) for v in rhm.vocabulary]  # new[level][a] is the new name of a
    old = [np.argsort(names) for names in new]
    rules = tuple(jnp.asarray(new[n + 1][np.asarray(table)[old[n]]]) for n, table in enumerate(rhm.rules))
    log_probs = tuple(table[old[n]] for n, table in enumerate(rhm.rule_log_probs))
    renamed = eqx.tree_at(lambda r: (r.rules, r.rule_log_probs), rhm, (rules, log_probs))
    found = operation.asked(renamed, [table[:, :, old[n]] for n, table in enumerate(evidence)])
    want = operation.asked(rhm, evidence)
    if operation.answer is tree_and_value:
        log_prob, levels = want
        want = log_prob, [np.where(level < 0, -1, new[n][level]) for n, level in enumerate(levels)]
    elif operation.name == "rule_counts":
        want = [table[:, old[n]] for n, table in enumerate(want)]
    elif isinstance(want, list):
        first = len(new) - len(want)
        want = [table[:, :, old[first + n]] for n, table in enumerate(want)]
    same(found, want, rtol=1e-10, atol=1e-12)


@over_what_is_defined
def test_a_constant_of_the_evidence_only_shifts_what_is_a_logarithm_of_it(operation, shape):
    rhm, _, evidence = drawn(shape, 1)
    found, want = operation.asked(rhm, [table + 0.5 for table in evidence]), operation.asked(rhm, evidence)
    nodes = sum(rhm.num_nodes)
    if operation.name == "log_evidence":
        want = want + nodes / 2
    elif operation.answer is tree_and_value:
        want = want[0] + nodes / 2, want[1]
    elif operation.name == "upward_messages":
        inside = [sum(rhm.num_nodes[n:]) / max(rhm.num_nodes[n], 1) for n in range(len(want))]
        want = [table + size / 2 for table, size in zip(want, inside, strict=True)]
    same(found, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", ["per-level", pytest.param("filtered-1", marks=pytest.mark.slow)])
def test_without_evidence_there_is_the_prior(shape):
    rhm, trees, _ = drawn(shape, 2)
    assert abs(theory.log_evidence(rhm, {})) < 1e-12
    np.testing.assert_allclose(theory.posterior_entropy(rhm, {}), rhm.entropy, rtol=1e-12)
    none = [np.zeros((nodes, v)) for nodes, v in zip(rhm.num_nodes, rhm.vocabulary, strict=True)]
    same(theory.marginals(rhm, {}), trees.marginals(none), atol=1e-12)
    for level in present([table[None] for table in none]):
        same(theory.local_marginals(rhm, {}, level), trees.marginals(none)[level:], atol=1e-12)


@pytest.mark.parametrize("name", ["log_evidence", "posterior_entropy", "local_marginals"])
@pytest.mark.parametrize("shape", ["per-level", pytest.param("filtered-1", marks=pytest.mark.slow)])
def test_slopes_are_those_of_finite_differences(name, shape):
    """By evidence, and by the rules' probabilities, one of which is 0."""
    rhm, _, evidence = drawn(shape, 3)
    some, step = {level: table[1] for level, table in present(evidence).items()}, 1e-5
    direction = {level: np.cos(np.arange(table.size)).reshape(table.shape) for level, table in some.items()}
    level = (2,) if name == "local_marginals" else ()

    @jax.jit
    def along(x, y):
        given = {level: table + x * direction[level] for level, table in some.items()}
        rules = tuple(jax.nn.log_softmax(table + y * jnp.sin(jnp.arange(table.size)).reshape(table.shape))
                      for table in rhm.rule_log_probs)  # fmt: skip
        moved = eqx.tree_at(lambda r: r.rule_log_probs, rhm, rules)
        found = getattr(theory, name)(moved, given, *level)
        return jnp.sum(found[-1][..., 0]) if level else found

    want = [(along(step, 0.0) - along(-step, 0.0)) / (2 * step), (along(0.0, step) - along(0.0, -step)) / (2 * step)]
    np.testing.assert_allclose(jax.jit(jax.grad(along, (0, 1)))(0.0, 0.0), want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("formulation", ["logarithmic", "segments", pytest.param("levels", marks=pytest.mark.slow)])
def test_the_entropy_does_not_depend_on_the_size_of_the_evidence(formulation):
    """Log-densities without a normaliser, in single precision, by every formulation."""
    rhm = RandomHierarchyModel(4, 2, 2, 5, key=jax.random.key(0))
    soft = np.random.default_rng(0).normal(size=(6, 32, 4)).astype(np.float32).round(3)
    want = theory.posterior_entropy(rhm, soft.astype(np.float64))
    found = theory.posterior_entropy(rhm, soft - np.float32(1024), formulation=formulation)
    np.testing.assert_allclose(found, want, rtol=1e-4)
    sharp = theory.posterior_entropy(rhm, 1000 * soft)
    np.testing.assert_allclose(sharp, theory.posterior_entropy(rhm, 1000 * soft.astype(np.float64)), atol=1e-5)
