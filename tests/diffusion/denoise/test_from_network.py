"""How doors treat all that is not a parameter: dropout, statistics, integers, and functions of the host."""

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen, nnx

from diffusion import (
    Ancestral,
    Masking,
    PredictMean,
    TrainConfig,
    VarianceExploding,
    VectorProcess,
    from_flax,
    from_function,
    from_host,
    train,
)
from diffusion.measure import dimension
from diffusion.training.sources import Finite

V, SITES = 3, 4
PROCESS = Masking(V)
X_T = jnp.array([[3, 0, 3, 1], [2, 3, 3, 3]], jnp.int32)
T = jnp.array([0.3, 0.9], jnp.float32)
sample = eqx.filter_jit(Ancestral(3))


class Live(nnx.Module):
    """Dropout and batch norm as they are made, in training mode, the running statistics not those of a start."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed, self.readout = nnx.Embed(V + 1, 8, rngs=rngs), nnx.Linear(8, V, rngs=rngs)
        self.drop, self.norm = nnx.Dropout(0.5, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.norm.mean[...], self.norm.var[...] = jnp.full(8, 0.3, jnp.float32), jnp.full(8, 2.0, jnp.float32)

    def __call__(self, x_t, t):
        return self.readout(self.norm(self.drop(self.embed(x_t))))


def in_numpy(network, x_t):
    """`Live` without dropout, with the running statistics."""
    h = np.asarray(network.embed.embedding[...])[x_t]
    h = (h - 0.3) / np.sqrt(2 + network.norm.epsilon)
    h = h * np.asarray(network.norm.scale[...]) + np.asarray(network.norm.bias[...])
    return h @ np.asarray(network.readout.kernel[...]) + np.asarray(network.readout.bias[...])


def test_dropout_is_off_and_batch_statistics_are_the_running_ones():
    network = Live()
    denoiser = from_flax(network, PROCESS, SITES)
    np.testing.assert_allclose(denoiser.apply(denoiser.params, X_T, T), in_numpy(network, np.asarray(X_T)), atol=1e-5)
    assert not network.drop.deterministic and not network.norm.use_running_average  # the user's network is as it was


def test_such_a_network_can_be_sampled_from_and_trained():
    """Both run it inside compiled loops, where Flax lets nothing be written to a variable from outside."""
    denoiser = from_flax(Live(), PROCESS, SITES)
    drawn = sample(jax.random.key(0), denoiser, X_T, T)
    assert ((drawn >= 0) & (drawn < V)).all()
    config = TrainConfig(steps=2, batch_size=8)
    trained = train(jax.random.key(1), denoiser, Finite(jnp.zeros((2, SITES), jnp.int32)), config).denoiser
    np.testing.assert_array_equal(*(jax.tree.leaves(d.apply.rest["norm"]) for d in (trained, denoiser)))


class Counting(nnx.Module):
    """A network of one's own that writes to a variable at each call."""

    def __init__(self):
        self.calls, self.embed = nnx.Variable(jnp.int32(0)), nnx.Embed(V + 1, V, rngs=nnx.Rngs(0))

    def __call__(self, x_t, t):
        self.calls[...] = self.calls[...] + 1
        return self.embed(x_t)


def test_what_a_call_writes_is_dropped():
    denoiser = from_flax(Counting(), PROCESS, SITES)
    drawn = sample(jax.random.key(0), denoiser, X_T, T)
    assert ((drawn >= 0) & (drawn < V)).all()


class Random(nnx.Module):
    """Noise that `eval()` does not switch off."""

    def __init__(self):
        self.rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(V + 1, V, rngs=self.rngs)

    def __call__(self, x_t, t):
        return self.embed(x_t) + jax.random.normal(self.rngs(), (V,), jnp.float32)[None, None]


def test_a_network_that_draws_random_numbers_is_refused():
    with pytest.raises(ValueError, match="the network draws random numbers in every call"):
        from_flax(Random(), PROCESS, SITES)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x_t):
        h = linen.BatchNorm(use_running_average=True)(linen.Embed(V + 1, 8)(x_t))
        return linen.Dense(V)(h)


