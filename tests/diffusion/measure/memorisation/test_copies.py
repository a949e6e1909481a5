"""Copies: which generated data are much nearer to one training point than to any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import is_copy


def test_copies_are_those_of_the_definition():
    """Against NumPy, written from the definition, with a batch of two axes."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(7, 3))
    generated = data[rng.integers(0, 7, (4, 5))] + np.geomspace(0.01, 2, 5)[None, :, None] * rng.normal(size=(4, 5, 3))
    distances = np.sort(np.sqrt(((generated[:, :, None] - data[None, None]) ** 2).sum(-1)), -1)
    want = distances[..., 0] < distances[..., 1] / 3
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(jax.jit(is_copy)(jnp.asarray(generated), jnp.asarray(data)), want)


def test_a_training_point_is_a_copy_and_the_middle_of_two_is_not():
    data = jnp.eye(3)
    assert bool(is_copy(data[0], data)) and not bool(is_copy(data[:2].mean(0), data))


@pytest.mark.parametrize("ratio", [0.0, 1.5, float("nan")])
def test_impossible_arguments_are_refused(ratio):
    with pytest.raises(ValueError, match=rf"ratio = {ratio}: give a ratio in"):
        is_copy(jnp.zeros((2, 3)), jnp.zeros((3, 3)), ratio)
    with pytest.raises(ValueError, match="1 training points: give at least 2"):
        is_copy(jnp.zeros((2, 3)), jnp.zeros((1, 3)))


def test_images_of_bytes_and_lists_are_compared_as_numbers():
    """250 and 5 differ by 245, not by 11; the shape of a datum is its own."""
    data = np.array([250, 0, 90], np.uint8)[:, None, None] * np.ones((2, 2), np.uint8)
    generated = np.array([[5, 249], [45, 91]], np.uint8)[..., None, None] * np.ones((2, 2), np.uint8)
    want = [[True, True], [False, True]]  # 45 is as far from 0 as from 90
    np.testing.assert_array_equal(is_copy(generated, data), want)
    np.testing.assert_array_equal(is_copy(generated.tolist(), data.tolist()), want)
    np.testing.assert_array_equal(jax.jit(is_copy)(jnp.asarray(generated, jnp.float32), jnp.asarray(data)), want)
    assert bool(is_copy(generated[0, 0], data))


def test_shapes_that_differ_and_numbers_that_are_none_are_refused_or_no_copies():
    data = np.eye(3)
    with pytest.raises(ValueError, match=r"generated has shape \(5, 2\): the last axes must be \(3,\)"):
        is_copy(np.zeros((5, 2)), data)
    with pytest.raises(ValueError, match="generated holds nan: give finite numbers"):
        is_copy(np.array([1, 0, np.nan]), data)
    with pytest.raises(ValueError, match="data holds inf: give finite numbers"):
        is_copy(data, np.where(np.eye(3), np.inf, 0))
    compiled = jax.jit(is_copy)
    np.testing.assert_array_equal(compiled(jnp.asarray(data).at[0, 1].set(jnp.nan), jnp.asarray(data)), [0, 1, 1])
    assert not compiled(jnp.asarray(data), jnp.asarray(data).at[2, 1].set(jnp.nan)).any()
