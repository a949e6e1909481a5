"""Descent of a parabola, whose every step is known: any optimiser, frozen parameters, integers and keys."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion import TrainConfig, descend, from_host, train
from diffusion.training.sources import Finite
from tests import tiny_run

AT = np.array([1.0, -2.0, 0.5], np.float32)
START = np.array([3.0, 3.0, 3.0], np.float32)
CONFIG = TrainConfig(steps=6, batch_size=8, ema_decay=0.0, steps_per_chunk=3)


class Parabola(eqx.Module):
    """|w - at|^2 / 2, with its minimum at `at`."""

    at: jax.Array

    def __call__(self, params, key, shard):
        w, b = params["w"].astype(jnp.float32), params["b"].astype(jnp.float32)
        return jnp.sum((w - self.at) ** 2) / 2 + jnp.sum(b**2) / 2


def descended(params=None, config=CONFIG, **options):
    params = params or {"w": jnp.asarray(START), "b": jnp.ones(2, jnp.float32)}
    return descend(jax.random.key(0), Parabola(jnp.asarray(AT)), params, config, **options)


def test_gradient_descent_is_the_known_geometric_series():
    """w_n - at = (1 - rate)^n (w_0 - at), and the loss of step n is that of w_n."""
    result = descended(optimiser=optax.sgd(0.25))
    np.testing.assert_allclose(result.params["w"], AT + 0.75**6 * (START - AT), rtol=1e-5)
    first = np.sum((START - AT) ** 2) / 2 + 1
    np.testing.assert_allclose(result.losses, first * 0.75 ** (2 * np.arange(6)), rtol=1e-5)


def test_an_optimiser_that_needs_the_loss_gets_it():
    """Polyak's step f / |grad f|^2 is 1/2 on this parabola, whose least value is 0: each step halves the distance."""
    result = descended(optimiser=optax.polyak_sgd(max_learning_rate=10.0))
    np.testing.assert_allclose(result.params["w"], AT + 0.5**6 * (START - AT), rtol=1e-4)


def test_an_optimiser_that_searches_along_a_line_gets_the_loss_of_the_same_batch():
    np.testing.assert_allclose(descended(optimiser=optax.lbfgs()).params["w"], AT, atol=1e-5)


def test_frozen_parameters_keep_their_bits_and_the_others_do_not_see_it():
    free = descended(optimiser=optax.sgd(0.25))
    frozen = descended(optimiser=optax.sgd(0.25), frozen=lambda name: name == "b")
    np.testing.assert_array_equal(frozen.params["b"], np.ones(2))
    np.testing.assert_array_equal(frozen.params["w"], free.params["w"])


def test_decay_does_not_reach_frozen_parameters_in_bfloat16():
    config = TrainConfig(steps=6, batch_size=8, weight_decay=1.0, learning_rate=0.1, warmup_steps=0, bfloat16=True)
    params = descended(config=config, frozen=lambda name: name == "b").params
    np.testing.assert_array_equal(params["b"], np.ones(2))
    assert params["b"].dtype == params["w"].dtype == jnp.float32 and (params["w"] != START).all()


def test_integers_and_keys_among_the_parameters_keep_their_value():
    given = {"w": START, "b": np.ones(2, np.float32), "order": np.arange(3), "key": jax.random.key(4)}
    result = descended(given, optimiser=optax.sgd(0.25)).params
    np.testing.assert_allclose(result["w"], AT + 0.75**6 * (START - AT), rtol=1e-5)
    np.testing.assert_array_equal(result["order"], np.arange(3))
    assert result["key"] == jax.random.key(4)


def test_a_misspelt_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="frozen names none of the parameters: b, w"):
        descended(frozen=lambda name: name == "bias")


def test_nothing_left_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing is left to train: the network has no floating-point parameters"):
        descended(frozen=lambda name: True)


def test_a_network_on_the_host_cannot_be_trained():
    denoiser = from_host(lambda x_t, t: np.zeros((*x_t.shape, 3)), tiny_run.denoiser().process, 4)
    with pytest.raises(ValueError, match="a network behind `from_host` is trained in its own library"):
        train(jax.random.key(0), denoiser, Finite(jnp.zeros((2, 4), jnp.int32)), CONFIG)


def test_training_works_where_every_nan_is_an_error():
    with jax.debug_nans(True):
        assert (descended().losses > 0).all()


@pytest.mark.parametrize("name", ["steps", "batch_size", "steps_per_chunk", "steps_per_checkpoint"])
def test_sizes_that_are_not_whole_are_refused(name):
    """The annotation, which is checked in tests alone, is passed over here."""
    config = TrainConfig()
    object.__setattr__(config, name, 3.5)
    with pytest.raises(ValueError, match=rf"{name} = 3\.5: must be a whole number"):
        config.__post_init__()
