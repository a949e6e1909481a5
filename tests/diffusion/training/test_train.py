"""Training: the exact denoiser's loss is the entropy over d + 1, a network reaches it, divergence is reported."""

import dataclasses
import functools
import json
import math
import os
import pathlib
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    AbstractSource,
    Finite,
    Fresh,
    Masking,
    NonFiniteLossError,
    TrainConfig,
    UniformNoise,
    Whole,
    from_equinox,
    from_flax,
    from_function,
    train,
)
from diffusion.denoise.loss import posterior_loss, site_weights
from diffusion.noise.schedule import LinearSchedule
from diffusion.training.train import draw_times
from hierarchical import AbstractLaw, Sample
from tests import tiny_run
from tests.grammars import enumerated
from tests.laws import assert_drawn_from
from tests.references import channels, enumeration
from theory import cavity_marginals
from theory.exact import GrammarDenoiser

V, D = 3, 4
PROCESS = Masking(V)
RHM, DATA = enumerated("uniform")
ENTROPY = enumeration.entropy(DATA)
SHORT = TrainConfig(steps=6, batch_size=8, steps_per_chunk=2)


def every_masking():
    """All strings with all 2^d masks, and their probability when t is uniform on (0, 1): for n masked sites at given
    places it is the integral of t^n (1 - t)^(d - n), which is n! (d - n)! / (d + 1)!."""
    strings = np.array([levels[-1] for _, levels in DATA], np.int32)
    masks = channels.all_strings(2, D).astype(bool)
    x0, masks = np.repeat(strings, len(masks), 0), np.tile(masks, (len(strings), 1))
    of_mask = np.array([math.factorial(n) * math.factorial(D - n) / math.factorial(D + 1) for n in range(D + 1)])
    prior = np.repeat([weight for weight, _ in DATA], 2**D)
    return jnp.asarray(x0), jnp.asarray(np.where(masks, V, x0)), prior * of_mask[masks.sum(1)]


def population_loss(denoiser):
    """The posterior loss, summed over all strings and masks: no sampling error."""
    x0, x_t, weights = every_masking()
    log_probs = eqx.filter_jit(denoiser)(x_t, jnp.full(len(x_t), 0.5, jnp.float32))
    return float(weights @ np.asarray(posterior_loss(log_probs, x0, site_weights(PROCESS, x_t)), np.float64))


def test_the_exact_denoiser_has_posterior_loss_entropy_over_d_plus_one():
    np.testing.assert_allclose(population_loss(GrammarDenoiser(rhm=RHM, process=PROCESS)), ENTROPY / (D + 1), rtol=1e-6)


def test_the_exact_cavity_has_cavity_loss_entropy_over_d():
    """At each site the number of visible others is uniform on 0 .. d - 1: the chain rule over all orders again."""
    x0, x_t, weights = every_masking()
    evidence = jax.jit(jax.vmap(PROCESS.log_likelihood, (0, None)))(x_t, 0.5)
    cavity = jnp.log(cavity_marginals(RHM, evidence)[-1])
    losses = posterior_loss(cavity, x0, jnp.full(x0.shape, 1 / D))
    np.testing.assert_allclose(weights @ np.asarray(losses), ENTROPY / D, rtol=1e-12)


@functools.cache
def trained_well(bfloat16):
    config = TrainConfig(steps=1000, batch_size=64, learning_rate=5e-3, warmup_steps=50, bfloat16=bfloat16)
    return tiny_run.run(config=config, width=32)


@pytest.mark.parametrize(
    ("bfloat16", "excess"),
    [pytest.param(False, 0.005, id="float32"), pytest.param(True, 0.01, id="bfloat16", marks=pytest.mark.slow)],
)
def test_training_reaches_the_loss_of_the_exact_denoiser(bfloat16, excess):
    """Within .005 nats per site of H / (d + 1) = .636 (.01 in bfloat16, whose logits carry errors of 2^-8)."""
    trained = trained_well(bfloat16).denoiser
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained.params))
    assert 0 < population_loss(trained) - ENTROPY / (D + 1) < excess


def test_the_reported_loss_of_a_blind_network_is_the_cavity_loss():
    """The mean over the last steps is near its minimum H / d, sampled: here 300 x 64 strings."""
    losses = np.asarray(trained_well(False).losses)[-300:]
    assert abs(losses.mean() - ENTROPY / D) < 0.005 + 5 * losses.std() / math.sqrt(len(losses))


