"""Exact denoisers of arrays: mixture and training set are one where they must be, draws have the stated law, and the
seed's weight crosses at the collapse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from diffusion import (
    AdaptiveFlow,
    Ancestral,
    OneShot,
    ProbabilityFlow,
    ReverseSDE,
    VarianceExploding,
    VariancePreserving,
    VectorProcess,
    forward_backward,
)
from hierarchical import Curve, GaussianMixture, Sphere, line
from theory import collapse
from theory.exact import CurveDenoiser, EmpiricalDenoiser, MixtureDenoiser, SphereDenoiser, empirical
from theory.gaussian.speciation import clone_probability, ode_clone_probability, signal

POINTS = jax.random.normal(jax.random.key(0), (50, 6))
PATHS = {"preserving": VariancePreserving(), "exploding": VarianceExploding()}
T = jnp.array([0.05, 0.3, 1.0, 2.0])
TURN = 2 * np.pi


def noised(path):
    keys = jax.random.split(jax.random.key(1), 4)
    return jax.jit(jax.vmap(VectorProcess(path).corrupt))(keys, POINTS[:4], T)


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("preserving", 7),
        ("exploding", 4096),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [
            ("preserving", 50), ("preserving", 4096), ("exploding", 7), ("exploding", 50)]),
    ],
)  # fmt: skip
def test_a_training_set_is_the_mixture_of_its_points(path, block, monkeypatch):
    """Points as a mixture without variance: the same mean and weights, whatever the blocks."""
    monkeypatch.setattr(empirical, "BLOCK", block)
    path = PATHS[path]
    process, x_t = VectorProcess(path), noised(path)
    mixture = GaussianMixture(jnp.ones(50), POINTS, 0.0)
    found = EmpiricalDenoiser(POINTS, process)
    np.testing.assert_allclose(found(x_t, T), MixtureDenoiser(mixture, process)(x_t, T), rtol=1e-10, atol=1e-12)
    for i in range(4):
        weights = mixture.noised(path.alpha(T[i]), path.sigma(T[i])).component_posterior(x_t[i])
        np.testing.assert_allclose(jnp.exp(found.log_weights(x_t, T))[i], weights, atol=1e-12)


@pytest.mark.parametrize("path", [PATHS["exploding"], pytest.param(PATHS["preserving"], marks=pytest.mark.slow)])
def test_the_denoiser_of_a_closed_curve_is_that_of_the_circle(path):
    """At noise as large as the distance of midpoints up to exp(-2 pi^2), 3e-9, and NaN below."""
    process = VectorProcess(path)
    found = CurveDenoiser(Curve(lambda u: jnp.concatenate([jnp.cos(TURN * u), jnp.sin(TURN * u)])), process, points=256)
    want = SphereDenoiser(Sphere(jax.random.key(0), 1, 2), process)
    assert abs(found.spacing - 2 * np.sin(TURN / 512)) < 1e-12
    t = jnp.array([found.min_time, 0.01, 0.3, 1.0])
    x_t = jax.random.normal(jax.random.key(1), (4, 2))
    np.testing.assert_allclose(found(x_t, t)[0], want(x_t, t)[0], atol=3e-9)
    np.testing.assert_allclose(found(x_t, t)[1:], want(x_t, t)[1:], rtol=1e-9)
    np.testing.assert_allclose(found.score(x_t, t)[1:], want.score(x_t, t)[1:], rtol=1e-7)
    flow = ProbabilityFlow(24, found.min_time)
    drawn, wanted = (flow(jax.random.key(2), denoiser, x_t, 3.0) for denoiser in (found, want))
    np.testing.assert_allclose(drawn, wanted, atol=1e-8)
    single = found(x_t.astype(jnp.float32), jnp.float32(found.min_time))
    assert single.dtype == jnp.float32 and np.isfinite(single).all()
    assert np.isnan(found(x_t, 0.9 * found.min_time)).all() and np.isnan(found(x_t, 0.0)).all()


def test_the_denoiser_of_an_open_curve_is_the_quotient_of_integrals():
    curve, x_t, t = line(3), np.array([0.9, 1.2, 0.1]), 0.2
    alpha, sigma = np.exp(-t), np.sqrt(-np.expm1(-2 * t))

    def integral(of):
        def density(u):
            return of(u) * np.exp(-((x_t - alpha * np.sin(np.arange(1, 4) * u)) ** 2).sum() / (2 * sigma**2))

        return integrate.quad(density, 0, 1, epsabs=1e-13)[0]

    want = [integral(lambda u, i=i: np.sin(i * u)) / integral(lambda u: 1.0) for i in (1, 2, 3)]
    errors = [np.abs(np.asarray(CurveDenoiser(curve, points=n)(x_t, t)) - want).max() for n in (256, 512)]
    assert errors[1] < 1e-6 and 3.9 < errors[0] / errors[1] < 4.1  # the ends: of second order
    with pytest.raises(ValueError, match="points = 1: give a whole number, 2 or above"):
        CurveDenoiser(curve, points=1)


def test_images_keep_their_shape_and_draws_are_of_the_set():
    images = POINTS.reshape(50, 2, 3, 1)
    found = EmpiricalDenoiser(images, VectorProcess())
    x_t = images[:4] + 0.1
    np.testing.assert_allclose(
        found(x_t, T).reshape(4, 6), EmpiricalDenoiser(POINTS, VectorProcess())(POINTS[:4] + 0.1, T)
    )
    drawn = found.posterior_sample(jax.random.key(2), x_t, T)
    assert drawn.shape == x_t.shape
    assert ((np.asarray(drawn)[:, None] == np.asarray(images)[None]).all((2, 3, 4)).sum(1) == 1).all()


def test_little_noise_far_from_the_set_gives_its_nearest_point():
    """Exponents of -10^5: sums relative to the largest do not underflow; and in float32."""
    for dtype in (jnp.float32, jnp.float64):
        found = EmpiricalDenoiser(POINTS.astype(dtype), VectorProcess())
        x_t, t = POINTS[:1].astype(dtype) + 10, jnp.full(1, 1e-3, dtype)
        nearest = jnp.argmin(jnp.sum((x_t - math.exp(-1e-3) * POINTS.astype(dtype)) ** 2, 1))
        np.testing.assert_allclose(found(x_t, t)[0], POINTS[nearest], atol=1e-5)


SAMPLERS = [
    (OneShot(), clone_probability),
    (ReverseSDE(24), clone_probability),
    (ProbabilityFlow(24), ode_clone_probability),
]


@pytest.mark.parametrize(("sampler", "prediction"), SAMPLERS, ids=lambda p: getattr(p, "__name__", type(p).__name__))
@pytest.mark.parametrize("t", [2.0, pytest.param(2.4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("d", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_forward_backward_of_the_exact_denoiser_keeps_the_class_as_theory_says(d, t, sampler, prediction):
    """|m|^2 = 64, s = .6: an exact draw, the reverse equation and the flow, within 4 binomial errors of phi and Phi."""
    count, mean = 2000, jnp.zeros(d).at[0].set(8.0)
    denoiser = MixtureDenoiser(GaussianMixture(jnp.ones(2), jnp.stack([mean, -mean]), 0.36))
    data_key, key = jax.random.split(jax.random.key(4))
    x0 = denoiser.mixture.sample(data_key, (count,)).x
    again = forward_backward(key, denoiser, x0, jnp.full(count, t), sampler=sampler)[0]
    want = prediction(float(signal(64.0, 0.36, t)))
    kept = float(jnp.mean((again[:, 0] > 0) == (x0[:, 0] > 0)))
    assert abs(kept - want) < 4 * math.sqrt(want * (1 - want) / count)


@pytest.mark.parametrize(("d", "want"), [(12, 0.60), (20, 0.60)])
def test_the_seed_has_the_quoted_weight_at_the_collapse(d, want):
    """PHYSICS-mixtures 4: ln n / d = .25, unit Gaussian data, t_C = .4663; E w_seed = .60 at d = 12 and 20."""
    n, sets, per_set = round(math.exp(0.25 * d)), 40, 200
    t = collapse.isotropic_collapse_time(math.exp(0.25 * d), d)
    assert abs(t - 0.4663) < 1e-4

    def one_set(key):
        data_key, seed_key, noise_key = jax.random.split(key, 3)
        data = jax.random.normal(data_key, (n, d))
        seeds = jax.random.randint(seed_key, (per_set,), 0, n)
        x_t = VectorProcess().corrupt(noise_key, data[seeds], t)
        found = EmpiricalDenoiser(data, VectorProcess())
        return jnp.mean(jnp.exp(empirical.seed_log_weights(found, x_t, jnp.full(per_set, t), seeds)))

    weights = jax.jit(lambda keys: jax.lax.map(one_set, keys))(jax.random.split(jax.random.key(3), sets))
    assert abs(weights.mean() - want) < 5 * weights.std() / math.sqrt(sets) + 0.005


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match=r"the training set has shape \(0, 3\): give \(n, \.\.\.\) data, at least one"):
        EmpiricalDenoiser(jnp.zeros((0, 3)), VectorProcess())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_floats_come_back_with_the_variance_of_wide_ones(dtype):
    """N(0, 1) from t = 1.5; in bfloat16 times of neighbouring steps are equal, and the variance was .87."""
    normal = MixtureDenoiser(GaussianMixture(np.ones(1), np.zeros((1, 1)), 1.0))
    x_t = jax.random.normal(jax.random.key(0), (20_000, 1)).astype(dtype)
    x = ReverseSDE()(jax.random.key(1), normal, x_t, 1.5)
    assert x.dtype == jnp.float32
    assert abs(float(jnp.var(x)) - 0.9966) < 4 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("sampler", [ReverseSDE(4), AdaptiveFlow(), Ancestral(4)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("kind", ["mixture", pytest.param("points", marks=pytest.mark.slow)])
@pytest.mark.parametrize("wide", ["data", pytest.param("denoiser", marks=pytest.mark.slow)])
def test_data_and_denoiser_may_differ_in_dtype(wide, kind, sampler):
    kinds = (jnp.float64, jnp.float32) if wide == "data" else (jnp.float32, jnp.float64)
    points = jnp.array([[0.0, 1.0], [1.0, -1.0]], kinds[1])
    mixture = GaussianMixture(jnp.ones(2, kinds[1]), points, jnp.asarray(0.1, kinds[1]))
    denoiser = MixtureDenoiser(mixture) if kind == "mixture" else EmpiricalDenoiser(points, VectorProcess())
    x_t = jnp.array([[0.1, 0.2]], kinds[0])
    assert sampler(jax.random.key(0), denoiser, x_t, 0.5).dtype == kinds[0]


def test_the_weight_of_the_seed_takes_batches_lists_and_one():
    """Against the definition: w_k ~ exp(-|x_t - alpha x^k|^2 / (2 sigma^2))."""
    rng = np.random.default_rng(0)
    data, x_t, seeds, t = rng.normal(size=(6, 2)), rng.normal(size=(2, 3, 2)), rng.integers(0, 6, (2, 3)), 0.7
    logs = -((x_t[:, :, None] - np.exp(-t) * data) ** 2).sum(-1) / (2 * -np.expm1(-2 * t))
    logs -= special.logsumexp(logs, -1, keepdims=True)
    truth = np.take_along_axis(logs, seeds[..., None], -1)[..., 0]
    denoiser = empirical.EmpiricalDenoiser(data, VectorProcess())
    for given in (seeds.astype(np.uint8), seeds.tolist()):
        np.testing.assert_allclose(empirical.seed_log_weights(denoiser, x_t, t, given), truth, rtol=1e-10)
    np.testing.assert_allclose(empirical.seed_log_weights(denoiser, x_t[0, 1], t, seeds[0, 1]), truth[0, 1], rtol=1e-10)
    marked = jax.jit(lambda seeds: empirical.seed_log_weights(denoiser, x_t, t, seeds))(
        jnp.asarray(seeds).at[1, 2].set(6)
    )
    np.testing.assert_allclose(np.ravel(marked)[:-1], np.ravel(truth)[:-1], rtol=1e-10)
    assert jnp.isnan(marked[1, 2])
    with pytest.raises(ValueError, match=r"seeds holds the symbol 6: give symbols 0 \.\. 5"):
        empirical.seed_log_weights(denoiser, x_t[0, 0], t, 6)
    with pytest.raises(ValueError, match=r"seeds have shape \(3,\), the batch \(2, 3\): give one for each datum"):
        empirical.seed_log_weights(denoiser, x_t, t, seeds[0])
