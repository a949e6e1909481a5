"""The tau of a loss, the noise that a decoder learns, and data with a knob, against minimisation and sampling."""

import jax
import numpy as np
import pytest
from scipy import optimize

from theory import linear_vae

EIGHT = (4, 2.5, 1.5, 1, 0.6, 0.3, 0.1, 0.02)


def least_loss(log_noise, eigenvalues, num_latents, beta):
    """Equation (2) at the best maps, from the sums of the definition."""
    noise = np.exp(log_noise)
    coded = np.array(eigenvalues)[:num_latents]
    missed = np.minimum(coded, beta * noise).sum() + np.sum(eigenvalues[num_latents:])
    bits = beta * np.log(np.maximum(coded, beta * noise) / (beta * noise)).sum()
    return (missed / noise + bits + len(eigenvalues) * log_noise) / 2


@pytest.mark.parametrize(("num_latents", "beta"), [(3, 1.0), (6, 1.0), (6, 2.0), (8, 1.5), (4, 0.3), (8, 6.0)])
def test_learned_noise_is_where_the_loss_is_least(num_latents, beta):
    found = optimize.minimize_scalar(
        least_loss, args=(EIGHT, num_latents, beta), bounds=(-8, 3), method="bounded", options={"xatol": 1e-10}
    )
    noise = linear_vae.learned_noise(EIGHT, num_latents, beta)
    np.testing.assert_allclose(noise, np.exp(found.x), rtol=1e-6)
    k = int(linear_vae.active(EIGHT, beta * noise, num_latents))
    np.testing.assert_allclose(noise, np.sum(EIGHT[k:]) / (8 - k * beta))  # equation (4)


def test_learned_noise_of_principal_components_is_the_mean_of_what_is_left():
    """beta = 1, three latents: probabilistic principal components; in batches, in jit."""
    np.testing.assert_allclose(linear_vae.learned_noise(EIGHT[::-1], 3), np.mean(EIGHT[3:]))
    batch = np.array([EIGHT, np.multiply(EIGHT, 2)])
    found = jax.jit(linear_vae.learned_noise, static_argnums=1)(batch, 3, np.array([1.0, 1.0]))
    np.testing.assert_allclose(found, [np.mean(EIGHT[3:]), 2 * np.mean(EIGHT[3:])])
    slope = jax.grad(lambda values: linear_vae.learned_noise(values, 3))(np.array(EIGHT))
    np.testing.assert_allclose(slope, [0] * 3 + [1 / 5] * 5)


def test_noise_that_falls_to_zero_is_refused():
    """Two eigenvalues above 0, D = 4: no noise unless 2 beta > 4, and at beta = 5 the loss is least at a known one."""
    values = (2.0, 1.0, 0.0, 0.0)
    for beta in (1.0, 2.0):
        with pytest.raises(ValueError, match="num_latents = 3, 2 eigenvalues above 0: the latents explain all"):
            linear_vae.learned_noise(values, 3, beta)
        assert np.isnan(jax.jit(linear_vae.learned_noise, static_argnums=1)(np.array(values), 3, beta))
    np.testing.assert_allclose(linear_vae.learned_noise(values, 3, 5.0), 3 / 4)  # k = 0: 2 < 5 3/4
    np.testing.assert_allclose(linear_vae.learned_noise(values, 1, 1.0), 1 / 3)  # one eigenvalue is left over
    with pytest.raises(ValueError, match=r"give fewer latents, or beta above D$"):
        linear_vae.learned_noise([0, 0], 1)
    with pytest.raises(ValueError, match="beta = 0: give finite numbers above 0"):
        linear_vae.learned_noise(values, 1, 0.0)
    with pytest.raises(ValueError, match="num_latents = 5: data of 4 numbers"):
        linear_vae.learned_noise(values, 5)


def test_a_mean_over_features_loses_what_is_below_half_their_number():
    """tau = beta D / 2 = 4 for eight features: of the mean eigenvalue 1, only one of 4.1 is kept."""
    tau = linear_vae.averaged_loss_tau(1.0, 8)
    assert float(tau) == 4
    assert int(linear_vae.active([4.1, *[3.9 / 7] * 7], tau)) == 1
    covariance, maps = np.diag([3.0, 1.0]), (np.ones((1, 2)), np.ones((2, 1)), [0.5])
    terms = linear_vae.free_energy(covariance, *maps, linear_vae.averaged_loss_tau(0.7, 2))
    mean_squares = 2 * terms.reconstruction / 2  # over two features
    np.testing.assert_allclose(terms.total, mean_squares + 0.7 * terms.divergence.sum())  # times D / 2 = 1
    with pytest.raises(ValueError, match="beta = -1: give finite numbers above 0"):
        linear_vae.averaged_loss_tau(-1.0, 8)
    with pytest.raises(ValueError, match="num_features = 0: give a whole number, 1 or above"):
        linear_vae.averaged_loss_tau(1.0, 0)


def test_ring_eigenvalues_are_the_moments_of_the_density():
    """By quadrature over the angle; relevance splits by a / (2 tau) without noise."""
    theta = np.arange(64) * 2 * np.pi / 64
    for a, sigma in ((0.0, 0.0), (0.6, 0.0), (-1.0, 0.3)):
        weights = (1 + a * np.cos(2 * theta)) / 64
        want = (1 + sigma**2) * np.array([weights @ np.cos(theta) ** 2, weights @ np.sin(theta) ** 2])
        np.testing.assert_allclose(linear_vae.ring_eigenvalues(a, sigma), want, atol=1e-12)
    first, second = linear_vae.relevance(linear_vae.ring_eigenvalues(0.6), 0.2)
    np.testing.assert_allclose(first - second, 0.6 / (2 * 0.2))
    assert linear_vae.multiplets(linear_vae.ring_eigenvalues(0.0, 0.5)).sizes == (2,)
    assert linear_vae.ring_eigenvalues([0.1, 0.2], 0.1).shape == (2, 2)
    assert np.isnan(jax.jit(linear_vae.ring_eigenvalues)(2.0)).all()
    with pytest.raises(ValueError, match=r"anisotropy = 2 is outside \[-1, 1\]"):
        linear_vae.ring_eigenvalues(2.0)
    with pytest.raises(ValueError, match=r"noise = -1 is outside \[0"):
        linear_vae.ring_eigenvalues(0.0, -1.0)


def test_a_knob_is_noticed_where_its_variance_crosses_tau():
    knob = linear_vae.critical_knob(0.5)
    np.testing.assert_allclose(knob, 1.0)  # (2 tau)^(1/2)
    for factor, active in ((0.99, 2), (1.01, 3)):
        kappa = factor * knob
        spread = np.array([[1, 1], [1, -1]]) @ np.diag([kappa**2 / 2, 3.0]) @ np.array([[1, 1], [1, -1]]) / 2
        eigenvalues = np.append(np.linalg.eigvalsh(spread), 2.0)
        assert int(linear_vae.active(eigenvalues, 0.5)) == active
    np.testing.assert_allclose(linear_vae.critical_knob([1.0, 4.0], 0.25), [2, 4])
    with pytest.raises(ValueError, match="tau = 0: give"):
        linear_vae.critical_knob(0.0)
    with pytest.raises(ValueError, match="coefficient = -1: give"):
        linear_vae.critical_knob(1.0, -1.0)
