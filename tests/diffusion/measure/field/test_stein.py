"""Directions in which a law is not Gaussian, against laws that are mixtures inside a known subspace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import linalg

from diffusion import (
    Fresh,
    PredictNoise,
    TrainConfig,
    VarianceExploding,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.measure import stein_subspace
from hierarchical import GaussianMixture
from theory.exact import MixtureDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
D, K = 8, 2


def multi_index(dtype=np.float64):
    """Three clusters in a plane of eight dimensions, standard normal across it, and the plane, (2, 8)."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
    plane, across = axes[:, :K], axes[:, K:]
    means = 2 * np.array([[1, 0], [-0.5, 0.8], [-0.5, -0.8]]) @ plane.T
    covariance = plane @ np.diag([0.2, 0.4]) @ plane.T + across @ across.T
    law = GaussianMixture([0.5, 0.2, 0.3], means.astype(dtype), np.stack([covariance.astype(dtype)] * 3))
    return law, plane.T


@pytest.mark.parametrize(
    "path", [VectorProcess(), pytest.param(VectorProcess(VarianceExploding()), marks=pytest.mark.slow)]
)
def test_exact_scores_give_the_subspace_to_rounding_at_every_noise(path):
    law, plane = multi_index()
    denoiser, x = MixtureDenoiser(law, path), law.sample(jax.random.key(1), (300,)).x
    for t in (0.01, 0.5, 2.0):
        found = stein_subspace(KEY, denoiser, x, t)
        assert found.dimension == K
        assert linalg.subspace_angles(np.asarray(found.subspace()).T, plane.T)[0] < 1e-9
        np.testing.assert_allclose(found.eigenvalues.value[K:], 0, atol=1e-20)
        np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(D), atol=1e-12)


def test_eigenvalues_are_those_of_the_second_moment_with_their_scatter():
    """A single Gaussian of variance 1 + a along one axis: r = (1 - 1/(1+a)) x_1 there, E r^2 = a^2/(1+a)."""
    t, excess = 0.3, 2.0
    shrunk = excess * np.exp(-2 * t)
    law = GaussianMixture([1.0], np.zeros((1, 3)), np.array([[1.0 + excess, 1.0, 1.0]]))
    x = law.sample(jax.random.key(2), (4000,)).x
    found = stein_subspace(KEY, MixtureDenoiser(law), x, t)
    assert abs(found.eigenvalues.value[0] - shrunk**2 / (1 + shrunk)) < 5 * found.eigenvalues.stderr[0]
    np.testing.assert_allclose(found.eigenvalues.stderr[0], shrunk**2 / (1 + shrunk) * (2 / 4000) ** 0.5, rtol=0.2)
    assert found.dimension == 1 and abs(found.directions[0, 0]) > 1 - 1e-12


def test_a_normal_law_has_no_direction():
    law = GaussianMixture([1.0], np.zeros((1, 3)), np.ones((1, 3)))
    found = stein_subspace(KEY, MixtureDenoiser(law), law.sample(jax.random.key(3), (4000,)).x, 0.3)
    assert found.dimension == 0 and len(found.subspace()) == 0


@pytest.mark.slow
@pytest.mark.optimised
def test_the_score_of_a_trained_denoiser_finds_the_subspace():
    law, plane = multi_index(np.float32)
    network = VectorMLP(D, 64, rngs=nnx.Rngs(0))
    made = from_flax(network, VectorProcess(), (D,), parametrisation=PredictNoise())
    config = TrainConfig(steps=3000, batch_size=256, learning_rate=2e-3, weight_decay=0.0)
    trained = train(jax.random.key(4), made, Fresh(law), config).denoiser
    x = law.sample(jax.random.key(5), (4000,)).x
    found = stein_subspace(KEY, trained, x, 0.3)
    assert found.dimension == K
    assert np.degrees(linalg.subspace_angles(np.asarray(found.subspace(), float).T, plane.T)[0]) < 5


def test_data_of_any_shape_and_refusals():
    law, _ = multi_index()
    denoiser, x = MixtureDenoiser(law), law.sample(jax.random.key(6), (2, 3)).x
    rows = stein_subspace(KEY, denoiser, x.reshape(6, D), 0.3).eigenvalues.value
    compiled = jax.jit(lambda x: stein_subspace(KEY, denoiser, x, jnp.full((2, 3), 0.3)).eigenvalues.value)
    np.testing.assert_allclose(compiled(x), rows, atol=1e-10)
    for wrong, message in ((lambda: stein_subspace(KEY, denoiser, x[0, 0], 0.3), "x is a single datum"),
                           (lambda: stein_subspace(KEY, denoiser, x, 0.0), "t = 0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            wrong()
