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


@pytest.mark.parametrize(("points", "ratio"), [(1, 0.3), (3, 0.0), (3, 1.5), (3, float("nan"))])
def test_impossible_arguments_are_refused(points, ratio):
    with pytest.raises(ValueError, match=rf"{points} training points, ratio = {ratio}: give at least 2, and a ratio"):
        is_copy(jnp.zeros((2, 3)), jnp.zeros((points, 3)), ratio)
