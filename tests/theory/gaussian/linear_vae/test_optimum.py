"""The optimum of a linear autoencoder: no slope, no lower neighbour, reached by descent; and its free energy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from theory import linear_vae

D, K, TAU = 5, 4, 0.5
AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
COVARIANCE = AXES @ np.diag([3.0, 1.5, 1.5, 0.4, 0.2]) @ AXES.T
NAMES = ("encoder", "decoder", "variances")
total = jax.jit(lambda maps: linear_vae.free_energy(COVARIANCE, *maps, TAU).total)
slopes = jax.jit(jax.grad(lambda maps: linear_vae.free_energy(COVARIANCE, *maps, TAU).total))


@pytest.fixture(scope="module")
def found():
    return linear_vae.optimum(COVARIANCE, TAU, K)


@pytest.fixture(scope="module")
def maps(found):
    return tuple(getattr(found, name) for name in NAMES)


def test_latents_follow_from_eigenvalues(found):
    """rho = 3 / .5 - 1, 1.5 / .5 - 1; Var mu + sigma^2 = 1 of an active latent, and the prior of another."""
    np.testing.assert_allclose(found.relevance, [5, 2, 2, 0], atol=1e-12)
    np.testing.assert_allclose(found.divergence, np.log([6, 3, 3, 1]) / 2, atol=1e-12)
    spread = np.einsum("ki,ij,kj->k", found.encoder, COVARIANCE, found.encoder)
    np.testing.assert_allclose(spread + found.variances, 1)
    np.testing.assert_allclose(spread / found.variances, found.relevance, atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues, [3, 1.5, 1.5, 0.4, 0.2])


def test_free_energy_is_that_of_draws(maps):
    """Terms by Monte Carlo over data and latents, of maps that are no optimum; the KL by its definition."""
    rng, draws = np.random.default_rng(1), 40_000
    encoder, decoder, variances = (np.asarray(part) + 0.1 * rng.random(np.shape(part)) for part in maps)
    exact = linear_vae.free_energy(COVARIANCE, encoder, decoder, variances, TAU)
    x = rng.multivariate_normal(np.zeros(D), COVARIANCE, draws)
    mean = x @ encoder.T
    z = mean + np.sqrt(variances) * rng.normal(size=mean.shape)
    error = ((x - z @ decoder.T) ** 2).sum(1) / 2
    kl = (mean**2 + variances - np.log(variances) - 1) / 2
    for value, truth in ((error, exact.reconstruction), *zip(kl.T, exact.divergence, strict=True)):
        assert abs(value.mean() - truth) < 5 * value.std() / np.sqrt(draws)
    np.testing.assert_allclose(exact.total, exact.reconstruction + TAU * exact.divergence.sum())


def test_the_optimum_has_no_slope_and_is_the_lowest(found, maps):
    np.testing.assert_allclose(total(maps), found.free_energy)
    for slope in slopes(maps):
        np.testing.assert_allclose(slope, 0, atol=1e-12)
    rng = np.random.default_rng(2)
    for number in range(200):
        size = 10.0 ** -(number % 4)
        moved = [part + size * rng.normal(size=part.shape) for part in maps[:2]]
        scaled = maps[2] * np.exp(size * rng.normal(size=K))
        assert total((*moved, scaled)) > found.free_energy


def test_descent_from_anywhere_comes_to_the_optimum(found):
    """Linear autoencoders have saddles but no other minimum: three random starts."""

    def unpack(flat):
        encoder, decoder, logs = np.split(flat, [K * D, 2 * K * D])
        return encoder.reshape(K, D), decoder.reshape(D, K), np.exp(logs)

    def value_and_slope(flat):
        maps = unpack(flat)
        encoder, decoder, variances = slopes(maps)
        return float(total(maps)), np.concatenate([np.ravel(encoder), np.ravel(decoder), variances * maps[2]])

    for seed in range(3):
        start = np.random.default_rng(seed).normal(size=2 * K * D + K)
        end = optimize.minimize(value_and_slope, start, jac=True, options={"gtol": 1e-9})
        np.testing.assert_allclose(end.fun, found.free_energy, rtol=1e-9)
        encoder, _, variances = unpack(end.x)
        relevance = np.einsum("ki,ij,kj->k", encoder, COVARIANCE, encoder) / variances
        np.testing.assert_allclose(np.sort(relevance)[::-1], found.relevance, atol=1e-4)


def test_batches_jit_and_gradients(found):
    many = jax.jit(linear_vae.optimum, static_argnums=2)(np.stack([COVARIANCE, 2 * COVARIANCE]), TAU, K)
    np.testing.assert_allclose(many.relevance[0], found.relevance, atol=1e-12)
    np.testing.assert_allclose(many.relevance[1], [11, 5, 5, 0.6])
    taus = linear_vae.optimum(COVARIANCE, [TAU, 1.0], K)
    terms = linear_vae.free_energy(COVARIANCE, taus.encoder, taus.decoder, taus.variances, [TAU, 1.0])
    np.testing.assert_allclose(terms.total, taus.free_energy)
    # dF/dC at the optimum: half of (1 - W V)'(1 - W V) + tau V'V; two eigenvalues are equal
    slope = jax.grad(lambda covariance: linear_vae.optimum(covariance, TAU, K).free_energy)(jnp.asarray(COVARIANCE))
    rest = np.eye(D) - found.decoder @ found.encoder
    np.testing.assert_allclose(slope, (rest.T @ rest + TAU * found.encoder.T @ found.encoder) / 2, atol=1e-12)
    negative = jax.jit(lambda c: linear_vae.optimum(c, TAU, 1).decoder)(-np.eye(2))
    assert np.isnan(negative).all()
    lopsided = np.array([[1.0, 0.5], [0.0, 1.0]])
    assert np.isnan(jax.jit(lambda c: linear_vae.optimum(c, TAU, 1).free_energy)(lopsided))


@pytest.mark.parametrize(
    ("covariance", "tau", "message"),
    [
        ([[1, 0.5], [0, 1]], 1, r"covariance differs from its transpose by 0\.5: give symmetric"),
        ([[1, 2], [2, 1]], 1, "eigenvalues = -1: give finite numbers, none negative"),
        ([[np.nan, 0], [0, 1]], 1, "covariance differs from its transpose by nan"),
        (np.ones((2, 3)), 1, r"covariance has shape \(2, 3\): give \(\.\.\., d, d\)"),
        (np.eye(2), 0, "tau = 0: give finite numbers above 0"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, tau, message):
    with pytest.raises(ValueError, match=message):
        linear_vae.optimum(covariance, tau, 1)
    with pytest.raises(ValueError, match=message):
        linear_vae.free_energy(covariance, np.ones((1, 2)), np.ones((2, 1)), [1], tau)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"encoder \(2, 1\), decoder \(2, 1\), variances \(1,\) for data of 2 numbers"):
        linear_vae.free_energy(np.eye(2), np.ones((2, 1)), np.ones((2, 1)), [1], 1)
    with pytest.raises(ValueError, match="variances = 0: give finite numbers above 0"):
        linear_vae.free_energy(np.eye(2), np.ones((1, 2)), np.ones((2, 1)), [0], 1)
    with pytest.raises(ValueError, match="num_latents = 3: data of 2 numbers"):
        linear_vae.optimum(np.eye(2), 1, 3)
