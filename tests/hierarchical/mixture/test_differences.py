"""Posterior, score and density far from all means, in single precision, against exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import GaussianMixture

MEANS = np.array([[0, 0], [3, 0], [3.5, 1], [-2, 4]], np.float32)
VARIANCES = {
    "equal": np.full((4, 2), 0.7, np.float32),
    "unequal": np.array([[0.5] * 2, [0.7] * 2, [0.7] * 2, [2] * 2], np.float32),
    "diagonal": np.array([[0.5, 2], [0.7, 0.3], [0.7, 0.3], [2, 2]], np.float32),
}
POINTS = np.array(
    [[0.4, -1], [1.2, 1e10], [1e10, 1e10], [-1e19, 3e19], [1e20, -1e20], [-1e30, 1e28], [2e38, 1e38], [1.2, -2e38]],
    np.float32,
)
EVERYTHING = jax.jit(lambda m, x: (m.component_posterior(x), m.score(x), m.log_prob(x), m.laplacian(x)))


def mixture(kind):
    given = VARIANCES[kind] if kind == "diagonal" else VARIANCES[kind][:, 0]
    return GaussianMixture(np.array([1, 2, 3, 0.5], np.float32), MEANS, given)


def exact(found, variances, x):
    """Posterior and score of equal to unequal Gaussians, from the definition; energies are fractions of any size."""
    weights = np.asarray(found.weights, float)
    y = [[Fraction(float(a)) - Fraction(float(b)) for a, b in zip(x, mean, strict=True)] for mean in MEANS]
    v = [[Fraction(float(a)) for a in row] for row in variances]
    energies = [sum(a**2 / b for a, b in zip(*pair, strict=True)) / 2 for pair in zip(y, v, strict=True)]
    factors = np.log(weights) - np.log(variances.astype(float)).sum(1) / 2
    lowest = min(range(4), key=lambda k: energies[k] - Fraction(factors[k]))
    logits = factors - factors[lowest] - [float(min(e - energies[lowest], 2000)) for e in energies]
    posterior = np.exp(logits) / np.exp(logits).sum()
    pulls = -np.array([[float(a / b) for a, b in zip(*pair, strict=True)] for pair in zip(y, v, strict=True)])
    density = factors[lowest] - float(energies[lowest]) - np.log(2 * np.pi) + np.log(np.exp(logits).sum())
    return posterior, posterior @ pulls, density


@pytest.mark.parametrize("kind", VARIANCES)
def test_posterior_score_and_density_are_right_however_far_away(kind):
    found = mixture(kind)
    posterior, score, density, laplacian = (np.asarray(part) for part in EVERYTHING(found, POINTS))
    assert posterior.dtype == np.float32 and np.isfinite(posterior).all()
    for i, x in enumerate(POINTS):
        truth = exact(found, VARIANCES[kind], x)
        np.testing.assert_allclose(posterior[i], truth[0], atol=2e-5)
        np.testing.assert_allclose(score[i], truth[1], rtol=2e-5, atol=2e-5 * abs(truth[1]).max())
        if truth[2] < -3.4e38:
            assert density[i] == -np.inf
        else:
            np.testing.assert_allclose(density[i], truth[2], rtol=1e-5)
    far = posterior.max(1) > 1 - 1e-6
    assert far.sum() >= 4
    inverse = (1 / VARIANCES[kind][posterior.argmax(1)]).sum(1)
    np.testing.assert_allclose(laplacian[far], -inverse[far], rtol=1e-4)


def test_the_referees_two_components():
    found = GaussianMixture(np.ones(2, np.float32), np.array([[0], [3]], np.float32), np.float32(1))
    posterior, score, _, _ = EVERYTHING(found, np.array([[1e10], [1e20], [-1e20]], np.float32))
    np.testing.assert_array_equal(posterior, [[0, 1], [0, 1], [1, 0]])
    np.testing.assert_allclose(score, np.array([[-1e10], [-1e20], [1e20]], np.float32), rtol=1e-6)


def test_a_common_full_covariance_is_linear_in_x():
    """ln r_1/r_0 = delta' P (x - the middle), the sign of which is known in double precision."""
    covariance = np.array([[1, 0.8], [0.8, 2]], np.float32)
    found = GaussianMixture(np.ones(2, np.float32), MEANS[:2], np.stack([covariance] * 2))
    x = np.array([[0.3, 0.7], [1e10, 0], [-1e20, 1e20], [1e20, 0.5e20], [-3e36, 1e30]], np.float32)
    logits = (x.astype(float) - [1.5, 0]) @ np.linalg.solve(covariance.astype(float), [3, 0])
    second = np.where(logits > 0, 1 / (1 + np.exp(-abs(logits))), 1 - 1 / (1 + np.exp(-abs(logits))))
    posterior = EVERYTHING(found, x)[0]
    np.testing.assert_allclose(posterior, np.stack([1 - second, second], 1), atol=2e-5)


def test_infinite_points_have_no_posterior():
    posterior, score, density, _ = EVERYTHING(mixture("equal"), np.array([[np.inf, 0], [0, np.nan]], np.float32))
    assert np.isnan(posterior).all() and np.isnan(score).any(1).all() and np.isnan(density).all()


def test_derivatives_are_finite_far_away():
    gradient = jax.jit(jax.vmap(jax.grad(mixture("diagonal").log_prob)))(jnp.asarray(POINTS[:3]))
    np.testing.assert_allclose(gradient, EVERYTHING(mixture("diagonal"), POINTS[:3])[1], rtol=1e-4)
