"""The experiment `representations`: a whole small run, its exact beliefs, what layers can know, and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, TrainConfig
from hierarchical import RandomHierarchyModel, sample_strings
from phasetree.experiments import representations as experiment
from phasetree.experiments.representations.beliefs import beliefs, leaf_posterior
from phasetree.experiments.representations.readings import of_nodes
from phasetree.runner.run import execute
from theory import NoisedStrings, marginals

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
    assert whole.dataset.posterior.sel(network="tree", layer="layer_1").isnull().all()


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
    np.testing.assert_allclose(leaf_posterior(rhm, process, x_t, t, True), known.posterior[2], atol=1e-6)
    full = beliefs(rhm, process, x_t, t, False)
    np.testing.assert_allclose(full.posterior[0], known.posterior[0], atol=1e-6)
    np.testing.assert_allclose(full.windows[0], full.posterior[2], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": (0.5, 0.2)}, "give increasing masked fractions"),
        ({"times": (0.0, 0.2)}, "between 0 and 1"),
        ({"width": 6}, "width = 6: give a multiple of 4"),
        ({"num_features": 1}, r"num_features = 1: give 2 \(num_active\) to 512"),
        ({"num_data": 4}, "num_data = 4: must be at least 8"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
