"""The inward p-Laplacian and its flux against closed forms of Gaussians, quadrature of mixtures, and flat pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from diffusion import Masking, VarianceExploding, VectorProcess
from diffusion.measure import dimension
from diffusion.measure.memorisation import p_laplace, p_laplacian
from hierarchical import GaussianMixture, LinearSubspace, RandomHierarchyModel
from theory.exact import GrammarDenoiser, LawDenoiser, MixtureDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
EXPLODING = VectorProcess(VarianceExploding())


def time_of(noise):
    """The time of noise s = sigma / alpha, on every path."""
    return float(np.log1p(noise**2) / 2)


def gaussian(mean, covariance, process=EXPLODING):
    mean = np.asarray(mean, float)
    return MixtureDenoiser(GaussianMixture(np.ones(1), mean[None], np.asarray(covariance, float)[None]), process)


def within(found, truth, errors=4.5):
    return np.abs(found.value - truth) < errors * found.stderr + 1e-12


@pytest.mark.parametrize("process", [EXPLODING, VectorProcess()])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_pointwise_is_the_closed_form_of_an_anisotropic_gaussian(p, process):
    """-(y'P^2y)^((p-2)/2) (tr P + (p-2) y'P^3y / y'P^2y), turned inward; P the inverse of Sigma + s^2."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    covariance, mean = turn @ np.diag([0.2, 0.7, 1.5, 3.0]) @ turn.T, np.array([1.0, -2.0, 0.5, 0.0])
    s = 0.4
    inverse = np.linalg.inv(covariance + s**2 * np.eye(4))
    x = np.random.default_rng(2).normal(size=(2, 3, 4))
    y = x - mean
    two, three = (np.einsum("...i,ij,...j", y, np.linalg.matrix_power(inverse, k), y) for k in (2, 3))
    want = two ** ((p - 2) / 2) * (np.trace(inverse) + (p - 2) * three / two)
    found = p_laplacian(KEY, gaussian(mean, covariance, process), x, time_of(s), p)
    np.testing.assert_allclose(found.value, want, rtol=1e-9)
    assert (found.stderr == 0).all() and found.value.shape == (2, 3)
    probed = p_laplacian(KEY, gaussian(mean, covariance, process), x, time_of(s), p, num_probes=200)
    assert within(probed, want).all() and (probed.stderr > 0).all()


@pytest.mark.slow
def test_pointwise_of_an_isotropic_gaussian():
    """(d + p - 2) r^(p-2) v^-(p-1)."""
    x, s = np.array([1.0, 2, 0, 0, 2]), 0.5
    for p in (1, 2, 2.5):
        found = p_laplacian(KEY, gaussian(np.zeros(5), 0.75 * np.eye(5)), x, time_of(s), p)
        np.testing.assert_allclose(found.value, (3 + p) * 3 ** (p - 2), rtol=1e-12)  # v = 1, r = 3


def test_flux_at_an_isotropic_centre_has_no_variance():
    """-M_p = (R / v)^(p-1): 1 exactly at p = 1, whatever the radius and the noise."""
    denoiser, x, t = gaussian(np.zeros(6), 0.3 * np.eye(6)), np.zeros(6), time_of(0.2)
    for p, radius in ((1.0, None), (1.0, 5.0), (2.0, 2.0), (3.0, 0.7)):
        found = p_laplace(KEY, denoiser, x, t, p, radius)
        want = 1.0 if p == 1 else (radius / 0.34) ** (p - 1)
        np.testing.assert_allclose(found.value, want, rtol=1e-12)
        assert found.stderr < 1e-12 * want
    default, given = p_laplace(KEY, denoiser, x, t, 2.0), p_laplace(KEY, denoiser, x, t, 2.0, 0.2 * 6**0.5)
    np.testing.assert_allclose(default.value, given.value, rtol=1e-12)


@pytest.mark.parametrize(("offset", "want"), [(0.5, 1 - 0.25 / 3), (1.0, 2 / 3), (2.0, 1 / 3)])
def test_flux_beside_a_centre_in_three_dimensions(offset, want):
    """1 - delta^2 / 3R^2 for delta <= R, else 2R / (3 delta)."""
    found = p_laplace(KEY, gaussian(np.zeros(3), np.eye(3)), [0, offset, 0], 0.1, radius=1.0, num_pairs=2000)
    assert within(found, want) and found.stderr < 0.01


@pytest.mark.slow
def test_flux_beside_a_centre_in_many_dimensions():
    """R / (R^2 + delta^2)^(1/2), up to 1/d."""
    x = np.zeros((2, 400))
    x[:, 0] = 1, 3
    found = p_laplace(KEY, gaussian(np.zeros(400), np.eye(400)), x, 0.1, radius=2.0, num_pairs=64)
    np.testing.assert_allclose(found.value, 2 / np.sqrt([5, 13]), atol=5e-3)


CORNERS = 5 * np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])  # an equilateral triangle of side 5
PLACES = np.array([CORNERS[0], CORNERS[:2].mean(0), CORNERS.mean(0)])  # mode, midpoint, centroid
TABLE = {1: (-1, 0.372317, 0.688768), 2: (-10, 5.905008, 13.857512), 1.5: (-3.162278, 1.485783, 3.082016)}


