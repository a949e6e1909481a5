"""Markov chains: their law by enumeration, and the chain that has the pairs of other strings."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import GaussianProcess, Masking, UniformNoise
from hierarchical import MarkovChain, matched_chain
from tests.laws import assert_drawn_from, count
from theory.exact import MarkovDenoiser

V, SITES = 3, 4
STRINGS = np.array(list(itertools.product(range(V), repeat=SITES)), np.int32)


def chain():
    """A random chain; one step is impossible."""
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.ones(V), (SITES - 1, V))
    tables[1, 0] = [0.0, 0.4, 0.6]
    return MarkovChain(jnp.asarray([0.2, 0.5, 0.3]), jnp.asarray(tables))


def probabilities(chain):
    initial, tables = np.asarray(chain.initial), np.asarray(chain.transitions)
    steps = [tables[i, STRINGS[:, i], STRINGS[:, i + 1]] for i in range(SITES - 1)]
    return initial[STRINGS[:, 0]] * np.prod(steps, 0)


def test_samples_and_log_probs_have_the_chain_s_law():
    law = probabilities(chain())
    rows = chain()
    np.testing.assert_allclose(np.exp(jax.jit(jax.vmap(rows.log_prob))(STRINGS)), law, rtol=1e-12)
    drawn = jax.jit(lambda key: rows.sample(key, (20_000,)).x)(jax.random.key(0))
    assert_drawn_from(count(drawn, STRINGS), law)


def test_the_matched_chain_has_the_pairs_of_the_strings():
    strings = np.random.default_rng(1).integers(0, V, (50, SITES)).astype(np.int32)
    strings[:, 2] = strings[:, 0]  # reaches over a site: the chain cannot know
    law = probabilities(matched_chain(jnp.asarray(strings), V))
    np.testing.assert_allclose(law.sum(), 1)
    for i, (a, b) in itertools.product(range(SITES - 1), itertools.product(range(V), repeat=2)):
        expected = np.mean((strings[:, i] == a) & (strings[:, i + 1] == b))
        np.testing.assert_allclose(law[(STRINGS[:, i] == a) & (STRINGS[:, i + 1] == b)].sum(), expected, atol=1e-12)


def test_a_symbol_that_no_string_has_is_followed_by_any_symbol():
    tables = matched_chain(jnp.zeros((2, 2), jnp.int32), 2).transitions
    np.testing.assert_array_equal(tables[0], [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("process", [Masking(V), UniformNoise(V), GaussianProcess(V)], ids=lambda p: type(p).__name__)
def test_the_chain_s_denoiser_is_bayes_rule_over_all_strings(process):
    denoiser, t = MarkovDenoiser(chain(), process), 0.5
    x0 = jnp.asarray(STRINGS[[5, 40]])
    x_t = jax.jit(jax.vmap(process.corrupt, (0, 0, None)))(jax.random.split(jax.random.key(1), 2), x0, t)
    times = jnp.full(2, t)
    evidence = np.asarray(jax.jit(jax.vmap(process.log_likelihood))(x_t, times))
    weights = probabilities(chain()) * np.exp(evidence[:, np.arange(SITES), STRINGS].sum(2))
    weights /= weights.sum(1, keepdims=True)
    expected = np.stack([[weights[:, STRINGS[:, i] == a].sum(1) for a in range(V)] for i in range(SITES)]).T
    found = jnp.exp(eqx.filter_jit(denoiser)(x_t, times)).transpose(0, 2, 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)

    many, times = jnp.repeat(x_t[:1], 20_000, 0), jnp.full(20_000, t)
    drawn = eqx.filter_jit(denoiser.posterior_sample)(jax.random.key(2), many, times)
    assert_drawn_from(count(drawn, STRINGS), weights[0])


@pytest.mark.parametrize("process", [Masking(V), UniformNoise(V), GaussianProcess(V)], ids=lambda p: type(p).__name__)
def test_the_cavity_of_a_site_is_bayes_rule_over_the_other_sites(process):
    """At visible sites too, and where a site contradicts the others: the chain never has 0 behind 0 at the second."""
    denoiser, t = MarkovDenoiser(chain(), process), 0.5
    x0 = jnp.asarray(STRINGS[[5, 40]])
    x_t = jax.jit(jax.vmap(process.corrupt, (0, 0, None)))(jax.random.split(jax.random.key(1), 2), x0, t)
    if isinstance(process, Masking):
        x_t = jnp.concatenate([x_t, jnp.array([[0, 0, 0, 1], [V, V, V, 2]], jnp.int32)])
    times = jnp.full(len(x_t), t)
    factors = np.asarray(jax.jit(jax.vmap(process.log_likelihood))(x_t, times))[:, np.arange(SITES), STRINGS]
    found = np.exp(eqx.filter_jit(denoiser.cavity)(x_t, times))
    for site in range(SITES):
        rest = probabilities(chain()) * np.exp(np.delete(factors, site, 2).sum(2))
        expected = np.stack([rest[:, STRINGS[:, site] == a].sum(1) for a in range(V)], 1)
        total = expected.sum(1, keepdims=True)
        np.testing.assert_allclose(found[:, site], expected / np.where(total > 0, total, 1), atol=1e-12)


def test_a_string_that_the_chain_cannot_make_is_reported():
    x_t = jnp.asarray([[0, 0, 0, 1]], jnp.int32)  # its second step is impossible
    assert (MarkovDenoiser(chain(), Masking(V))(x_t, jnp.array([0.5])) == -jnp.inf).all()


def test_bad_chains_are_refused():
    with pytest.raises(ValueError, match=r"2 symbols need \(sites - 1, 2, 2\)"):
        MarkovChain(jnp.ones(2) / 2, jnp.ones((3, 3, 3)) / 3)
    with pytest.raises(ValueError, match=r"symbols 0 \.\. 2, expected 0 \.\. 1"):
        matched_chain(jnp.array([[0, 2]], jnp.int32), 2)
    with pytest.raises(ValueError, match="at least 2 sites"):
        matched_chain(jnp.zeros((2, 1), jnp.int32), 2)
    with pytest.raises(ValueError, match="the chain has 3 symbols, the process 4"):
        MarkovDenoiser(chain(), Masking(4))
