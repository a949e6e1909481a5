"""The experiment `representations`: a whole small run, its exact beliefs, what layers can know, and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, TrainConfig, from_function
from diffusion.measure import probing
from hierarchical import RandomHierarchyModel, sample_strings, sample_trees
from phasetree.experiments import representations as experiment
from phasetree.experiments.representations.beliefs import (
    ancestor_beliefs,
    beliefs,
    forced_posterior,
    posteriors,
)
from phasetree.experiments.representations.readings import of_nodes
from phasetree.experiments.representations.steering import Strings, follow, force
from phasetree.runner.run import execute
from theory import NoisedStrings, cavity_marginals, marginals

TINY = experiment.Config(
    num_symbols=3, depth=2, num_grammars=2, times=(0.5,), num_data=128, width=8, num_layers=1, num_features=8,
    num_active=2, feature_steps=5, train=TrainConfig(steps=20, batch_size=16),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("representations", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.slow
def test_embeddings_know_the_leaves_of_their_own_sites_whatever_the_weights(whole):
    """A masked site has a flat posterior by itself, another a certain one: its window is the leaf, level 2."""
    for kind, layer in (("tree", "up_2"), ("transformer", "embedding"), ("causal", "embedding")):
        for weights in ("trained", "random"):
            assert whole.findings["window", kind, weights, layer, 0.5].value == 2
    upward = whole.findings["upward", "tree", "trained", "up_2", 2, 0.5]
    assert upward.value == pytest.approx(1, abs=0.05)  # the message of a leaf is one-hot or flat, as the belief is


@pytest.mark.slow
def test_losses_are_above_exact_ones_and_the_report_prints_findings(whole):
    for kind in ("tree", "transformer", "causal"):
        assert whole.findings["excess", kind].value > -5 * whole.findings["excess", kind].stderr
    assert whole.findings["bayes", "causal"].value > whole.findings["bayes", "tree"].value  # it is given less
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert whole.report.closing.startswith("At a masked fraction of 0.5 linear probes read the exact posterior")
    assert "; forced to a wrong symbol at level 1 they follow exact inference by " in whole.report.closing
    assert whole.dataset.posterior.sel(network="tree", layer="layer_1").isnull().all()


@pytest.mark.slow
def test_the_true_symbol_helps_exact_inference_and_another_one_harms_it(whole):
    """Symbols are forced in the layers that the rule names, and in no other."""
    for kind in ("tree", "transformer", "causal"):
        for level in (0, 1):
            rest = whole.findings["exact-rest", kind, level].value
            moved = {forced: whole.findings["exact-moved", kind, level, forced].value for forced in ("true", "wrong")}
            assert moved["wrong"] < rest < moved["true"]
    followed = whole.dataset.followed
    assert followed.sel(network="tree", layer="down_1").notnull().all()
    assert followed.sel(network="tree", layer=["down_2", "embedding"]).isnull().all()
    assert followed.sel(network="causal", layer=["embedding", "layer_1"]).notnull().all()


def test_the_states_of_a_node_are_those_below_it_or_that_of_its_ancestor():
    state = jnp.arange(8.0).reshape(1, 4, 2)
    assert of_nodes(state, 2).tolist() == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
    assert of_nodes(state[:, :2], 4).tolist() == [[[0, 1]], [[0, 1]], [[2, 3]], [[2, 3]]]


def test_causal_beliefs_are_those_of_strings_whose_rest_is_masked():
    """Site by site: everything to the right masked by hand; an inner node by the sites up to its last leaf."""
    rhm, process, t = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3), jnp.float32(0.5)
    x0 = sample_strings(jax.random.key(1), rhm, 4)
    x_t = jax.vmap(process.corrupt, (0, 0, None))(jax.random.split(jax.random.key(2), 4), x0, t)
    known = beliefs(rhm, process, x_t, t, True)
    for site in range(4):
        cut = np.where(np.arange(4) <= site, x_t, 3)
        tables = marginals(rhm, NoisedStrings(process, cut, t))
        np.testing.assert_allclose(known.posterior[2][:, site], tables[2][:, site], atol=1e-5)
        if site % 2:
            np.testing.assert_allclose(known.posterior[1][:, site // 2], tables[1][:, site // 2], atol=1e-5)
    np.testing.assert_allclose(known.posterior[0][:, 0], tables[0][:, 0], atol=1e-5)
    np.testing.assert_allclose(posteriors(rhm, process, x_t, t, True)[-1], known.posterior[2], atol=1e-6)
    full = beliefs(rhm, process, x_t, t, False)
    np.testing.assert_allclose(full.posterior[0], known.posterior[0], atol=1e-6)
    np.testing.assert_allclose(full.windows[0], full.posterior[2], atol=1e-6)


def noised(rhm, process, data):
    trees = sample_trees(jax.random.key(1), rhm, data).levels
    keys = jax.random.split(jax.random.key(2), data)
    return trees, jax.vmap(process.corrupt, (0, 0, None))(keys, trees[-1], jnp.float32(0.5))


def test_forced_posteriors_are_those_of_the_trees_that_have_the_symbol():
    """The share of trees, all derivations enumerated, with the symbol at the node and the visible leaves."""
    rhm, process, t = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3), jnp.float32(0.5)
    truth, x_t = noised(rhm, process, 4)
    top, bottom = np.asarray(rhm.rules[0]), np.asarray(rhm.rules[1])
    trees = [(pair, np.concatenate([bottom[a, i] for a, i in zip(pair, rules, strict=True)]))
             for pair in top.reshape(-1, 2) for rules in np.ndindex(2, 2)]  # fmt: skip
    forced = np.array([[a, -1] for a in truth[1][:, 0]])
    for causal in (False, True):
        found = forced_posterior(rhm, process, x_t, t, causal, 1, jnp.asarray(forced))
        for row, given, string in zip(found, np.asarray(x_t), forced[:, 0], strict=True):
            for site in range(4):
                seen = np.where(np.arange(4) <= site, given, 3) if causal else given
                fits = [
                    leaves for pair, leaves in trees if pair[0] == string and ((seen == 3) | (seen == leaves)).all()
                ]
                want = np.mean(np.eye(3)[[leaves[site] for leaves in fits]], 0)
                np.testing.assert_allclose(row[site], want, atol=1e-5)


def test_beliefs_of_ancestors_are_those_of_strings_that_a_state_was_given():
    rhm, process, t = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3), jnp.float32(0.5)
    _, x_t = noised(rhm, process, 4)
    for kind, level, nodes in (("tree", 0, 2), ("tree", 1, 2), ("causal", 1, 4), ("transformer", 0, 4)):
        found = ancestor_beliefs(rhm, process, x_t, t, kind, level, nodes)
        for node in range(nodes):
            site = np.arange(4)
            hidden = {"tree": site // 2 == node, "causal": site > node, "transformer": site < 0}[kind]
            table = marginals(rhm, NoisedStrings(process, np.where(hidden, 3, x_t), t))[level]
            np.testing.assert_allclose(found[:, node], table[:, node * 2**level // nodes], atol=1e-5)


def test_a_network_that_is_belief_propagation_follows_forced_symbols_exactly():
    """Its states of level 1 are messages from outside, from which it infers the leaves below, in subtrees."""
    rhm, process, t = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3), jnp.float32(0.5)
    subtree = RandomHierarchyModel.from_rules(rhm.rules[1:])

    def infer(params, x_t, t, change=lambda name, state: state):
        evidence = process.site_evidence(x_t, t[:, None])
        messages = change("down_1", cavity_marginals(rhm, evidence)[1])
        known = {0: jnp.log(jnp.maximum(messages, 1e-7))[:, :, None], 1: evidence.reshape(len(x_t), 2, 2, 3)}
        return jnp.log(jnp.maximum(marginals(subtree, known)[1].reshape(len(x_t), 4, 3), 1e-7)) + params

    denoiser = from_function(infer, jnp.float32(0), process, 4)
    truth, x_t = noised(rhm, process, 128)
    strings = Strings(tuple(level[64:] for level in truth), x_t[64:], x_t[:64], t)
    forced = force(jax.random.key(3), rhm, process, strings, False, 1)
    assert forced.counted.sum() > 10 and (forced.symbols[0] != forced.symbols[1]).any()
    fitted, known = (ancestor_beliefs(rhm, process, half, t, "tree", 1, 2) for half in (x_t[:64], x_t[64:]))
    by_node = jnp.moveaxis(fitted, 1, 0)
    directions = probing.fit_directions(by_node, by_node)
    followed, _ = follow(denoiser, "down_1", directions, known, strings, forced, denoiser(strings.x_t, t))
    np.testing.assert_allclose(followed[:, 0], 1, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": (0.5, 0.2)}, "give increasing masked fractions"),
        ({"times": (0.0, 0.2)}, "between 0 and 1"),
        ({"width": 6}, "width = 6: give a multiple of 4"),
        ({"num_features": 1}, r"num_features = 1: give 2 \(num_active\) to 512"),
        ({"num_data": 8}, "num_data = 8: must be at least 16"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