def quadrature(p, place, angles=200_000):
    """Outward M_p of the three modes of variance .1 at R = 1, by the sum over a circle."""
    angle = 2 * np.pi * (np.arange(angles) + 0.5) / angles
    n = np.stack([np.cos(angle), np.sin(angle)], 1)
    away = place + n - CORNERS[:, None]  # (modes, angles, 2)
    logs = -np.sum(away**2, -1) / 0.2
    weights = np.exp(logs - logs.max(0))
    g = -np.einsum("ka,kai->ai", weights / weights.sum(0), away) / 0.1
    return np.mean(np.linalg.norm(g, axis=1) ** (p - 2) * np.sum(g * n, 1))


@pytest.mark.parametrize("p", TABLE)
@pytest.mark.parametrize("noise", [1e-5, 0.2])
def test_the_mixture_of_the_paper_at_mode_midpoint_and_centroid(p, noise):
    """Three modes of variance .1, noise included, R = 1; the table has outward values."""
    truth = np.array([quadrature(p, place) for place in PLACES])
    np.testing.assert_allclose(truth, TABLE[p], atol=1e-6, rtol=2e-6)
    mixture = GaussianMixture(np.ones(3), CORNERS, 0.1 - noise**2)
    found = p_laplace(KEY, MixtureDenoiser(mixture, EXPLODING), PLACES, time_of(noise), p, 1.0, num_pairs=4000)
    assert within(found, -truth).all()
    assert (found.stderr < 0.03 * np.abs(truth)).all()


def flat_piece(k, d=400):
    """A standard deviation of 2 along k axes, none along the others."""
    mixture = GaussianMixture(np.ones(1), np.zeros((1, d)), 4 * (np.arange(d) < k)[None])
    return MixtureDenoiser(mixture), mixture.sample(jax.random.key(k), 16).x


@pytest.mark.parametrize(
    ("k", "row"),
    [
        (4, 4.0),
        (360, 360.2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((40, 40.0), (100, 99.8), (200, 200.6))),
    ],
)
def test_one_laplace_of_a_flat_piece_is_its_dimension(k, row):
    """d (1 - M_1^2) = 4.0 40.0 99.8 200.6 360.2 for k = 4 40 100 200 360, d = 400, t = .002, a measured row.

    Its limit is E|n across|, a ratio of Gamma functions. The score along the piece adds a part of order s^2: at k = 360
    it takes 1 off where the standard deviation along the piece, which the row does not state, is 1 instead of 2.
    """
    found = p_laplace(KEY, *flat_piece(k), 0.002, num_pairs=32)
    mean, error = found.value.mean(), np.sqrt(np.sum(found.stderr**2)) / 16
    across = np.exp(gammaln((401 - k) / 2) + gammaln(200) - gammaln((400 - k) / 2) - gammaln(200.5))
    measured, scale = 400 * (1 - mean**2), 800 * mean * error
    assert abs(measured - 400 * (1 - across**2)) < 4 * scale + 0.3
    assert abs(measured - row) < 4 * scale + 0.4


@pytest.mark.slow
def test_flipd_of_a_flat_piece_at_small_noise():
    """k + s^2 (y^2 - k) to first order, y along a piece of unit spread: 17.0001 where y^2 = 17.5, s^2 = 2e-4."""
    law = LinearSubspace(KEY, 17, 40)
    x = law.axes @ jnp.full(17, (17.5 / 17) ** 0.5)
    found = dimension.flipd(KEY, LawDenoiser(law, 40), x, 1e-4)
    np.testing.assert_allclose(found.value, 17.0001, atol=1e-6)


@pytest.mark.slow
def test_the_sign_fails_at_a_saddle_in_many_dimensions():
    """Half-way between two modes, 5 apart, of variance .1: outward +.52 in 2 dimensions, -.95 in 512, R = s sqrt d."""
    for d, want in ((2, 0.52), (512, -0.95)):
        modes = np.zeros((2, d))
        modes[:, 0] = -2.5, 2.5
        denoiser = MixtureDenoiser(GaussianMixture(np.ones(2), modes, 1e-6), EXPLODING)
        found = p_laplace(KEY, denoiser, np.zeros(d), time_of((0.1 - 1e-6) ** 0.5), num_pairs=4000 if d == 2 else 64)
        assert abs(found.value + want) < 4 * found.stderr + 0.005


