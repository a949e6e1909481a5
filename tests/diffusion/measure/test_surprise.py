"""Costs of visible tokens: of the list of all strings if the denoiser is exact, closed forms, and a network's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import Masking, TreeUNet, UniformNoise, from_flax, from_function
from diffusion.measure import cut_log_ratios, site_costs, visible_costs
from tests.grammars import enumerated
from theory.exact import GrammarDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
V, SITES = 4, 4
RHM, DATA = enumerated("zipf")
EXACT = GrammarDenoiser(RHM, Masking(V))
WEIGHTS, STRINGS = np.array([weight for weight, _ in DATA]), np.array([levels[-1] for _, levels in DATA])
X_T = np.asarray(Masking(V).corrupt(jax.random.key(1), RHM.sample(jax.random.key(0), (6, 2)).x, 0.4))


def cost(x, sites=range(SITES)):
    """-ln p of the tokens at some sites, the masked ones left out, by the list of all strings."""
    fits = np.ones(len(STRINGS), bool)
    for site in sites:
        fits &= (x[site] == V) | (STRINGS[:, site] == x[site])
    return -np.log(WEIGHTS @ fits)


def test_the_cost_of_what_is_visible_is_that_of_the_list_in_every_order():
    found = visible_costs(jax.random.key(2), EXACT, X_T, num_orders=3, batch_size=7).nats
    assert found.shape == (6, 2, 3) and (X_T == V).any() and (X_T < V).any()
    for n in np.ndindex(6, 2):
        np.testing.assert_allclose(found[n], np.full(3, cost(X_T[n])), rtol=0, atol=1e-10)
    np.testing.assert_array_equal(visible_costs(KEY, EXACT, np.full(SITES, V)).nats, [0.0])
    impossible = [0, 0, 0, 0] if not (STRINGS == 0).all(1).any() else [1, 1, 1, 1]
    assert visible_costs(KEY, EXACT, impossible).nats == np.inf


def test_costs_of_the_denoisers_own_law_are_what_it_expects():
    """Mean 0 at every number of visible tokens, in standard errors."""
    x_t = Masking(V).corrupt(jax.random.key(5), RHM.sample(jax.random.key(6), 3000).x, 0.4)
    found = visible_costs(jax.random.key(7), EXACT, x_t, batch_size=3000)
    surplus, visible = (found.nats - found.expected)[:, 0], np.asarray(x_t < V).sum(1)
    for number in range(1, SITES + 1):
        some = surplus[visible == number]
        assert len(some) > 50 and abs(some.mean()) < 4 * some.std() / len(some) ** 0.5


def test_a_site_costs_what_the_others_say_of_it():
    found = site_costs(EXACT, X_T, batch_size=10)
    for n in np.ndindex(6, 2):
        for site in range(SITES):
            if X_T[n][site] == V:
                assert np.isnan(found[n][site])
                continue
            others = [other for other in range(SITES) if other != site]
            np.testing.assert_allclose(found[n][site], cost(X_T[n]) - cost(X_T[n], others), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("block", "part"), [(4, 2), (2, 1), (4, 1)])
def test_a_block_is_weighed_against_its_parts(block, part):
    found = cut_log_ratios(KEY, EXACT, X_T, block, part)
    assert found.shape == (6, 2, SITES // block)
    for n in np.ndindex(6, 2):
        for number in range(SITES // block):
            inside = range(block * number, block * (number + 1))
            outside = [site for site in range(SITES) if site not in inside]
            apart = sum(cost(X_T[n], range(at, at + part)) for at in inside[::part])
            want = cost(X_T[n]) - cost(X_T[n], outside) - apart
            np.testing.assert_allclose(found[n][number], want, rtol=0, atol=1e-10)


def test_a_broken_block_is_infinitely_unlikely_to_an_exact_denoiser():
    """Leaves 0 and 1 are of no rule: only their block is more likely apart, the other one no exact denoiser knows."""
    pairs = {tuple(pair) for pair in STRINGS[:, :2].tolist()}
    free = next((a, b) for a in range(V) for b in range(V) if (a, b) not in pairs)
    x = np.array([*free, *STRINGS[0, 2:]])
    ratios = cut_log_ratios(KEY, EXACT, x, 2, 1)
    assert (ratios == np.inf).all() and visible_costs(KEY, EXACT, x).nats == np.inf
    ratios = cut_log_ratios(KEY, EXACT, [*free, V, V], 2, 1)
    np.testing.assert_array_equal(ratios, [np.inf, 0])  # where nothing is visible nothing is asked


def test_tokens_of_a_unigram_cost_their_log_probabilities():
    probabilities = np.array([0.5, 0.25, 0.15, 0.1])

    def logits(params, x_t, t):
        return jnp.broadcast_to(params[None, None].astype(t.dtype), (*x_t.shape, V))

    denoiser = from_function(logits, jnp.log(jnp.asarray(probabilities, jnp.float32)), Masking(V), SITES)
    costs = np.append(-np.log(probabilities), 0.0)[X_T]
    found = visible_costs(KEY, denoiser, X_T, 2)
    np.testing.assert_allclose(found.nats, np.repeat(costs.sum(-1, keepdims=True), 2, -1), rtol=1e-5)
    entropy = -(probabilities * np.log(probabilities)).sum() * (X_T < V).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.expected, np.repeat(entropy, 2, -1), rtol=1e-5)
    np.testing.assert_allclose(site_costs(denoiser, X_T.tolist()), np.where(X_T == V, np.nan, costs), rtol=1e-5)
    np.testing.assert_allclose(cut_log_ratios(KEY, denoiser, X_T, 2, 1), np.zeros((6, 2, 2)), atol=1e-5)


def test_a_blind_networks_site_costs_are_its_cavity():
    """And orders disagree, because an untrained network's conditionals are of no joint law."""
    network = TreeUNet(Masking(V), (2, 2), 8, rngs=nnx.Rngs(0))
    denoiser = from_flax(network, Masking(V), SITES, blind=True)
    log_probs = denoiser.cavity(X_T, 0.5)
    want = -np.take_along_axis(np.asarray(log_probs), np.minimum(X_T, V - 1)[..., None], -1)[..., 0]
    np.testing.assert_allclose(site_costs(denoiser, X_T), np.where(X_T == V, np.nan, want), rtol=1e-5)
    assert np.ptp(visible_costs(KEY, denoiser, X_T, 8).nats, -1).max() > 1e-3


def test_what_does_not_fit_is_refused_by_name():
    other = from_function(lambda _, x_t, t: jnp.zeros((*x_t.shape, V)), (), UniformNoise(V), SITES)
    for refused, message in (
        (lambda: visible_costs(KEY, other, X_T), "the denoiser undoes UniformNoise: give one of Masking"),
        (lambda: visible_costs(KEY, EXACT, [[0] * 3]), r"x_t has shape \(1, 3\): the last axes must be \(4,\)"),
        (lambda: site_costs(EXACT, [[0, 1, 2, 5]]), "x_t holds the symbol 5: give symbols 0 .. 3, the mask 4"),
        (lambda: visible_costs(KEY, EXACT, X_T, 0), "num_orders = 0: give a whole number, 1 or above"),
        (lambda: site_costs(EXACT, X_T, batch_size=0), "batch_size = 0: give a whole number, 1 or above"),
        (lambda: cut_log_ratios(KEY, EXACT, X_T, 3, 1), "blocks of 3 sites and parts of 1 in 4 sites: each must"),
        (lambda: cut_log_ratios(KEY, EXACT, X_T, 2, 2), "blocks of 2 sites and parts of 2 in 4 sites: each must"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
