"""One interface: the same weights give the same posterior through every door, and the evidence is added exactly."""

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
    TokenEmbedding,
    Transformer,
    TreeUNet,
    UniformNoise,
    VectorProcess,
    forward_backward,
    from_equinox,
    from_flax,
    from_function,
    from_host,
)
from diffusion.measure import LineGeometry, change_sums

V, SITES = 3, 8
PROCESS = Masking(V)
X_T = jnp.array([[3, 0, 3, 1, 2, 3, 0, 0], [3, 3, 3, 3, 3, 3, 3, 3]], jnp.int32)
T = jnp.array([0.3, 0.9], jnp.float32)


def weights():
    table_key, readout_key, time_key = jax.random.split(jax.random.key(0), 3)
    return {
        "table": jax.random.normal(table_key, (V + 1, 5), jnp.float32),
        "readout": jax.random.normal(readout_key, (5, V), jnp.float32),
        "time": jax.random.normal(time_key, (V,), jnp.float32),
    }


def logits(w, x_t, t):
    """Of one string: each site sees the site after it, so the network is neither blind nor symmetric."""
    h = w["table"][x_t]
    return jnp.tanh(h + jnp.roll(h, 1, 0)) @ w["readout"] + t * w["time"][None]


class InEquinox(eqx.Module):
    w: dict
    bend: object = jnp.tanh  # a function among the fields, as in eqx.nn.MLP

    def __call__(self, x_t, t):
        return logits(self.w, x_t, t)


class InFlax(nnx.Module):
    def __init__(self, w):
        self.table, self.readout, self.time = nnx.Param(w["table"]), nnx.Param(w["readout"]), nnx.Param(w["time"])
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(1))  # holds a random key and a counter

    def __call__(self, x_t, t):
        w = {"table": self.table[...], "readout": self.readout[...], "time": self.time[...]}
        return self.dropout(jax.vmap(logits, (None, 0, 0))(w, x_t, t))


def through(door, **options):
    w = weights()
    if door == "equinox":
        return from_equinox(InEquinox(w), PROCESS, SITES, **options)
    if door == "flax":
        return from_flax(InFlax(w), PROCESS, SITES, **options)
    if door == "function":
        return from_function(jax.vmap(logits, (None, 0, 0)), w, PROCESS, SITES, **options)
    return from_host(in_numpy, PROCESS, SITES, **options)


@pytest.mark.parametrize("door", ["equinox", "flax", "host"])
def test_same_weights_give_the_same_posterior_through_every_door(door):
    got, want = (eqx.filter_jit(through(name))(X_T, T) for name in (door, "function"))
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("door", ["equinox", "flax", "function", "host"])
def test_a_network_that_is_called_blind_has_a_cavity_at_visible_sites(door):
    """That of equation (1), its own output; of a network that sees the sites it is unknown there."""
    seeing, blind = (through(door, blind=blind) for blind in (False, True))
    want = jax.nn.log_softmax(jax.vmap(logits, (None, 0, 0))(weights(), X_T, T))
    np.testing.assert_allclose(blind.cavity(X_T, T), want, atol=1e-6)
    visible = np.asarray(X_T) != V
    known = np.asarray(seeing.cavity(X_T, T))
    assert np.isnan(known[visible]).all() and visible.any()
    np.testing.assert_allclose(known[~visible], want[~visible], atol=1e-6)


@pytest.mark.parametrize(
    "door",
    [
        lambda *of, **options: from_equinox(eqx.nn.Lambda(lambda x, key: x), *of, **options),
        lambda *of, **options: from_function(lambda params, x, t: x, {}, *of, **options),
        lambda *of, **options: from_host(lambda x, t: x, *of, **options),
    ],
    ids=["equinox", "function", "host"],
)
def test_no_network_of_arrays_is_blind(door):
    with pytest.raises(ValueError, match="blind = True is for strings"):
        door(VectorProcess(), SITES, blind=True)


@pytest.mark.parametrize("door", ["equinox", "flax", "function"])
def test_parameters_are_what_is_trained(door):
    """Three float32 tables and nothing else: no random keys, no functions."""
    params = jax.tree.leaves(through(door).params)
    assert sorted(p.shape for p in params) == [(3,), (4, 5), (5, 3)] and all(p.dtype == jnp.float32 for p in params)


