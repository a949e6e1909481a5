"""Training of autoencoders: it resumes bit for bit, leaves constants alone, and refuses what it cannot use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    Finite,
    FolderError,
    Fresh,
    LinearVAE,
    NonFiniteLossError,
    TrainConfig,
    Whole,
    from_vae,
    full_batch,
    train_autoencoder,
)
from hierarchical import AbstractLaw, Sample
from tests import tiny_run

SHORT = TrainConfig(steps=6, batch_size=8, steps_per_chunk=2, steps_per_checkpoint=2)
ROWS = np.random.default_rng(0).normal(size=(8, 3))


class Interrupted(Exception):
    pass


def interrupt(step, loss):
    if step == 4:
        raise Interrupted


def trained(data, config=SHORT, **options):
    made = from_vae(LinearVAE.of_data(ROWS, 2, rngs=nnx.Rngs(0)), tau=0.1)
    return train_autoencoder(jax.random.key(0), made, data, config, **options)


def test_a_killed_training_goes_on_bit_for_bit_and_another_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        tiny_run.autoencoder(tmp_path / "run", SHORT, report=interrupt)
    resumed, whole = tiny_run.autoencoder(tmp_path / "run", SHORT), tiny_run.autoencoder(config=SHORT)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(FolderError, match="autoencoder"):
        tiny_run.autoencoder(tmp_path / "run", SHORT, beta=0.7)


def test_all_of_a_whole_set_in_every_step_does_not_depend_on_the_key():
    rates = full_batch(Whole(ROWS), 6)
    made = from_vae(LinearVAE.of_data(ROWS, 2, rngs=nnx.Rngs(0)), tau=0.1)
    one, two = (train_autoencoder(jax.random.key(seed), made, Whole(ROWS), rates) for seed in (1, 2))
    np.testing.assert_array_equal(one.losses, two.losses)


def test_a_whole_set_is_given_in_order_and_only_as_a_whole():
    np.testing.assert_array_equal(Whole(ROWS).batch(jax.random.key(0), 8), ROWS)
    with pytest.raises(ValueError, match="batch_size = 16, the whole set has 8 data: make them equal"):
        trained(Whole(ROWS), TrainConfig(steps=1, batch_size=16))
    with pytest.raises(ValueError, match="data hold NaN or infinite numbers"):
        Whole(np.full((2, 3), np.nan))


def test_the_loss_begins_at_the_share_of_the_variance_and_is_that_of_the_free_energy():
    made = from_vae(LinearVAE.of_data(ROWS, 2, rngs=nnx.Rngs(0)), tau=0.1)
    total = made.free_energy(jax.random.key(3), ROWS).total.mean()
    first = train_autoencoder(jax.random.key(3), made, Whole(ROWS), full_batch(Whole(ROWS), 1)).losses[0]
    np.testing.assert_allclose(first, total / ROWS.var(0).sum(), rtol=1e-5)


def test_constants_and_frozen_parameters_keep_their_bits():
    result = trained(Finite(ROWS), frozen=lambda name: name.startswith("network/decoder")).autoencoder.network
    start = LinearVAE.of_data(ROWS, 2, rngs=nnx.Rngs(0))
    for name in ("centre", "scale"):
        np.testing.assert_array_equal(getattr(result, name)[...], getattr(start, name)[...])
    np.testing.assert_array_equal(result.decoder.kernel[...], start.decoder.kernel[...])
    assert (result.encoder.kernel[...] != start.encoder.kernel[...]).all()


def test_the_learned_noise_can_be_kept():
    kept = tiny_run.autoencoder(config=SHORT, frozen=lambda name: name == "noise").autoencoder
    learned = tiny_run.autoencoder(config=SHORT).autoencoder
    assert float(kept.noise_variance) == 1 != float(learned.noise_variance)


def test_parameters_stay_in_float32_where_training_computes_in_bfloat16():
    config = TrainConfig(steps=6, batch_size=8, bfloat16=True)
    result = tiny_run.autoencoder(config=config)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(result.autoencoder.trainable))
    assert np.isfinite(result.losses).all()


def test_an_observer_sees_the_autoencoder_of_every_chunk():
    seen = {}
    result = trained(Finite(ROWS), observe=lambda step, found: seen.update({step: found.encode(ROWS).mean}))
    assert list(seen) == [2, 4, 6]
    np.testing.assert_array_equal(seen[6], result.autoencoder.encode(ROWS).mean)


def test_data_of_integers_are_numbers():
    np.testing.assert_allclose(trained(Whole(ROWS.round().astype(int))).losses, trained(Whole(ROWS.round())).losses)


class Infinite(AbstractLaw):
    def sample(self, key, shape=()):
        return Sample(jnp.full((*shape, 3), jnp.inf), None)


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(ValueError, match=r"data have shape \(4,\), the network takes \(3,\): make them agree"):
        trained(Finite(np.ones((5, 4))))
    with pytest.raises(ValueError, match="the source gives NaN or infinite numbers"):
        trained(Fresh(Infinite()))
    with pytest.raises(ValueError, match="steps = 0: give a whole number, 1 or above"):
        full_batch(Whole(ROWS), 0)


def test_divergence_is_reported():
    config = TrainConfig(steps=20, batch_size=8, learning_rate=1e38, warmup_steps=0, clip_norm=1e30, steps_per_chunk=5)
    with pytest.raises(NonFiniteLossError, match="lower learning_rate"):
        trained(Whole(ROWS), config)