def table_network(process=PROCESS, note=lambda: None):
    """Logits of a site from a table over (its own token, its sibling's): it sees the site, so it is not blind."""

    def apply(table, x_t, t):
        note()
        return table[x_t, x_t.reshape(-1, D // 2, 2)[..., ::-1].reshape(x_t.shape)]

    return from_function(apply, jnp.zeros((V + 1, V + 1, V), jnp.float32), process, D)


def test_a_network_that_sees_the_site_is_trained_on_the_posterior_of_the_noised_sites():
    """The first loss, of zero logits, is ln v on masked sites, 0 where nothing is masked (probability 1 / (d + 1))."""
    losses = train(jax.random.key(0), table_network(), Fresh(RHM), TrainConfig(steps=1, batch_size=5000)).losses
    stderr = math.log(V) * 0.4 / math.sqrt(5000)
    assert abs(losses[0] - math.log(V) * D / (D + 1)) < 5 * stderr


def test_all_chunks_share_one_trace():
    traces, seen = [], []
    denoiser = table_network(note=lambda: traces.append(1))
    config = TrainConfig(steps=7, batch_size=8, steps_per_chunk=2)  # the last chunk is shorter
    train(jax.random.key(1), denoiser, Fresh(RHM), config, report=lambda step, loss: seen.append(len(traces)))
    assert len(seen) == 4 and len(set(seen)) == 1


class WithFunctionField(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, x_t, t):
        return jax.vmap(self.mlp)(jax.nn.one_hot(x_t, V + 1, dtype=jnp.float32))


class WithDropout(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed, self.drop = nnx.Embed(V + 1, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.readout = nnx.Linear(8, V, rngs=rngs)

    def __call__(self, x_t, t):
        return self.readout(self.drop(self.embed(x_t)))


USERS = {
    "equinox, with functions among its fields": lambda: from_equinox(
        WithFunctionField(eqx.nn.MLP(V + 1, V, 8, 1, key=jax.random.key(2), dtype=jnp.float32)), PROCESS, D
    ),
    "flax, with random keys among its state": lambda: from_flax(WithDropout(), PROCESS, D),
    "function": table_network,
    "function, uniform noise": lambda: from_function(
        lambda table, x_t, t: table[x_t], jnp.zeros((V, V), jnp.float32), UniformNoise(V), D
    ),
}


@pytest.mark.parametrize("user", USERS)
def test_any_network_can_be_trained(user):
    denoiser = USERS[user]()
    trained = train(jax.random.key(3), denoiser, Fresh(RHM), SHORT)
    assert jnp.isfinite(trained.losses).all()
    pairs = zip(jax.tree.leaves(trained.denoiser.params), jax.tree.leaves(denoiser.params), strict=True)
    assert all((new != old).any() for new, old in pairs)


def test_a_training_set_is_drawn_from_evenly_with_replacement():
    strings = jnp.array([[0, 1], [2, 0], [1, 1]])
    drawn = Finite(strings).batch(jax.random.key(4), 3000)
    counts = [(np.asarray(drawn) == np.asarray(row)).all(1).sum() for row in strings]
    assert sum(counts) == 3000
    assert_drawn_from(np.array(counts), np.full(3, 1 / 3))


def test_times_are_one_in_each_stratum():
    times = np.concatenate([draw_times(jax.random.key(seed), 64, LinearSchedule(8.0)) for seed in range(50)]).reshape(
        50, 64
    )
    assert times.dtype == np.float32
    np.testing.assert_array_equal(np.ceil(times * 8), np.broadcast_to(np.arange(1, 65), times.shape))


@pytest.mark.parametrize("edge", [0.0, 1 - 2.0**-23])
def test_times_lie_above_zero_and_not_above_the_largest_even_at_the_edge_of_the_generator(edge, monkeypatch):
    """At t = 0 Gaussian evidence is 0/0. A float32 uniform lies in [0, 1 - 2^-23] and is 0 once in 2^23 draws."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, edge, dtype))
    times = draw_times(jax.random.key(5), 64, LinearSchedule(8.0))
    assert (times > 0).all() and (times <= 8).all()


@pytest.fixture(scope="module")
def eight_devices():
    """What `tests.tiny_run` prints in a process that has eight."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "NPROC": "16"}
    child = subprocess.run(
        [sys.executable, "-m", "tests.tiny_run"],
        cwd=pathlib.Path(__file__).parents[3],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(child.stdout)
    assert report["devices"] == 8
    return report


@pytest.mark.parametrize(("name", "run"), [("losses", tiny_run.run), ("autoencoder", tiny_run.autoencoder)])
def test_eight_devices_give_the_losses_of_one(name, run, eight_devices):
    """Gradients are summed in another order, so 100 steps may differ by rounding: to 1e-5."""
    np.testing.assert_allclose(eight_devices[name], run().losses, atol=1e-5)


def test_a_batch_that_eight_devices_cannot_share_is_refused(eight_devices):
    assert eight_devices["batch of 12"] == "batch_size = 12 cannot be shared out over 8 devices: make it a multiple"


def diverging_logits(params, x_t, t):
    return jnp.zeros((*x_t.shape, V), jnp.float32) + params / (params - params)


def diverging_gradient(params, x_t, t):
    """|w - w|^(1/2) is 0 and its derivative is not a number."""
    return jnp.zeros((*x_t.shape, V), jnp.float32) + jnp.sqrt(jnp.abs(params - params))


@pytest.mark.parametrize("function", [diverging_logits, diverging_gradient])
def test_what_is_not_finite_is_neither_saved_nor_returned(function, tmp_path):
    denoiser = from_function(function, jnp.float32(1.0), PROCESS, D)
    with pytest.raises(NonFiniteLossError, match=r"between steps 0 and 2: lower learning_rate"):
        train(jax.random.key(5), denoiser, Fresh(RHM), SHORT, folder=tmp_path / "run")
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["run.json"]


class Rarely(AbstractSource):
    """A symbol that the network has not, in large batches alone."""

    def batch(self, key, size):
        return jnp.zeros((size, D), jnp.int32).at[0, 0].set(V if size > SHORT.batch_size else 0)


def test_a_rare_symbol_that_the_network_has_not_is_named_where_training_fails():
    denoiser = from_function(diverging_logits, jnp.float32(1.0), PROCESS, D)
    with pytest.raises(ValueError, match=f"x0 holds the symbol {V}: give symbols 0 .. {V - 1}"):
        train(jax.random.key(5), denoiser, Rarely(), SHORT)


def test_adamw_does_not_train_float16():
    def logits(params, x_t, t):
        return jnp.zeros((*x_t.shape, V), jnp.float32) + params["a"]

    denoiser = from_function(logits, {"a": jnp.float32(1), "b": jnp.float16(1)}, PROCESS, D)
    with pytest.raises(ValueError, match="parameters are of float16, where AdamW divides 0 by 0: give float32"):
        train(jax.random.key(5), denoiser, Fresh(RHM), SHORT)


def test_an_absurd_learning_rate_is_refused():
    config = TrainConfig(steps=20, batch_size=8, learning_rate=1e38, warmup_steps=0, clip_norm=1e30, steps_per_chunk=5)
    with pytest.raises(NonFiniteLossError, match="lower learning_rate"):
        tiny_run.run(config=config)


@pytest.mark.parametrize("name", ["steps", "batch_size", "steps_per_chunk", "steps_per_checkpoint"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} = 0: must be at least 1"):
        dataclasses.replace(TrainConfig(), **{name: 0})


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", -1.0), ("clip_norm", float("nan")), ("weight_decay", -0.1), ("warmup_steps", -1)],
)
def test_rates_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}: must be"):
        TrainConfig(**{name: value})


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"ema_decay = 1.0: must be in \[0, 1\)"):
        TrainConfig(ema_decay=1.0)


def test_checkpoints_are_closed_when_training_fails(tmp_path):
    """A second run can open the folder in the same process."""

    def stop(step, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(jax.random.key(6), table_network(), Fresh(RHM), SHORT, folder=tmp_path / "run", report=stop)
    assert jnp.isfinite(
        train(jax.random.key(6), table_network(), Fresh(RHM), SHORT, folder=tmp_path / "run").losses
    ).all()


def test_an_observer_sees_the_denoiser_of_every_chunk_the_last_of_which_is_the_result():
    seen = {}
    result = train(
        jax.random.key(0), table_network(), Fresh(RHM), SHORT, observe=lambda step, d: seen.update({step: d})
    )
    assert list(seen) == [2, 4, 6]
    np.testing.assert_array_equal(seen[6].params, result.denoiser.params)
    assert not np.array_equal(seen[2].params, seen[4].params)


def test_a_constant_rate_does_not_depend_on_the_number_of_steps():
    """Six steps of twelve are six steps: only where the rate does not fall to 0."""
    found = {}
    for rate in (0.0, 1.0):
        kept = []
        for steps in (6, 12):
            config = dataclasses.replace(SHORT, steps=steps, final_rate=rate, warmup_steps=2)
            train(
                jax.random.key(0),
                table_network(),
                Fresh(RHM),
                config,
                observe=lambda step, d, k=kept: k.append(np.asarray(d.params)) if step == 6 else None,
            )
        found[rate] = np.array_equal(*kept)
    assert found == {0.0: False, 1.0: True}
    with pytest.raises(ValueError, match=r"final_rate = 2\.0: must be in \[0, 1\]"):
        TrainConfig(final_rate=2.0)


def test_a_set_in_order_is_refused():
    with pytest.raises(ValueError, match=r"Whole gives data in order, .* give Finite\(data\)"):
        train(jax.random.key(0), table_network(), Whole(jnp.zeros((8, D), jnp.int32)), SHORT)


class Beyond(AbstractLaw):
    """Strings with a symbol that no network of three symbols knows."""

    def sample(self, key, shape=()):
        return Sample(jax.random.randint(key, (*shape, 4), 0, 4, jnp.int32), None)


def test_a_law_beyond_the_alphabet_is_refused():
    denoiser = from_function(lambda params, x_t, t: params[x_t], jnp.zeros((4, 3)), Masking(3), 4)
    with pytest.raises(ValueError, match=r"x0 holds the symbol 3: give symbols 0 \.\. 2"):
        train(jax.random.key(0), denoiser, Fresh(Beyond()), TrainConfig(steps=2))
