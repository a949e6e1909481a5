"""The states of networks: which nodes they see, that outputs follow from the last, and those of one's own networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    BeliefEmbedding,
    GaussianProcess,
    Masking,
    Transformer,
    TreeUNet,
    VectorMLP,
    VectorProcess,
    from_equinox,
    from_flax,
    from_function,
    from_host,
    load,
    save,
)

V, SITES = 3, 4
PROCESS, GAUSSIAN = Masking(V), GaussianProcess(V)
X_T = np.array([[[3, 0, 3, 1], [2, 3, 3, 3]]], np.uint8)  # leading axes (1, 2)


def tree(process=PROCESS):
    return TreeUNet(process, (2, 2), 8, rngs=nnx.Rngs(0))


def transformer(process=PROCESS, **options):
    rngs = nnx.Rngs(0)
    return Transformer(BeliefEmbedding(process, 8, rngs=rngs), SITES, V, 8, 2, 2, **options, rngs=rngs)


@pytest.fixture(scope="module", params=["tree", "transformer", "causal"])
def denoiser(request):
    if request.param == "tree":
        return from_flax(tree(), PROCESS, SITES, blind=True)
    return from_flax(transformer(causal=request.param == "causal"), PROCESS, SITES, blind=True)


def test_states_have_the_axes_of_the_strings_and_the_output_is_read_out_of_the_last(denoiser):
    states = eqx.filter_jit(denoiser.states)(X_T, 0.5)
    *_, last = states.values()
    assert all(state.shape[:2] == (1, 2) and state.shape[3] == 8 for state in states.values())
    network = denoiser.apply.network(denoiser.params)
    np.testing.assert_allclose(
        eqx.filter_jit(denoiser.cavity)(X_T, 0.5), jax.nn.log_softmax(network.readout(network.norm(last))), atol=1e-5
    )


def influences(network, name):
    """Whether site j can change the state of node i, (i, j)."""
    definition, params = nnx.split(network)
    x_t, t = jax.random.normal(jax.random.key(1), (1, SITES, V), jnp.float32), jnp.array([0.5], jnp.float32)
    read = jax.jit(jax.jacobian(lambda x: nnx.merge(definition, params).states(x, t)[name][0]))
    return np.abs(read(x_t)[:, :, 0]).max((1, 3)) > 0


@pytest.mark.parametrize("level", [0, 1, 2])
def test_upward_states_see_the_leaves_below_a_node_and_downward_states_the_others(level):
    network = tree(GAUSSIAN)
    below = np.repeat(np.eye(2**level, dtype=bool), 2 ** (2 - level), 1)
    np.testing.assert_array_equal(influences(network, f"up_{level}"), below)
    if level:
        np.testing.assert_array_equal(influences(network, f"down_{level}"), ~below)


@pytest.mark.parametrize("reach", [0, 1])
def test_a_causal_transformer_sees_the_sites_up_to_each(reach):
    np.testing.assert_array_equal(
        influences(transformer(GAUSSIAN, causal=True, reach=reach), "layer_2"), np.tri(SITES, dtype=bool)
    )


def test_a_causal_transformer_is_saved_as_such(tmp_path):
    denoiser = from_flax(transformer(causal=True), PROCESS, SITES)
    save(denoiser, tmp_path / "net")
    again = load(tmp_path / "net")
    assert again.apply == denoiser.apply
    states = eqx.filter_jit(lambda denoiser: denoiser.states(X_T, 0.5))
    jax.tree.map(np.testing.assert_array_equal, states(again), states(denoiser))


class Own(eqx.Module):
    """A network of one datum, whose one state is what it returns."""

    table: jax.Array

    def __call__(self, x_t, t):
        return self.table[x_t]

    def states(self, x_t, t):
        return {"table": self(x_t, t)}


def test_a_network_of_ones_own_gives_states_by_its_method_or_by_a_function(tmp_path):
    table = jax.random.normal(jax.random.key(0), (V + 1, V), jnp.float32)
    want = np.asarray(table)[X_T]
    by_method = from_equinox(Own(table), PROCESS, SITES)
    function = from_function(lambda w, x_t, t: w[x_t], table, PROCESS, SITES, states=lambda w, x_t, t: {"mine": w[x_t]})
    np.testing.assert_array_equal(by_method.states(X_T, 0.5)["table"], want)
    np.testing.assert_array_equal(function.states(X_T, 0.5)["mine"], want)
    flax = from_flax(tree(), PROCESS, SITES, states=lambda network, x_t, t: {"embedding": network.embedding(x_t, t)})
    leaves = from_flax(tree(), PROCESS, SITES).states(X_T, 0.5)["up_2"]
    np.testing.assert_array_equal(flax.states(X_T, 0.5)["embedding"], leaves)
    save(flax, tmp_path / "net")  # a network of ours is saved without the function
    np.testing.assert_array_equal(load(tmp_path / "net").states(X_T, 0.5)["up_2"], leaves)


def test_what_gives_no_states_is_refused_by_name():
    class Silent(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(V + 1, V, rngs=nnx.Rngs(0))

        def __call__(self, x_t, t):
            return self.embed(x_t)

    with pytest.raises(ValueError, match=r"Silent has no method states\(x_t, t\): write one, or give states="):
        from_flax(Silent(), PROCESS, SITES).states(X_T, 0.5)
    host = from_host(lambda x_t, t: np.zeros((*x_t.shape, V)), PROCESS, SITES)
    with pytest.raises(ValueError, match="gives no states: give states="):
        host.states(X_T, 0.5)
    with pytest.raises(ValueError, match=r"state 'a' of 2 strings has shape \(2, 4\): give \(batch, nodes, width\)"):
        from_flax(Silent(), PROCESS, SITES, states=lambda network, x_t, t: {"a": x_t})
    with pytest.raises(ValueError, match="is for strings"):
        from_flax(VectorMLP(4, 8, 1, rngs=nnx.Rngs(0)), VectorProcess(), 4, states=lambda network, x, t: {"a": x})
