"""The bound on the likelihood of a masked-diffusion model: exact where it must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, UniformNoise, from_function
from diffusion.measure import masked_costs, stratified_numbers

PROBABILITIES = np.array([0.5, 0.25, 0.15, 0.1])
LENGTH = 8


def unigram():
    def logits(params, x_t, t):
        return jnp.broadcast_to(params[None, None], (*x_t.shape, len(PROBABILITIES)))

    return from_function(logits, jnp.log(jnp.asarray(PROBABILITIES, jnp.float32)), Masking(4), LENGTH)


def test_cost_of_a_repeated_token_is_its_log_probability_at_any_noise():
    windows = np.repeat(np.arange(4)[:, None], LENGTH, 1)
    numbers = jnp.broadcast_to(jnp.arange(1, LENGTH + 1, dtype=jnp.int32)[None], (4, LENGTH))
    costs = masked_costs(jax.random.key(0), unigram(), windows, numbers, batch_size=5)
    np.testing.assert_allclose(costs, np.repeat(-LENGTH * np.log(PROBABILITIES)[:, None], LENGTH, 1), rtol=1e-5)


def test_bound_of_a_unigram_denoiser_is_its_cross_entropy():
    windows = np.random.default_rng(0).integers(0, 4, (200, LENGTH))
    truth = -np.log(PROBABILITIES)[windows].sum(1)
    numbers = stratified_numbers(jax.random.key(1), 200, LENGTH, 4)
    error = masked_costs(jax.random.key(2), unigram(), windows, numbers).mean(1) - truth
    assert abs(error.mean()) < 5 * error.std() / 200**0.5
    whole = masked_costs(jax.random.key(3), unigram(), windows, jnp.full((200, 1), LENGTH, jnp.int32))
    np.testing.assert_allclose(whole[:, 0], truth, rtol=1e-5)


def test_bound_of_the_exact_denoiser_is_the_entropy():
    """Two equal tokens, one of v: with one masked it is known, with both each costs ln v, so (2) gives ln v."""
    v = 4
    exact = from_function(lambda _, x_t, t: 50 * jax.nn.one_hot(x_t[:, ::-1], v, dtype=t.dtype), (), Masking(v), 2)
    windows = np.repeat(np.arange(v)[:, None], 2, 1)
    numbers = stratified_numbers(jax.random.key(0), v, 2, 2)
    np.testing.assert_array_equal(numbers, np.tile([1, 2], (v, 1)))
    costs = masked_costs(jax.random.key(1), exact, windows, numbers)
    np.testing.assert_allclose(costs.mean(1), np.log(v), rtol=1e-5)


def test_windows_may_be_one_many_and_lists():
    windows = np.random.default_rng(0).integers(0, 4, (2, 3, LENGTH)).astype(np.uint8)
    numbers = np.full((2, 3, 2), LENGTH)
    truth = -np.log(PROBABILITIES)[windows].sum(-1)
    for given in (windows, windows.tolist()):
        costs = masked_costs(jax.random.PRNGKey(0), unigram(), given, numbers.tolist(), batch_size=5)
        np.testing.assert_allclose(costs, np.stack([truth, truth], -1), rtol=1e-5)
    one = masked_costs(jax.random.key(0), unigram(), windows[0, 1], [LENGTH], batch_size=5)
    np.testing.assert_allclose(one, truth[0, 1, None], rtol=1e-5)


@pytest.mark.parametrize(
    ("windows", "numbers", "message"),
    [
        ([[0] * 7 + [-1]], [[1]], "windows holds the symbol -1: give symbols 0 .. 3$"),
        ([[0] * 7 + [4]], [[1]], "windows holds the symbol 4: give symbols 0 .. 3$"),
        ([[0.5] * 8], [[1]], "windows is of float64: a string holds integers"),
        ([[0] * 7], [[1]], r"windows has shape \(1, 7\): the last axes must be \(8,\)"),
        ([[0] * 8], [[0]], "num_masked holds 0: give numbers from 1 to 8"),
        ([[0] * 8], [[3, 9]], "num_masked holds 9: give numbers from 1 to 8"),
        ([[0] * 8], [[1.5]], "num_masked is of float64: give whole numbers from 1 to 8"),
        ([[0] * 8], [1], r"num_masked has shape \(1,\), the windows \(1, 8\): give a row for each"),
    ],
)
def test_windows_and_numbers_that_do_not_fit_are_refused_by_name(windows, numbers, message):
    with pytest.raises(ValueError, match=message):
        masked_costs(jax.random.key(0), unigram(), windows, numbers)


def test_another_process_than_masking_is_refused():
    other = from_function(lambda _, x_t, t: jnp.zeros((*x_t.shape, 4)), (), UniformNoise(4), LENGTH)
    with pytest.raises(ValueError, match="the denoiser undoes UniformNoise: give one of Masking"):
        masked_costs(jax.random.key(0), other, [[0] * 8], [[1]])
    with pytest.raises(ValueError, match="batch_size = 0: at least 1 needed"):
        masked_costs(jax.random.key(0), unigram(), [[0] * 8], [[1]], batch_size=0)


def test_numbers_of_masks_are_uniform_and_stratified():
    numbers = np.asarray(stratified_numbers(jax.random.key(0), 4000, 12, 4))
    for column, values in enumerate(numbers.T):
        count = np.bincount(values, minlength=13)
        assert count.sum() == count[3 * column + 1 : 3 * column + 4].sum()
        assert np.all(abs(count[3 * column + 1 : 3 * column + 4] - 4000 / 3) < 5 * (4000 * 2 / 9) ** 0.5)