def test_statistics_of_linen_are_neither_trained_nor_decayed():
    network = Linen()
    variables = network.init(jax.random.key(0), X_T)
    with jax.numpy_dtype_promotion("standard"):
        denoiser = from_function(lambda variables, x_t, t: network.apply(variables, x_t), variables, PROCESS, SITES)
    assert jax.tree.structure(denoiser.params["params"]) == jax.tree.structure(variables["params"])
    assert not jax.tree.leaves(denoiser.params["batch_stats"])
    config = TrainConfig(steps=2, batch_size=8, weight_decay=1.0, warmup_steps=0)
    trained = train(jax.random.key(1), denoiser, Finite(jnp.zeros((2, SITES), jnp.int32)), config).denoiser
    for kept, start in zip(jax.tree.leaves(trained.apply.rest), jax.tree.leaves(variables["batch_stats"]), strict=True):
        np.testing.assert_array_equal(kept, start)
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (trained.params, denoiser.params)), strict=True))


def test_integers_and_keys_among_params_do_not_break_the_gradient():
    params = {"table": np.ones((V + 1, V), np.float32), "order": np.arange(V), "key": jax.random.key(0), "scale": 2.0}

    def network(params, x_t, t):
        return params["table"][x_t][..., params["order"]] * jnp.asarray(params["scale"], jnp.float32)

    denoiser = from_function(network, params, PROCESS, SITES)
    x0 = jnp.zeros(X_T.shape, jnp.int32)
    loss = jax.jit(lambda p: eqx.tree_at(lambda d: d.params, denoiser, p).loss(x0, X_T, T).sum())
    gradient = jax.grad(loss)(denoiser.params)
    assert {name for name, part in gradient.items() if part is not None} == {"table", "scale"}
    assert np.isfinite(gradient["table"]).all() and (gradient["table"] != 0).any()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64, np.int8])
def test_real_numbers_of_any_width_come_back_from_the_host(dtype):
    table = np.arange((V + 1) * V).reshape(V + 1, V).astype(dtype)
    denoiser = from_host(lambda x_t, t: table[x_t], PROCESS, SITES)
    got = denoiser.apply(denoiser.params, X_T, T)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, table.astype(np.float32)[np.asarray(X_T)])


def test_bfloat16_of_jax_comes_back_from_the_host():
    table = jnp.ones((V + 1, V), jnp.bfloat16)
    assert from_host(lambda x_t, t: np.asarray(table)[x_t], PROCESS, SITES)(X_T, T).dtype == jnp.float32


@pytest.mark.parametrize(
    ("dtype", "message"),
    [(bool, "returned bool: return real"), (complex, "returned complex128: return real"), (object, "returned object")],
)
def test_what_is_not_real_is_refused(dtype, message):
    with pytest.raises(ValueError, match=message):
        from_host(lambda x_t, t: np.ones((*x_t.shape, V), dtype), PROCESS, SITES)


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_what_numpy_cannot_read_is_refused_with_the_reason():
    for output in (Unreadable(), "logits", None):
        with pytest.raises(ValueError, match=r"NumPy cannot read what the function returned|returned .U6"):
            from_host(lambda x_t, t, output=output: output, PROCESS, SITES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_of_the_host_are_refused_where_it_enters(value):
    with pytest.raises(ValueError, match=r"returned NaN or infinity for zeros noised to t = 0\.5"):
        from_host(lambda x_t, t: np.full((*x_t.shape, V), value), PROCESS, SITES)


def test_minus_infinity_is_a_logit_but_no_mean():
    logits = np.where(np.arange(V) > 0, 0.0, -np.inf)
    from_host(lambda x_t, t: np.broadcast_to(logits, (*x_t.shape, V)), PROCESS, SITES)
    with pytest.raises(ValueError, match="returned NaN or infinity"):
        from_host(lambda x_t, t: np.full(x_t.shape, -np.inf), VectorProcess(), 4)


def test_a_function_of_the_host_gives_scores_and_refuses_derivatives_by_name():
    """Half of x_t is the mean of N(0, 1) on the exploding path where s = 1; the derivative, one half, is not known."""
    denoiser = from_host(lambda x_t, t: x_t / 2, VectorProcess(VarianceExploding()), 3, parametrisation=PredictMean())
    x, t = jnp.ones((2, 3)), np.log(2) / 2
    np.testing.assert_allclose(denoiser.score(x, t), -x / 2, atol=1e-12)
    with pytest.raises(ValueError, match=r"runs on the host .* and has no derivative, which is needed here"):
        dimension.ritz(jax.random.key(0), denoiser, x, t)
