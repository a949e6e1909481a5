"""Recovery of hidden levels: exact statistics, distinct laws, information of siblings, tree scores, embeddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import recovery
from hierarchical import RandomHierarchyModel

KEY = np.array([0, 0], np.uint32)  # an old-style key, which may be used again
BRANCHING = (2, 2, 2)
STATISTICS = {
    "labels": recovery.Labels(),
    "tuples": recovery.SiblingTuples(),
    "right": recovery.SiblingTuples(to_the_right=True),
    "latents": recovery.SiblingLatents(),
    "tokens": recovery.SiblingTokens(),
}


def all_trees(rhm):
    """The symbols of every level of every tree, root first; rules and classes are equally likely."""
    levels = [np.arange(rhm.num_classes)[:, None]]
    for rules in map(np.asarray, rhm.rules):
        m, nodes = rules.shape[1], levels[-1].shape[1]
        choices = np.indices((m,) * nodes).reshape(nodes, -1).T
        levels = [np.repeat(level, len(choices), 0) for level in levels]
        picked = np.tile(choices, (len(levels[-1]) // len(choices), 1))
        levels.append(rules[levels[-1], picked].reshape(len(picked), -1))
    return levels


@pytest.fixture(scope="module")
def trees():
    return all_trees(RandomHierarchyModel(3, 2, 2, 3, key=jax.random.key(5)))


@pytest.fixture(scope="module")
def sampled():
    rhm = RandomHierarchyModel(8, 4, 2, 3, key=jax.random.key(1))
    sample = rhm.sample(jax.random.key(2), (4096,))
    return rhm, sample.x, sample.latent


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("clustering", [recovery.KMeans(), recovery.PMIEmbedding()], ids=["k-means", "pmi"])
def test_exact_statistics_give_the_hierarchy(trees, name, clustering):
    """Every string once: rows of counts of synonyms are equal, equation (1) of `statistics`."""
    found = recovery.recover(
        KEY, trees[-1], BRANCHING, 3, statistic=STATISTICS[name], clustering=clustering, labels=trees[0][:, 0]
    )
    assert recovery.level_agreement(found, trees) == dict.fromkeys(range(found.top, 3), 1.0)
    assert found.top == (0 if name == "labels" else 1)


@pytest.mark.parametrize("name", STATISTICS)
def test_synonyms_have_equal_rows_and_other_symbols_have_not(trees, name):
    tuples = recovery.Tuples.read(trees[-1], 2, 2, trees[-1], trees[0][:, 0])
    counts = STATISTICS[name].counts(tuples, None)
    rows = counts[counts.sum(1) > 0]
    rows = rows / rows.sum(1, keepdims=True)
    assert len(np.unique(rows.round(12), axis=0)) == 3
    assert counts.shape[1] <= STATISTICS[name].features(tuples)


def test_symbols_of_equal_law_cannot_be_told_apart():
    """1 and 2 of the middle level stand beside the same symbols equally often: two distinct rows, not three."""
    top = np.array([[[0, 0]], [[1, 0]], [[2, 0]]])
    bottom = np.array([[[0, 0], [0, 1]], [[1, 0], [1, 1]], [[2, 0], [2, 1]]])
    levels = all_trees(RandomHierarchyModel.from_rules([top, bottom]))
    tuples = recovery.Tuples.read(levels[-1], 2, 2, levels[-1])
    counts = recovery.SiblingTuples().counts(tuples, None)
    rows = counts / counts.sum(1, keepdims=True)
    assert len(np.unique(rows.round(12), axis=0)) == 2
    found = recovery.recover(KEY, levels[-1], (2, 2), 3)
    assert recovery.level_agreement(found, levels)[1] < 1


def test_samples_give_the_hierarchy(sampled):
    """4096 strings of (8, 4, 2, 3): eight times n m^L, which labels need; siblings need less."""
    _, x, tree = sampled
    found = recovery.recover(KEY, np.asarray(x, np.int8), BRANCHING, [8, 8, 8])
    assert recovery.level_agreement(found, tree) == {1: 1.0, 2: 1.0}
    assert all(level.converged for level in found.found.values())
    few = recovery.recover(KEY, x[:128], BRANCHING, 8, statistic=recovery.Labels(), labels=tree.levels[0][:128, 0])
    assert recovery.level_agreement(few, [level[:128] for level in tree.levels])[2] < 0.7


@pytest.mark.parametrize("clustering", [recovery.Mixture(), recovery.Factors()], ids=["mixture", "factors"])
def test_other_clusterings_are_far_above_chance(sampled, clustering):
    _, x, tree = sampled
    labels = recovery.Labels()
    found = recovery.recover(KEY, x, BRANCHING, 8, statistic=labels, clustering=clustering, labels=tree.levels[0][:, 0])
    assert recovery.level_agreement(found, tree)[2] > 0.6


def test_other_strings_are_read_by_what_was_found(sampled):
    _, x, _ = sampled
    found = recovery.recover(KEY, x[:2048], BRANCHING, 8)
    again = found.of(x[:2048])
    assert sorted(again) == [1, 2, 3]
    for level in again:
        np.testing.assert_array_equal(again[level], found.levels[level])
    unseen = recovery.recover(KEY, x[:20], BRANCHING, 8).of(x[2048:])
    assert unseen[2].min() == -1


def test_siblings_tell_what_the_rules_say(sampled):
    """p(a, b) of the children of the root from the rules; the classes are equally likely."""
    rhm, _, tree = sampled
    joint = np.zeros((8, 8))
    np.add.at(joint, tuple(np.moveaxis(np.asarray(rhm.rules[0]), -1, 0)), 1 / 32)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(joint / (joint.sum(1)[:, None] * joint.sum(0)))
    truth = np.sum(joint[joint > 0] * logs[joint > 0])
    found = recovery.sibling_information(tree.levels[1], 2)
    assert abs(found.value - truth) < 5 * found.stderr
    assert 0 < found.stderr < 0.02
    shuffled = np.asarray(tree.levels[1]).copy()
    shuffled[:, 1] = np.roll(shuffled[:, 1], 1)
    nothing = recovery.sibling_information(shuffled, 2)
    assert abs(nothing.value) < 5 * nothing.stderr


def test_distances_of_a_tree_score_as_one(sampled):
    height = np.array([[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]])
    score = recovery.tree_score(height, (2, 2))
    assert (score.cophenetic, score.violation, score.triplets) == (pytest.approx(1), 0, 1)
    places = np.arange(8.0) ** 2
    line = recovery.tree_score(abs(places[:, None] - places), BRANCHING)
    assert line.cophenetic < 0.99
    assert line.violation > 0.2
    _, x, _ = sampled
    assert recovery.tree_score(recovery.leaf_distances(x), BRANCHING).triplets == 1


def test_chance_finds_a_third_of_triplets():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        upper = np.triu(rng.random((8, 8)), 1)
        shares.append(recovery.tree_score(upper + upper.T, BRANCHING).triplets)
    assert abs(np.mean(shares) - 1 / 3) < 5 * np.std(shares) / 20**0.5


def test_covariances_of_leaves_are_those_of_their_symbols(sampled):
    _, x, _ = sampled
    x = np.asarray(x)
    first, other = np.eye(8)[x[:, 0]], np.eye(8)[x[:, 5]]
    norms = [
        np.linalg.norm(np.cov(a.T, b.T, bias=True)[:8, 8:]) for a, b in ((first, other), (first,) * 2, (other,) * 2)
    ]
    want = -np.log(norms[0] / np.sqrt(norms[1] * norms[2]))
    assert recovery.leaf_distances(x)[0, 5] == pytest.approx(want)


def test_trees_fit_the_hyperbolic_plane_better_than_the_flat_one():
    leaves = np.arange(16)
    height = sum((leaves[:, None] >> k) != (leaves >> k) for k in range(4)).astype(float)
    curved, flat = recovery.hyperbolic(KEY, height), recovery.euclidean(KEY, height)
    assert curved.stress < 0.8 * flat.stress
    lift = jnp.sqrt(1 + jnp.sum(curved.points**2, 1))
    product = lift[:, None] * lift[None] - curved.points @ curved.points.T
    length = jnp.arccosh(jnp.maximum(product, 1))
    off = ~np.eye(16, dtype=bool)
    ratio = (curved.distances / length)[off]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_a_line_is_hyperbolic_and_flat():
    places = jnp.array([0.0, 0.3, 1.0, 2.5])
    distances = abs(places[:, None] - places[None])
    for embed in (recovery.hyperbolic, recovery.euclidean):
        assert embed(KEY, distances, 1).stress < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: recovery.recover(KEY, x, (2, 2), 3), "its product must be that"),
        (lambda x: recovery.recover(KEY, x / 2, BRANCHING, 3), "give .n, leaves. symbols"),
        (lambda x: recovery.recover(KEY, x, BRANCHING, (3, 3)), "has 2 entries for depth = 3"),
        (lambda x: recovery.recover(KEY, x, BRANCHING, 3, statistic=recovery.Labels()), "give the labels"),
        (lambda x: recovery.recover(KEY, x, BRANCHING, 3, labels=x), "labels of shape"),
        (lambda x: recovery.sibling_information(x, 3), "in families of that"),
        (lambda x: recovery.tree_score(np.ones((4, 4)), (2, 2)), "0 on the diagonal"),
        (lambda x: recovery.tree_score(np.zeros((4, 4)), (2, 3)), "a row for each leaf"),
        (lambda x: recovery.leaf_distances(x[:1]), "two or more"),
        (lambda x: recovery.hyperbolic(KEY, np.zeros((4, 4))), "positive off its diagonal"),
        (lambda x: recovery.level_agreement(recovery.recover(KEY, x, BRANCHING, 3), [x] * 4), "make them agree"),
    ],
)
def test_what_is_refused(trees, call, message):
    with pytest.raises(ValueError, match=message):
        call(trees[-1])