def test_posterior_is_the_network_output_plus_the_evidence():
    """p(x_0^i | x_t) ~ exp(f_i(x)) q(x_t^i | x), with q(y | x) = (1 - t) [y = x] + t / v."""
    process, x_t = UniformNoise(V), jnp.where(X_T == V, 0, X_T)
    w = {name: np.asarray(value, np.float64) for name, value in weights().items()}
    denoiser = from_function(jax.vmap(logits, (None, 0, 0)), weights(), process, SITES)
    got = jnp.exp(denoiser(x_t, T))
    for row, (x, t) in enumerate(zip(np.asarray(x_t), np.asarray(T), strict=True)):
        h = w["table"][x]
        cavity = np.exp(np.tanh(h + np.roll(h, 1, 0)) @ w["readout"] + t * w["time"])
        joint = cavity * ((1 - t) * np.eye(V)[x] + t / V)
        np.testing.assert_allclose(got[row], joint / joint.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("door", ["equinox", "flax", "function"])
def test_visible_tokens_are_carried_over_exactly(door):
    got = np.asarray(through(door)(X_T, T))
    visible = np.asarray(X_T) != V
    known = np.where(np.eye(V) > 0, 0.0, -np.inf)
    np.testing.assert_array_equal(got[visible], known[np.asarray(X_T)[visible]])
    assert np.isfinite(got[~visible]).all()


def test_bfloat16_output_gives_a_normalised_float32_posterior():
    def half(w, x_t, t):
        return jax.vmap(logits, (None, 0, 0))(w, x_t, t).astype(jnp.bfloat16)

    got = from_function(half, weights(), PROCESS, SITES)(X_T, T)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(got).sum(-1), np.ones(X_T.shape), atol=1e-6)  # bfloat16 alone: 4e-3


def test_a_site_that_the_channel_excludes_is_minus_infinity_not_nan():
    """No mask can be seen at t = 0 and no symbol at t = 1."""
    got = np.asarray(through("function")(X_T, jnp.array([0.0, 1.0], jnp.float32)))
    excluded = np.asarray(X_T)[0] == V
    assert (got[0, excluded] == -np.inf).all() and not np.isnan(got).any()
    np.testing.assert_allclose(np.exp(got[1]).sum(-1), np.ones(SITES), atol=1e-6)


@pytest.mark.parametrize("wrong", [lambda _, x_t, t: jnp.zeros((*x_t.shape, V + 1)), lambda _, x_t, t: (x_t, t)])
def test_wrong_output_shape_is_refused_with_the_shape_that_is_needed(wrong):
    with pytest.raises(ValueError, match=r"\(2, 8, 3\): give its last layer 3 outputs per site"):
        from_function(wrong, {}, PROCESS, SITES)


def test_wrong_output_shape_is_refused_for_equinox():
    class Summed(eqx.Module):
        w: dict

        def __call__(self, x_t, t):
            return logits(self.w, x_t, t).sum(0)

    with pytest.raises(ValueError, match=r"shape=\(2, 3\).* \(2, 8, 3\): give its last layer 3 outputs per site"):
        from_equinox(Summed(weights()), PROCESS, SITES)


def test_wrong_output_shape_is_refused_for_flax():
    network = TreeUNet(PROCESS, (2, 2, 2), 8, rngs=nnx.Rngs(0))
    network.readout = nnx.Linear(8, V + 1, rngs=nnx.Rngs(1))
    with pytest.raises(ValueError, match=r"\(2, 8, 3\): give its last layer 3 outputs per site"):
        from_flax(network, PROCESS, SITES)


@pytest.mark.parametrize("branching", [(2, 2, 2), (3, 2)])
def test_tree_network_never_sees_the_site_it_speaks_of(branching):
    """d logits_i / d x_t^i is exactly zero, and logits_i depends on every other site."""
    process, sites = GaussianProcess(V), int(np.prod(branching))
    network = TreeUNet(process, branching, 8, rngs=nnx.Rngs(0))
    x_t = jax.random.normal(jax.random.key(1), (1, sites, V), jnp.float32)
    t = jnp.array([0.5], jnp.float32)
    definition, params = nnx.split(network)
    jacobian = jax.jit(jax.jacobian(lambda x: nnx.merge(definition, params)(x, t)[0]))(x_t)[:, :, 0]  # (i, v, j, v)
    influence = np.abs(jacobian).max((1, 3))
    np.testing.assert_array_equal(influence.diagonal(), 0)
    assert (influence[~np.eye(sites, dtype=bool)] > 0).all()


def test_transformer_sees_every_site():
    process = GaussianProcess(V)
    network = Transformer(BeliefEmbedding(process, 8, rngs=nnx.Rngs(0)), SITES, V, 8, 1, 2, rngs=nnx.Rngs(1))
    definition, params = nnx.split(network)
    x_t, t = jax.random.normal(jax.random.key(1), (1, SITES, V), jnp.float32), jnp.array([0.5], jnp.float32)
    jacobian = jax.jit(jax.jacobian(lambda x: nnx.merge(definition, params)(x, t)[0]))(x_t)[:, :, 0]
    assert (np.abs(jacobian).max((1, 3)) > 0).all()


NETWORKS = {
    "tree 2 2 2": lambda process, rngs: (TreeUNet(process, (2, 2, 2), 8, rngs=rngs), 8),
    "tree 3 2": lambda process, rngs: (TreeUNet(process, (3, 2), 8, rngs=rngs), 6),
    "transformer": lambda process, rngs: (
        Transformer(BeliefEmbedding(process, 8, rngs=rngs), 6, V, 8, 1, 2, rngs=rngs),
        6,
    ),
}


