"""Steering: planted directions are found, symbols move what a visible symbol would, and misfits are refused by name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import BeliefEmbedding, Masking, Transformer, TreeUNet, from_flax
from diffusion.measure import probing

V, SITES, WIDTH = 3, 4, 8
PROCESS = Masking(V)


def planted(seed, nodes=2, data=64):
    """States that are linear in beliefs: beliefs (nodes, data, V), W and states."""
    rng = np.random.default_rng(seed)
    beliefs, weights = rng.dirichlet(np.ones(V), (nodes, data)), rng.normal(size=(nodes, V, WIDTH))
    return beliefs, weights, beliefs @ weights + rng.normal(size=(nodes, 1, WIDTH))


def test_planted_directions_are_found_but_for_the_one_along_which_probabilities_do_not_vary():
    beliefs, weights, states = planted(0)
    found = eqx.filter_jit(probing.fit_directions)(states, beliefs).weights
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), weights - weights.mean(1, keepdims=True), atol=1e-3
    )


def test_ridge_regression_of_noisy_states_solves_the_normal_equations():
    beliefs, _, states = planted(1, 1)
    states = states[0] + np.random.default_rng(2).normal(size=states[0].shape)
    found = probing.fit_directions(states, beliefs[0]).weights
    ridge = float(probing.fit_probe(beliefs[0], states).ridge)
    inside = beliefs[0] - beliefs[0].mean(0)
    gram = inside.T @ inside
    want = np.linalg.solve(gram + ridge * np.trace(gram) / V * np.eye(V), inside.T @ (states - states.mean(0)))
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-9)


def test_states_that_are_linear_in_beliefs_arrive_where_one_is_certain_and_strength_goes_on_from_there():
    beliefs, weights, states = planted(3)
    symbols = np.random.default_rng(4).integers(0, V, (64, 2)).astype(np.int8)
    symbols[::3, 1] = -1
    directions = probing.fit_directions(states, beliefs)
    at, p = jnp.asarray(np.moveaxis(states, 0, 1)), np.moveaxis(beliefs, 0, 1)
    certain = np.where(
        (symbols >= 0)[..., None], at + weights[np.arange(2), symbols] - np.moveaxis(beliefs @ weights, 0, 1), at
    )
    for strength in (1.0, 2.5):
        change = probing.toward("h", directions, p, symbols, strength)
        assert change("other", at) is at
        np.testing.assert_allclose(change("h", at), at + strength * (certain - at), atol=2e-3)


def believed(x_t):
    return jax.nn.softmax(PROCESS.log_likelihood(x_t, 0.5).astype(jnp.float32))


@pytest.mark.parametrize("kind", ["tree", "transformer"])
def test_steering_the_embedding_of_a_masked_site_is_showing_it_the_symbol(kind):
    """Embeddings are linear in the beliefs of sites: directions are exact, whatever the network above them does."""
    rngs = nnx.Rngs(0)
    if kind == "tree":
        layer, network = "up_2", TreeUNet(PROCESS, (2, 2), WIDTH, rngs=rngs)
    else:
        embedding = BeliefEmbedding(PROCESS, WIDTH, rngs=rngs)
        layer, network = "embedding", Transformer(embedding, SITES, V, WIDTH, 2, 2, rngs=rngs)
    denoiser = from_flax(network, PROCESS, SITES, blind=True)  # so that its output is given at every site
    any_t = jax.random.randint(jax.random.key(1), (32, SITES), 0, V + 1)
    fitted = denoiser.states(any_t, 0.5)[layer], believed(any_t)
    directions = probing.fit_directions(*(jnp.moveaxis(table, 1, 0) for table in fitted))
    x_t = any_t.reshape(2, 16, SITES).at[..., 1].set(V)
    symbols = jnp.full((2, 16, SITES), -1).at[..., 1].set(jax.random.randint(jax.random.key(2), (2, 16), 0, V))
    change = probing.toward(layer, directions, believed(x_t), symbols)
    shown = x_t.at[..., 1].set(symbols[..., 1])
    np.testing.assert_allclose(denoiser.steered(change).cavity(x_t, 0.5), denoiser.cavity(shown, 0.5), atol=2e-3)


def test_one_set_of_directions_and_one_string_serve_all():
    beliefs, _, states = planted(5)
    shared = probing.fit_directions(states.reshape(-1, WIDTH), beliefs.reshape(-1, V))
    change = probing.toward("h", shared, np.full((2, V), 1 / V), [1, -1])
    moved = change("h", jnp.zeros((5, 2, WIDTH)))
    want = shared.weights[1] - shared.weights.mean(0)
    np.testing.assert_allclose(moved, np.broadcast_to(np.stack([want, 0 * want]), (5, 2, WIDTH)), atol=1e-9)


def test_moves_add_up_where_a_steered_denoiser_is_steered_again():
    """Two moves of three strings each, one after the other, are their sum."""
    network = from_flax(TreeUNet(PROCESS, (2, 2), WIDTH, rngs=nnx.Rngs(0)), PROCESS, SITES)
    x_t = jnp.full((3, SITES), V)
    first, second = (
        probing.Shift("down_1", jax.random.normal(jax.random.key(n), (3, 2, WIDTH), jnp.float32)) for n in (1, 2)
    )
    both = probing.Shift("down_1", first.move + second.move)
    twice = network.steered(first).steered(second)(x_t, 0.5)
    np.testing.assert_allclose(twice, network.steered(both)(x_t, 0.5), atol=1e-5)


def test_inside_programs_what_is_no_symbol_or_no_probability_moves_to_nan():
    beliefs, _, states = planted(7)
    directions = probing.fit_directions(states, beliefs)

    @jax.jit
    def move(p, symbols):
        return probing.toward("h", directions, p, symbols).move

    even = np.full((2, V), 1 / V)
    np.testing.assert_array_equal(np.isnan(move(even, np.array([9, -1]))).all(-1), [[True, False]])
    np.testing.assert_array_equal(np.isnan(move(even * [[1], [3]], np.array([0, 0]))).all(-1), [[False, True]])


def test_what_does_not_fit_is_refused_by_name():
    beliefs, _, states = planted(6)
    p, directions = np.moveaxis(beliefs, 0, 1), probing.fit_directions(states, beliefs)
    symbols = np.zeros((64, 2), int)
    for call, message in (
        (lambda: probing.fit_directions(states, np.log(beliefs)), "the beliefs are no probabilities"),
        (lambda: probing.fit_directions(states, beliefs / 2), "of sum 1 over the last axis"),
        (lambda: probing.fit_directions(states[:, :9], beliefs), r"shape \(2, 9, 8\), beliefs \(2, 64, 3\)"),
        (lambda: probing.fit_directions(states * np.nan, beliefs), "the states hold NaN"),
        (lambda: probing.toward("h", directions, p, symbols + 3), r"a symbol is outside 0 \.\. 2"),
        (lambda: probing.toward("h", directions, p, symbols[:9]), r"symbols \(9, 2\), strength \(\)"),
        (lambda: probing.toward("h", directions, p[:, :1], symbols[:, :1]), r"\(2, 3, 8\), beliefs \(64, 1, 3\)"),
        (lambda: probing.toward("h", directions, p, symbols, [1.0, 2.0]), r"strength \(2,\)"),
        (lambda: probing.toward("h", directions, p, symbols)("h", jnp.zeros((9, 2, 8))), r"states are of \(9, 2, 8\)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