@pytest.mark.slow
def test_a_ball_averages_the_pointwise_value():
    """(d / R) M_p is the mean of Delta_p over the ball: here p = 2 of a mixture, by draws in the ball."""
    denoiser = MixtureDenoiser(GaussianMixture(np.ones(2), [[0.0, 0, 0], [1.0, 1, 0]], 0.5), EXPLODING)
    x, radius, t = np.array([0.3, -0.2, 0.1]), 0.8, time_of(0.3)
    draws = np.random.default_rng(3).normal(size=(4000, 5))
    ball = x + radius * (draws / np.linalg.norm(draws, axis=1, keepdims=True))[:, :3]  # uniform: Archimedes
    inside = p_laplacian(KEY, denoiser, ball, t, 2.0).value
    flux = p_laplace(KEY, denoiser, x, t, 2.0, radius, num_pairs=4000)
    error = np.hypot(3 / radius * flux.stderr, inside.std() / 4000**0.5)
    assert abs(3 / radius * flux.value - inside.mean()) < 4 * error


def test_times_and_radii_for_each_datum_jit_and_single_precision():
    denoiser = gaussian(np.zeros(3), np.eye(3))
    x = np.random.default_rng(4).normal(size=(2, 3, 3))
    t, radius = np.array([0.1, 0.4]), np.array([0.5, 1.5])
    both = p_laplace(KEY, denoiser, x, t, 1.5, radius)
    assert both.value.shape == both.stderr.shape == (2, 3)
    compiled = jax.jit(lambda x, t, radius, p: p_laplace(jax.random.key(0), denoiser, x, t, p, radius))
    inside = compiled(x, t, radius, 1.5)
    np.testing.assert_allclose(inside.value, both.value, rtol=1e-12)
    each = p_laplacian(KEY, denoiser, x, t, 1.5).value
    np.testing.assert_allclose(each[1], p_laplacian(KEY, denoiser, x[1], 0.4, 1.5).value, rtol=1e-12)
    single = gaussian(np.zeros(3), np.eye(3))
    single = jax.tree.map(lambda a: a.astype(jnp.float32), single)
    found = p_laplace(KEY, single, x.astype(np.float32), 0.1)
    assert found.value.dtype == found.stderr.dtype == jnp.float32
    assert p_laplacian(KEY, single, x.astype(np.float32), 0.1).value.dtype == jnp.float32


def test_no_value_where_the_score_vanishes():
    denoiser, x = gaussian(np.zeros(3), np.eye(3)), np.zeros((2, 3))
    x[1] = 1
    with pytest.raises(ValueError, match=r"p = 1\.5: the score is 0 at 1 of the points"):
        p_laplacian(KEY, denoiser, x, 0.1, 1.5)
    inside = jax.jit(lambda x: p_laplacian(jax.random.key(0), denoiser, x, 0.1).value)(x)
    assert np.isnan(inside[0]) and np.isfinite(inside[1])
    np.testing.assert_allclose(p_laplacian(KEY, denoiser, x[0], 0.1, 2.0).value, 3 / np.exp(0.2), rtol=1e-12)
    assert p_laplacian(KEY, denoiser, x[0], 0.1, 3.0).value == 0
    on_sphere = np.array([1.0])  # the sphere of radius 1 around 1, in one dimension, is {0, 2}
    line = gaussian(np.zeros(1), np.eye(1))
    assert np.isnan(p_laplace(KEY, line, on_sphere, 0.1, radius=1.0).value)
    np.testing.assert_allclose(p_laplace(KEY, line, on_sphere, 0.1, 2.0, 1.0).value, 1 / np.exp(0.2), rtol=1e-12)


def test_wrong_input_is_refused_by_name():
    denoiser, x = gaussian(np.zeros(3), np.eye(3)), np.ones((2, 3))
    grammar = GrammarDenoiser(RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3))
    for refused, message in (
        (lambda: p_laplace(KEY, grammar, np.zeros((1, 4), int), 0.5), "GrammarDenoiser is no denoiser of arrays"),
        (lambda: p_laplace(KEY, denoiser, x, 0.0), "t = 0: without noise"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, np.nan), "p = nan: give one finite number"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, [1.0, 2.0]), r"p = \[1.0, 2.0\]: give one finite number"),
        (lambda: p_laplacian(KEY, denoiser, x, 0.1, np.inf), "p = inf: give one finite number"),
        (lambda: p_laplacian(KEY, denoiser, x, 0.1, num_probes=1), "num_probes = 1"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, radius=0), "radius = 0.0: give positive, finite numbers"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, radius=[1, np.inf]), "radius = inf: give positive"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, radius=np.ones(3)), r"radius has shape \(3,\), the batch \(2,\)"),
        (lambda: p_laplace(KEY, denoiser, x, 0.1, num_pairs=1), "num_pairs = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    inside = jax.jit(lambda radius: p_laplace(jax.random.key(0), denoiser, x, 0.1, radius=radius).value)
    assert np.isnan(inside(jnp.array([-1.0, 1.0]))).tolist() == [True, False]
