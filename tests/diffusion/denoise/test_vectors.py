"""Arrays behind the interface: every parametrisation means the same, the score and the reverse are those of the law.

The law is Gaussian, N(mu, C): then x_t is Gaussian too and E[x_0 | x_t] = mu + alpha C (alpha^2 C + sigma^2)^-1
(x_t - alpha mu), by conditioning a joint Gaussian.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion import (
    DDIM,
    AdaptiveFlow,
    Ancestral,
    Finite,
    LogSNRSchedule,
    Masking,
    MeanWeight,
    MinSNRWeight,
    NoiseWeight,
    OneShot,
    OutputWeight,
    Preconditioned,
    PredictMean,
    PredictNoise,
    PredictVelocity,
    ProbabilityFlow,
    ReverseSDE,
    TrainConfig,
    VarianceExploding,
    VariancePreserving,
    VectorProcess,
    forward_backward,
    from_equinox,
    from_function,
    from_host,
    train,
)
from diffusion.measure import LineGeometry, connected_sums, over_trajectories
from diffusion.noise.schedule import AbstractSchedule

MEAN = jnp.array([0.5, -1.0, 0.0])
COVARIANCE = jnp.array([[1.0, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.3]])
PATHS = {"preserving": VariancePreserving(), "exploding": VarianceExploding()}
PARAMETRISATIONS = [PredictMean(), PredictNoise(), PredictVelocity(), Preconditioned(0.7)]
T = jnp.array([0.1, 0.5, 2.0])


def numbers(path, t):
    """alpha and sigma from their definition."""
    if isinstance(path, VariancePreserving):
        return np.exp(-t), np.sqrt(1 - np.exp(-2 * t))
    return np.ones_like(t), np.sqrt(np.exp(2 * t) - 1)


def exact_mean(path, x_t, t):
    """E[x_0 | x_t] of a batch, as JAX arrays, in the basis in which the covariance is diagonal."""
    variances, axes = (jnp.asarray(a, x_t.dtype) for a in np.linalg.eigh(COVARIANCE))
    mean, alpha, sigma = MEAN.astype(x_t.dtype), path.alpha(t)[:, None], path.sigma(t)[:, None]
    gain = alpha * variances[None] / (alpha**2 * variances[None] + sigma**2)
    return mean[None] + (gain * ((x_t - alpha * mean[None]) @ axes)) @ axes.T


def exact_denoiser(path):
    return from_function(
        lambda _, x_t, t: exact_mean(path, x_t, t), (), VectorProcess(path), (3,), parametrisation=PredictMean()
    )


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS, ids=lambda p: type(p).__name__)
def test_what_each_parametrisation_estimates_is_read_back_as_the_mean(path, parametrisation):
    """Given x_0 and z themselves, the network's target is known from its definition: the reading must return x_0."""
    x0, z = jax.random.normal(jax.random.key(0), (2, 3, 3))
    alpha, sigma = (np.asarray(n)[:, None] for n in numbers(path, T))
    x_t = alpha * x0 + sigma * z
    spread = np.sqrt(alpha**2 * 0.49 + sigma**2)
    targets = {
        PredictMean: (x0, x_t),
        PredictNoise: (z, x_t),
        PredictVelocity: (alpha * z - sigma * x0, x_t),
        Preconditioned: ((x0 - alpha * 0.49 / spread**2 * x_t) * spread / (0.7 * sigma), x_t / spread),
    }
    target, entry = targets[type(parametrisation)]
    seen = []

    def network(_, x, t):
        seen.append(x)
        return target.astype(x.dtype)

    process = VectorProcess(path)
    denoiser = from_function(lambda _, x, t: x, (), process, (3,), parametrisation=parametrisation)
    denoiser = eqx.tree_at(lambda d: d.apply, denoiser, network)
    np.testing.assert_allclose(denoiser(x_t, T), x0, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(seen[0], entry, rtol=1e-12)
    np.testing.assert_allclose(denoiser.loss(x0, x_t, T), np.zeros(3), atol=1e-20)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_weights_multiply_the_squared_error_of_the_mean(path):
    """1 / scale^2, 1, the signal-to-noise ratio and its minimum with 5, whatever the network is asked for."""
    (x0, z), (alpha, sigma) = jax.random.normal(jax.random.key(0), (2, 3, 3)), numbers(path, T)
    x_t = alpha[:, None] * x0 + sigma[:, None] * z
    for parametrisation in PARAMETRISATIONS:
        scale, ratio = np.asarray(parametrisation.factors(path, T)[1]), (alpha / sigma) ** 2
        for weighting, weight in (
            (OutputWeight(), 1 / scale**2),
            (MeanWeight(), 1),
            (NoiseWeight(), ratio),
            (MinSNRWeight(), np.minimum(ratio, 5)),
        ):
            denoiser = from_function(
                lambda _, x, t: jnp.sin(x),
                (),
                VectorProcess(path),
                (3,),
                parametrisation=parametrisation,
                weighting=weighting,
            )
            want = weight * np.mean((denoiser(x_t, T) - x0) ** 2, 1)
            np.testing.assert_allclose(denoiser.loss(x0, x_t, T), want, rtol=1e-12)
    with pytest.raises(ValueError, match=r"largest = -1\.0: must be positive"):
        MinSNRWeight(-1.0)


def test_preconditioned_inputs_and_targets_have_unit_variance():
    """For data of variance s^2: Var of input x_t is 1, and (x_0 - skip x_t) / scale has variance 1 at every time."""
    x0 = 0.7 * jax.random.normal(jax.random.key(1), (3, 40_000))
    for path in PATHS.values():
        skip, scale, entry = (np.asarray(f)[:, None] for f in Preconditioned(0.7).factors(path, T))
        alpha, sigma = (np.asarray(n)[:, None] for n in numbers(path, T))
        x_t = alpha * x0 + sigma * jax.random.normal(jax.random.key(2), x0.shape)
        for sample in (entry * x_t, (x0 - skip * x_t) / scale):
            np.testing.assert_allclose(np.var(sample, 1), 1, atol=5 * np.sqrt(2 / 40_000))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_score_is_the_gradient_of_the_log_density(path):
    x_t = jax.random.normal(jax.random.key(3), (3, 3))
    alpha, sigma = numbers(path, T)
    for i in range(3):
        cov = alpha[i] ** 2 * COVARIANCE + sigma[i] ** 2 * jnp.eye(3)
        want = jax.grad(lambda x, c=cov, i=i: jax.scipy.stats.multivariate_normal.logpdf(x, alpha[i] * MEAN, c))(x_t[i])
        np.testing.assert_allclose(exact_denoiser(path).score(x_t, T)[i], want, rtol=1e-10)


SAMPLERS = [
    (Ancestral(256, LogSNRSchedule(0.01, 1.5)), 0.04),
    (ReverseSDE(64), 0.01),
    (ProbabilityFlow(24), 0.01),
    (DDIM(384), 0.03),
    (AdaptiveFlow(1e-3), 0.01),
]


UNDOING = [  # by default every sampler on one path, one of them on both
    pytest.param(path, sampler, error, id=f"{name}-{type(sampler).__name__}",
                 marks=pytest.mark.slow if name == "exploding" and not isinstance(sampler, ReverseSDE) else ())
    for name, path in PATHS.items() for sampler, error in SAMPLERS
]  # fmt: skip


@pytest.mark.parametrize(("path", "sampler", "error"), UNDOING)
def test_undoing_noise_gives_back_the_law(path, sampler, error):
    """N(mu, C), noised and undone with the exact mean: means and covariances within 5 standard errors, and the
    latter within the error of the steps, measured with ten times as many draws."""
    draws = 20_000
    x0 = MEAN[None] + jax.random.normal(jax.random.key(4), (draws, 3)) @ jnp.linalg.cholesky(COVARIANCE).T
    times = jnp.full(draws, 1.5)
    again = forward_backward(jax.random.key(5), exact_denoiser(path), x0, times, sampler=sampler)[0]
    np.testing.assert_allclose(np.mean(again, 0), MEAN, atol=5 / draws**0.5)
    np.testing.assert_allclose(np.cov(again.T), COVARIANCE, atol=error + 5 * (2 / draws) ** 0.5)


def test_rows_hardly_noised_take_the_mean():
    x_t, t = jnp.ones((2, 3)), jnp.array([5e-5, 0.5])
    denoiser = exact_denoiser(VariancePreserving())
    got = ReverseSDE(4)(jax.random.key(12), denoiser, x_t, t)
    np.testing.assert_allclose(got[0], denoiser(x_t, t)[0], rtol=1e-10)
    assert abs(got[1] - denoiser(x_t, t)[1]).max() > 0.1


def test_strings_have_no_reverse_equation():
    strings = from_function(lambda w, x, t: w[x], jnp.zeros((4, 3)), Masking(3), 2)
    with pytest.raises(ValueError, match="reverse equations are of arrays; Masking is of strings: use Ancestral"):
        ReverseSDE()(jax.random.key(0), strings, jnp.zeros((1, 2), jnp.int32), jnp.ones(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_steps": 0}, "num_steps = 0: at least 1 needed"), ({"min_time": 0.0}, r"min_time = 0\.0: must be positive")],
)
def test_steps_that_lead_nowhere_are_refused(options, message):
    for equation in (ReverseSDE, ProbabilityFlow, DDIM):
        with pytest.raises(ValueError, match=message):
            equation(**options)


def test_the_flow_follows_its_closed_form():
    """For N(0, s^2) the flow keeps x / sqrt(alpha^2 s^2 + sigma^2): from t = 2 to .01, then the mean."""
    process, variance = VectorProcess(), 0.5

    def apply(_, x, t):
        alpha, sigma = process.path.alpha(t), process.path.sigma(t)
        return (alpha * variance / (alpha**2 * variance + sigma**2))[:, None] * x

    denoiser = from_function(apply, (), process, (3,), parametrisation=PredictMean())
    x_t, t = jax.random.normal(jax.random.key(13), (4, 3)), jnp.full(4, 2.0)
    got = jax.jit(ProbabilityFlow(48, 0.01))(jax.random.key(14), denoiser, x_t, t)
    late, early = (np.exp(-2 * u) * variance + 1 - np.exp(-2 * u) for u in (0.01, 2.0))
    want = x_t * np.sqrt(late / early) * np.exp(-0.01) * variance / late
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_noise_of_an_image_has_the_law_of_the_process():
    process, x0 = VectorProcess(), jnp.full((40, 40, 3), 0.3)
    x_t = process.corrupt(jax.random.key(6), x0, 0.4)
    residual = (np.asarray(x_t) - np.exp(-0.4) * 0.3) / np.sqrt(1 - np.exp(-0.8))
    assert x_t.shape == x0.shape and stats.kstest(residual.ravel(), "norm").pvalue > 1e-3
    assert process.corrupt(jax.random.key(6), x0.astype(jnp.float32), jnp.float64(0.4)).dtype == jnp.float32


class Linear(eqx.Module):
    """The best denoiser of a Gaussian is linear at each time; here at one."""

    matrix: jax.Array
    offset: jax.Array

    def __call__(self, x_t, t):
        return self.matrix @ x_t + self.offset


def test_training_finds_the_exact_mean():
    """At one fixed time a linear network can be exact: after training it is within .03 of the conditional mean."""
    fixed, process = 0.5, VectorProcess()
    x0 = MEAN[None] + jax.random.normal(jax.random.key(7), (50_000, 3)) @ jnp.linalg.cholesky(COVARIANCE).T
    denoiser = from_equinox(Linear(jnp.zeros((3, 3), jnp.float32), jnp.zeros(3, jnp.float32)), process, (3,))
    config = TrainConfig(steps=1500, batch_size=256, learning_rate=2e-2, weight_decay=0.0, ema_decay=0.99)
    data = Finite(x0.astype(jnp.float32))
    trained = train(jax.random.key(8), denoiser, data, config, schedule=AlwaysAt(fixed)).denoiser
    x_t = jax.random.normal(jax.random.key(9), (100, 3), jnp.float32)
    t = jnp.full(100, fixed, jnp.float32)
    np.testing.assert_allclose(trained(x_t, t), exact_mean(process.path, x_t, t), atol=0.03)


class AlwaysAt(AbstractSchedule):
    time: float

    def __call__(self, u):
        return jnp.full_like(u, self.time)


def test_a_wrong_shape_is_refused_at_every_door():
    wrong = {"shape": (3,), "process": VectorProcess()}
    message = r"expected an array of the shape of x_t, \(batch, \.\.\.\) = \(2, 3\)"
    with pytest.raises(ValueError, match=message):
        from_function(lambda _, x, t: x[:, :2], (), **wrong)
    with pytest.raises(ValueError, match=message):
        from_host(lambda x, t: x[:, :2], **wrong)


def test_a_function_of_this_machine_gives_what_its_twin_in_jax_gives():
    x_t = jax.random.normal(jax.random.key(10), (3, 2, 2, 1), jnp.float32)
    t = T.astype(jnp.float32)
    arguments = (VectorProcess(), (2, 2, 1))
    host = from_host(lambda x, t: np.tanh(x) * t[:, None, None, None], *arguments, parametrisation=PredictNoise())
    twin = from_function(
        lambda _, x, t: jnp.tanh(x) * t[:, None, None, None], (), *arguments, parametrisation=PredictNoise()
    )
    np.testing.assert_allclose(jax.jit(host)(x_t, t), jax.jit(twin)(x_t, t), rtol=1e-5, atol=1e-6)


def test_an_unknown_joint_posterior_is_refused():
    with pytest.raises(ValueError, match="VectorNetworkDenoiser knows only"):
        OneShot()(jax.random.key(0), exact_denoiser(VariancePreserving()), jnp.zeros((1, 3)), jnp.ones(1))


def test_a_data_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"data_std = 0\.0: must be positive"):
        Preconditioned(0.0)


def test_correlated_changes_of_arrays_are_those_of_their_posterior():
    """A regeneration is a draw from p(x_0 | x_t). At fixed x_0 its covariance is that of the mean, sigma^2 G G' with
    the gain G, and that of the draw, (1 - alpha G) C; sums over distances against 4000 trajectories, 5 errors each."""
    x0, t, count = jnp.array([[0.3, -0.2, 0.1]]), 0.7, 4000
    alpha, sigma = numbers(VariancePreserving(), t)
    gain = alpha * COVARIANCE @ np.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * np.eye(3))
    want = sigma**2 * gain @ gain.T + (np.eye(3) - alpha * gain) @ COVARIANCE
    found = over_trajectories(
        jax.random.key(11),
        exact_denoiser(VariancePreserving()),
        x0,
        jnp.float64(t),
        lambda _, again, __: connected_sums(again, LineGeometry(3)),
        num_trajectories=count,
        sampler=ReverseSDE(64),
    )
    sums = [np.trace(want), 2 * (want[0, 1] + want[1, 2]), 2 * want[0, 2]]
    np.testing.assert_allclose(found[0], sums, atol=0.02 + 5 * 2 * (2 / count) ** 0.5)