@pytest.mark.parametrize(
    ("name", "process"),
    [
        pytest.param(name, process, marks=() if i == j else pytest.mark.slow)
        for i, name in enumerate(NETWORKS)
        for j, process in enumerate((Masking(V), UniformNoise(V), GaussianProcess(V)))
    ],
    ids=lambda p: p if isinstance(p, str) else type(p).__name__,
)
def test_networks_give_normalised_float32_posteriors_for_every_process(name, process):
    network, sites = NETWORKS[name](process, nnx.Rngs(0))
    denoiser = from_flax(network, process, sites)
    x0 = jnp.zeros((2, sites), jnp.int32)
    x_t = jax.jit(jax.vmap(process.corrupt))(jax.random.split(jax.random.key(2)), x0, T)
    got = eqx.filter_jit(denoiser)(x_t, T)
    assert got.shape == (2, sites, V) and got.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(got).sum(-1), np.ones((2, sites)), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_impossible_string_has_no_posterior_and_leaves_the_others_alone(name):
    """At t = 1 all is masked, so a string with a visible symbol cannot be: `-inf` at all its sites, NaN nowhere."""
    process = Masking(V)
    network, sites = NETWORKS[name](process, nnx.Rngs(0))
    denoiser, t = from_flax(network, process, sites), jnp.ones(2, jnp.float32)
    possible = jnp.full((2, sites), V, jnp.int32)
    got = eqx.filter_jit(denoiser)(possible.at[0, 1].set(0), t)
    np.testing.assert_array_equal(got[0], -np.inf)
    np.testing.assert_array_equal(got[1], eqx.filter_jit(denoiser)(possible, t)[1])


def test_token_embedding_reads_the_mask_as_one_more_symbol():
    network = Transformer(TokenEmbedding(PROCESS, 8, rngs=nnx.Rngs(0)), SITES, V, 8, 1, 2, rngs=nnx.Rngs(1))
    got = eqx.filter_jit(from_flax(network, PROCESS, SITES))(X_T, T)
    np.testing.assert_allclose(jnp.exp(got).sum(-1), np.ones(X_T.shape), atol=1e-5)


def test_transformer_refuses_a_width_that_its_heads_cannot_share_and_a_negative_reach():
    with pytest.raises(ValueError, match="width = 8 is not a multiple of num_heads = 3"):
        Transformer(TokenEmbedding(PROCESS, 8, rngs=nnx.Rngs(0)), SITES, V, 8, 1, 3, rngs=nnx.Rngs(1))
    with pytest.raises(ValueError, match="reach = -1 is negative"):
        Transformer(TokenEmbedding(PROCESS, 8, rngs=nnx.Rngs(0)), SITES, V, 8, 1, 2, reach=-1, rngs=nnx.Rngs(1))


def test_without_local_mixing_a_transformer_does_not_know_the_order_of_sites_but_by_their_positions():
    network = Transformer(TokenEmbedding(PROCESS, 8, rngs=nnx.Rngs(0)), SITES, V, 8, 1, 2, reach=0, rngs=nnx.Rngs(1))
    network.position[...] = jnp.zeros_like(network.position[...])
    denoise = eqx.filter_jit(from_flax(network, PROCESS, SITES))
    np.testing.assert_allclose(denoise(X_T[:, ::-1], T), denoise(X_T, T)[:, ::-1], atol=1e-5)


def in_numpy(x_t, t):
    w = jax.tree.map(np.asarray, weights())
    h = w["table"][x_t]
    return np.tanh(h + np.roll(h, 1, 1)) @ w["readout"] + t[:, None, None] * w["time"]


def regenerated(denoiser):
    """Strings and sums of changes: both compiled, with the denoiser called at every step of the sampler."""
    x0 = jnp.zeros((2, SITES), jnp.int32)
    strings = forward_backward(jax.random.key(1), denoiser, x0[0], jnp.float32(0.7), num_trajectories=4)
    found = change_sums(
        jax.random.key(2), denoiser, x0, jnp.float32(0.7), LineGeometry(SITES), num_trajectories=4, strings_at_once=4
    )
    return strings, found.sums


def test_a_function_of_numpy_arrays_runs_the_same_experiments():
    expected = regenerated(from_function(jax.vmap(logits, (None, 0, 0)), weights(), PROCESS, SITES))
    for got, wanted in zip(regenerated(from_host(in_numpy, PROCESS, SITES)), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_pytorch_network_runs_the_same_experiments():
    torch = pytest.importorskip("torch", reason='PyTorch comes with pip install "phasetree[peers]"')

    class InTorch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in weights().items():
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(np.array(value))))

        @torch.no_grad()
        def forward(self, x_t, t):
            h = self.table[x_t]
            return torch.tanh(h + torch.roll(h, 1, 1)) @ self.readout + t[:, None, None] * self.time

    expected = regenerated(from_function(jax.vmap(logits, (None, 0, 0)), weights(), PROCESS, SITES))
    denoiser = from_host(InTorch(), PROCESS, SITES, arrays=torch.from_dlpack)
    for got, wanted in zip(regenerated(denoiser), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_function_on_the_host_with_a_wrong_shape_is_refused_at_once():
    with pytest.raises(ValueError, match=r"returned \(2, 8\); expected logits .* = \(2, 8, 3\)"):
        from_host(lambda x_t, t: np.zeros(x_t.shape), PROCESS, SITES)
