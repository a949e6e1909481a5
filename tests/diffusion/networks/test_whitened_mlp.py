"""The network on top of the best linear estimate: exact before training on Gaussian data, saved and read again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    Preconditioned,
    VarianceExploding,
    VariancePreserving,
    VectorProcess,
    WhitenedMLP,
    from_flax,
    load,
    save,
)
from hierarchical import LinearSubspace
from theory.exact import LawDenoiser

KEY = np.array([0, 0], np.uint32)


@pytest.fixture(scope="module")
def plane():
    return LinearSubspace(KEY, 3, 8, spreads=[0.3, 1.0, 2.0], centre=jnp.arange(8.0))


@pytest.fixture(scope="module")
def network(plane):
    rows = np.asarray(plane.sample(jax.random.key(1), 100_000).x)
    return WhitenedMLP.of_data(rows, width=16, num_blocks=1, least_std=1e-3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("path", [VarianceExploding(), VariancePreserving()])
def test_untrained_it_is_the_exact_denoiser_of_gaussian_data(plane, network, path):
    process = VectorProcess(path)
    denoiser = from_flax(network, process, (8,), parametrisation=Preconditioned(network.data_std))
    exact = LawDenoiser(plane, 8, process)
    x = plane.sample(jax.random.key(2), 5).x
    for t in (1e-4, 0.05, 1.0):
        x_t = process.corrupt(jax.random.key(3), x, t).astype(jnp.float32)
        np.testing.assert_allclose(denoiser(x_t, t), exact(x_t, t), atol=0.05)  # variances of 100,000 draws: .5%
    assert network.span == 3


def test_across_the_span_of_the_data_nothing_is_lost_at_small_noise(plane, network):
    """The score across is -z / s to rounding: mean and axes of the data are known to it, whatever the noise."""
    process, s = VectorProcess(VarianceExploding()), 1e-3
    denoiser = from_flax(network, process, (8,), parametrisation=Preconditioned(network.data_std))
    x = plane.sample(jax.random.key(2), 5).x
    z = jax.random.normal(jax.random.key(4), x.shape)
    z -= z @ plane.axes @ plane.axes.T
    score = denoiser.score((x + s * z).astype(jnp.float32), np.log1p(s**2) / 2)
    axes = np.asarray(plane.axes)
    across = np.asarray(score, float) - np.asarray(score, float) @ axes @ axes.T
    np.testing.assert_allclose(s * across, -z, atol=0.02)  # float32 of numbers up to 10 is 1e-6, a thousandth of s


def test_it_is_saved_with_its_constants(network, tmp_path):
    process = VectorProcess(VarianceExploding())
    denoiser = from_flax(network, process, (8,), parametrisation=Preconditioned(network.data_std))
    save(denoiser, tmp_path / "net")
    x = jnp.ones((2, 8), jnp.float32)
    mean = eqx.filter_jit(lambda denoiser: denoiser(x, 0.1))
    np.testing.assert_array_equal(mean(load(tmp_path / "net")), mean(denoiser))


def test_wrong_data_are_refused_by_name():
    for rows, message in (
        (np.ones((5, 3)), "not all equal"),
        (np.ones((1, 3)), "n at least 2"),
        (np.full((5, 3), np.nan), "finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            WhitenedMLP.of_data(rows, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="span = 4"):
        WhitenedMLP(3, 4, 1.0, rngs=nnx.Rngs(0))
