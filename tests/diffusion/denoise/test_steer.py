"""Steered networks: nothing moves without a change, what follows a changed state, doors, and refusals by name."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import monitoring

from diffusion import (
    BeliefEmbedding,
    Masking,
    Transformer,
    TreeUNet,
    forward_backward,
    from_equinox,
    from_flax,
    from_function,
    from_host,
)

V, SITES, WIDTH = 3, 4, 8
PROCESS = Masking(V)
X_T = np.array([[[3, 0, 3, 1], [2, 3, 3, 3]]], np.uint8)  # leading axes (1, 2)


def made(kind):
    rngs = nnx.Rngs(0)
    if kind == "tree":
        return from_flax(TreeUNet(PROCESS, (2, 2), WIDTH, rngs=rngs), PROCESS, SITES, blind=True)
    embedding = BeliefEmbedding(PROCESS, WIDTH, rngs=rngs)
    network = Transformer(embedding, SITES, V, WIDTH, 2, 2, causal=kind == "causal", rngs=rngs)
    return from_flax(network, PROCESS, SITES, blind=True)  # its output is then given at every site


DENOISERS = {kind: made(kind) for kind in ("tree", "transformer", "causal")}


class Add(eqx.Module):
    """Adds numbers to the state of one layer."""

    layer: str = eqx.field(static=True)
    move: jax.Array

    def __call__(self, name, state):
        return state + self.move if name == self.layer else state


def at_node(nodes, node, size=1.0):
    return jnp.zeros((1, nodes, WIDTH), jnp.float32).at[:, node].set(size)


@pytest.mark.parametrize("kind", DENOISERS)
def test_a_change_that_changes_no_number_gives_the_same_bits(kind):
    denoiser = DENOISERS[kind]
    steered = denoiser.steered(lambda name, state: state * 1)
    for call in ("__call__", "cavity", "states"):
        want, found = (eqx.filter_jit(getattr(which, call))(X_T, 0.5) for which in (denoiser, steered))
        jax.tree.map(np.testing.assert_array_equal, found, want)
    network, x_t, t = denoiser.apply.network(denoiser.params), jnp.asarray(X_T[0]), jnp.full(2, 0.5, jnp.float32)
    np.testing.assert_array_equal(network(x_t, t, change=lambda name, state: state), network(x_t, t))


@pytest.mark.parametrize(("kind", "last"), [("tree", "down_2"), ("causal", "layer_2")])
def test_a_change_of_the_last_state_is_read_out_by_hand(kind, last):
    denoiser = DENOISERS[kind]
    network, move = denoiser.apply.network(denoiser.params), at_node(SITES, 1, 0.3)
    state = denoiser.states(X_T[0], 0.5)[last] + move
    want = jax.nn.log_softmax(network.readout(network.norm(state)))
    steered = denoiser.steered(Add(last, move))
    np.testing.assert_allclose(steered.cavity(X_T[0], 0.5), want, atol=1e-5)
    np.testing.assert_allclose(steered.states(X_T[0], 0.5)[last], state, atol=1e-6)


def moved_sites(kind, layer, nodes, node):
    """The sites whose cavity a change of one node moves."""
    plain, steered = (
        d.cavity(X_T, 0.5) for d in (DENOISERS[kind], DENOISERS[kind].steered(Add(layer, at_node(nodes, node))))
    )
    return np.flatnonzero(np.abs(np.asarray(plain - steered)).max((0, 1, 3)) > 1e-6).tolist()


def test_a_change_of_a_downward_state_moves_the_leaves_below_its_node_alone():
    assert moved_sites("tree", "down_1", 2, 0) == [0, 1] and moved_sites("tree", "down_1", 2, 1) == [2, 3]
    assert moved_sites("tree", "down_2", 4, 2) == [2]


def test_a_change_of_an_upward_state_moves_the_leaves_outside_its_node_alone():
    assert moved_sites("tree", "up_1", 2, 0) == [2, 3] and moved_sites("tree", "up_2", 4, 1) == [0, 2, 3]


def test_a_change_in_a_causal_transformer_moves_the_sites_from_there_on():
    assert moved_sites("causal", "embedding", 4, 1) == [1, 2, 3] and moved_sites("causal", "layer_1", 4, 2) == [2, 3]
    assert moved_sites("transformer", "layer_1", 4, 2) == [0, 1, 2, 3] and moved_sites("causal", "layer_2", 4, 2) == [2]


def test_a_steered_denoiser_is_steered_again_after_its_own_change():
    """Adding and then doubling; the order shows."""
    denoiser, add = DENOISERS["tree"], Add("down_2", at_node(4, 2))
    twice = denoiser.steered(add).steered(lambda name, state: 2 * state if name == "down_2" else state)
    want = 2 * (denoiser.states(X_T[0], 0.5)["down_2"] + add.move)
    np.testing.assert_allclose(twice.states(X_T[0], 0.5)["down_2"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", DENOISERS)
def test_steering_works_under_jit_grad_and_vmap(kind):
    layer = "down_1" if kind == "tree" else "layer_1"
    denoiser, nodes = DENOISERS[kind], 2 if kind == "tree" else 4

    def read(move, x_t):
        return denoiser.steered(Add(layer, move))(x_t, 0.5)

    moves, want = jnp.stack([at_node(nodes, 0, size) for size in (0.1, 0.2)]), read(at_node(nodes, 0, 0.2), X_T)
    np.testing.assert_allclose(jax.jit(jax.vmap(read, (0, None)))(moves, X_T)[1], want, atol=1e-5)
    slope = jax.jit(jax.grad(lambda move: read(move, X_T)[0, 0, 0, 0]))(moves[0])
    step = 1e-2 * at_node(nodes, 0)
    change = (read(moves[0] + step, X_T) - read(moves[0] - step, X_T))[0, 0, 0, 0]
    np.testing.assert_allclose((slope * step).sum(), change / 2, rtol=2e-2, atol=1e-5)


def test_a_second_change_of_the_same_shapes_compiles_nothing():
    programs = []

    def listen(event, duration, **details):
        programs.extend([event] * (event == "/jax/core/compile/backend_compile_duration"))

    def run(n):
        steered = DENOISERS["tree"].steered(Add("down_1", moves[n]))
        return jax.block_until_ready(forward_backward(jax.random.key(n), steered, X_T % V, 0.5, num_trajectories=2))

    moves = [np.full((1, 2, WIDTH), size, np.float32) for size in (0.5, 1.5)]
    run(0)
    monitoring.register_event_duration_secs_listener(listen)
    run(1)
    monitoring.clear_event_listeners()
    assert not programs


class Own(eqx.Module):
    """An Equinox network of one datum with one state, a row of a table for each site."""

    table: jax.Array

    def __call__(self, x_t, t, change=lambda name, state: state):
        return self.states(x_t, t, change)["row"] @ jnp.ones((WIDTH, V), jnp.float32)

    def states(self, x_t, t, change=lambda name, state: state):
        return {"row": change("row", self.table[x_t])}


def test_networks_of_ones_own_are_steered_through_every_door():
    """The change of an Equinox network, called string by string, is given the states of all strings at once."""
    table = jax.random.normal(jax.random.key(0), (V + 1, WIDTH), jnp.float32)
    move = jax.random.normal(jax.random.key(1), (2, SITES, WIDTH), jnp.float32)
    row = np.asarray(table)[X_T[0]] + move
    equinox = from_equinox(Own(table), PROCESS, SITES, blind=True)  # its output is then given at every site

    def function(table, x_t, t, change=lambda name, state: state):
        return read(table, x_t, t, change)["row"] @ jnp.ones((WIDTH, V), jnp.float32)

    def read(table, x_t, t, change=lambda name, state: state):
        return {"row": change("row", table[x_t])}

    plain = from_function(function, table, PROCESS, SITES, blind=True, states=read)
    for denoiser in (equinox, plain):
        steered = denoiser.steered(Add("row", move))
        np.testing.assert_allclose(steered.states(X_T[0], 0.5)["row"], row, atol=1e-6)
        want = jax.nn.log_softmax(row @ np.ones((WIDTH, V), np.float32))
        np.testing.assert_allclose(eqx.filter_jit(steered.cavity)(X_T[0], 0.5), want, atol=1e-4)
    slope = jax.grad(lambda move: equinox.steered(Add("row", move))(X_T[0], 0.5)[0, 0, 0])(move)
    assert slope.shape == move.shape and np.isfinite(slope).all()
    without = from_function(function, table, PROCESS, SITES, blind=True).steered(Add("row", move))
    np.testing.assert_allclose(
        without.cavity(X_T[0], 0.5), equinox.steered(Add("row", move)).cavity(X_T[0], 0.5), atol=1e-5
    )
    with pytest.raises(ValueError, match="gives no states: give states="):
        without.states(X_T[0], 0.5)


def test_networks_that_take_no_change_are_refused_by_name():
    class Still(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(V + 1, V, rngs=nnx.Rngs(0))

        def __call__(self, x_t, t):
            return self.embed(x_t)

    table = jnp.zeros((V + 1, V), jnp.float32)
    tree = TreeUNet(PROCESS, (2, 2), WIDTH, rngs=nnx.Rngs(0))

    def own(table, x_t, t):
        return table[x_t]

    def deaf(table, x_t, t, change=None):
        return table[x_t]

    for denoiser, message in (
        (from_flax(Still(), PROCESS, SITES), r"Still does not take change, .* compute on with change\(name, state\)"),
        (from_function(own, table, PROCESS, SITES, states=lambda w, x, t: {"a": w[x]}), "own does not take change"),
        (from_function(deaf, table, PROCESS, SITES), "takes change, but calls it for no state"),
        (from_flax(tree, PROCESS, SITES, states=lambda n, x, t: {"a": n.embedding(x, t)}), "lambda> does not take"),
        (from_host(lambda x_t, t: np.zeros((*x_t.shape, V)), PROCESS, SITES), "HostApply does not take change"),
        (dataclasses.replace(DENOISERS["tree"], apply=own, params=table), "own does not take change"),
    ):
        with pytest.raises(ValueError, match=message):
            denoiser.steered(lambda name, state: state * 1)


def test_changes_that_do_not_fit_are_refused_by_name():
    denoiser = DENOISERS["tree"]
    for change, message in (
        (lambda name, state: state[:, :1], r"state 'up_2' returns float32 \(2, 1, 8\): return float32 \(2, 4, 8\)"),
        (lambda name, state: state.astype(jnp.bfloat16), "state 'up_2' returns bfloat16"),
        (lambda name, state: None, "state 'up_2' returns NoneType"),
        (Add("down_3", at_node(4, 0)), "every state as it was: the states are up_2, up_1, up_0, down_1, down_2"),
    ):
        with pytest.raises(ValueError, match=message):
            denoiser.steered(change)(X_T, 0.5)
