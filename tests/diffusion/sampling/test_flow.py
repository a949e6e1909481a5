"""The adaptive flow and its likelihood, against the Gaussian in closed form and a mixture's own density."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import (
    AdaptiveFlow,
    Masking,
    PredictMean,
    VarianceExploding,
    VariancePreserving,
    VectorProcess,
    from_function,
    from_host,
    log_density,
)

VARIANCES = jnp.array([0.5, 2.0, 0.1])
PATHS = {"preserving": VariancePreserving(), "exploding": VarianceExploding()}
over_paths = pytest.mark.parametrize(
    "path", [PATHS["preserving"], pytest.param(PATHS["exploding"], marks=pytest.mark.slow)], ids=PATHS
)


@functools.cache  # the same object: the same compiled programs
def gaussian(path=PATHS["preserving"]):
    """E[x_0 | x_t] of independent numbers of variance s^2: alpha s^2 / (alpha^2 s^2 + sigma^2) x_t."""

    def apply(_, x, t):
        alpha, sigma = (numbers.astype(x.dtype)[:, None] for numbers in (path.alpha(t), path.sigma(t)))
        variances = VARIANCES.astype(x.dtype)[None]
        return alpha * variances / (alpha**2 * variances + sigma**2) * x

    return from_function(apply, (), VectorProcess(path), (3,), parametrisation=PredictMean())


def two_clusters(path, mean=1.5, variance=0.3):
    """Clusters at +-mean of one number: not linear, so that steps and traces matter."""

    def apply(_, x, t):
        alpha, sigma = (numbers.astype(x.dtype)[:, None] for numbers in (path.alpha(t), path.sigma(t)))
        total = alpha**2 * variance + sigma**2
        side = jnp.tanh(alpha * mean * x / total)
        return mean * side + alpha * variance / total * (x - alpha * mean * side)

    return from_function(apply, (), VectorProcess(path), (1,), parametrisation=PredictMean())


@over_paths
def test_the_flow_keeps_standardised_numbers(path):
    """Of a Gaussian x / sqrt(alpha^2 s^2 + sigma^2) is constant, to the solver's tolerance; each row from its time."""
    x_t, t = jax.random.normal(jax.random.key(0), (4, 3)), jnp.array([0.001, 0.4, 1.0, 3.0])
    got = jax.jit(lambda x, t: AdaptiveFlow(1e-8)(jax.random.key(1), gaussian(path), x, t))(x_t, t)
    last = jnp.minimum(t, 0.002)
    spread = [jnp.sqrt(path.alpha(u)[:, None] ** 2 * VARIANCES[None] + path.sigma(u)[:, None] ** 2) for u in (t, last)]
    np.testing.assert_allclose(got, gaussian(path)(x_t / spread[0] * spread[1], last), rtol=1e-6)


@pytest.mark.slow
@over_paths
def test_densities_of_a_gaussian(path):
    t = jnp.array([0.002, 0.1, 1.0])
    alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
    x_t = alpha * jax.random.normal(jax.random.key(2), (3, 3))
    variance = alpha**2 * VARIANCES[None] + sigma**2
    want = jnp.sum(-(x_t**2) / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2, 1)
    np.testing.assert_allclose(log_density(gaussian(path), x_t, t, tolerance=1e-9), want, atol=1e-6)


@over_paths
def test_densities_of_a_mixture(path):
    t = jnp.array([0.002, 0.1, 1.0])
    alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
    x_t, variance = alpha * jnp.array([[-1.6], [0.1], [2.0]]), (alpha**2 * 0.3 + sigma**2)[:, 0]
    logs = [-((x_t[:, 0] - s * alpha[:, 0] * 1.5) ** 2) / (2 * variance) for s in (1, -1)]
    want = jnp.logaddexp(*logs) - jnp.log(2.0) - jnp.log(2 * jnp.pi * variance) / 2
    np.testing.assert_allclose(log_density(two_clusters(path), x_t, t, tolerance=1e-9), want, atol=1e-6)


def test_probes_give_a_diagonal_trace_exactly_and_any_other_on_average():
    """v J v = tr J for signs v and diagonal J; J of a rotated Gaussian is not diagonal, and is met within 5 errors."""
    x_t, t = jax.random.normal(jax.random.key(3), (2, 3)), jnp.array([0.5, 1.0])

    def apply(axes, x, t):
        axes = axes.astype(x.dtype)
        return gaussian()(x @ axes, t) @ axes.T

    def rotated(axes):
        return from_function(apply, jnp.asarray(axes), VectorProcess(), (3,), parametrisation=PredictMean())

    straight = rotated(np.eye(3))
    probed = log_density(straight, x_t, t, key=jax.random.key(4), num_probes=1)
    np.testing.assert_allclose(probed, log_density(straight, x_t, t), atol=1e-4)
    turned = rotated(np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0])
    exact = np.asarray(log_density(turned, x_t, t))
    many = np.stack([log_density(turned, x_t, t, key=jax.random.key(k), num_probes=4) for k in range(16)])
    assert many.std(0).min() > 1e-3
    assert np.all(np.abs(many.mean(0) - exact) < 5 * many.std(0) / 4)


def test_what_has_no_flow_is_refused():
    strings = from_function(lambda w, x, t: w[x], jnp.zeros((4, 3)), Masking(3), 2)
    for call in (log_density, lambda d, x, t: AdaptiveFlow()(jax.random.key(0), d, x, t)):
        with pytest.raises(ValueError, match="Masking is a process of strings, which have no flow"):
            call(strings, jnp.zeros((1, 2), jnp.int32), jnp.ones(1))
    with pytest.raises(ValueError, match="num_probes = 2 are drawn with a key: give one"):
        log_density(gaussian(), jnp.zeros((1, 3)), jnp.ones(1), num_probes=2)
    host = from_host(lambda x, t: x / 2, VectorProcess(), (3,), parametrisation=PredictMean())
    with pytest.raises(ValueError, match=r"runs on the host .* and has no derivative, which is needed here"):
        log_density(host, jnp.zeros((1, 3)), jnp.ones(1))


@pytest.mark.parametrize("value", [0.0, -1.0, jnp.inf, jnp.nan])
def test_what_the_solver_cannot_use_is_refused(value):
    exact, x_t, t = gaussian(), jnp.zeros((1, 3)), jnp.ones(1)
    with pytest.raises(ValueError, match=rf"tolerance = {value}, min_time = 0\.002: both must be positive, finite"):
        AdaptiveFlow(value)
    for wrong in ("tolerance", "max_time"):
        with pytest.raises(ValueError, match=rf"{wrong} = {value}.*: both must be positive, finite"):
            log_density(exact, x_t, t, **{wrong: value})
    if value == 0:
        with pytest.raises(ValueError, match=r"t = 0\.0 is not in \(0, max_time = 8\.0\]: change either"):
            log_density(exact, x_t, value * t)
    else:
        with pytest.raises(ValueError, match="is not a time of VectorProcess"):
            log_density(exact, x_t, value * t)


def test_a_row_that_is_not_known_is_nan_and_changes_no_other():
    exact, x_t, t = gaussian(), jnp.array([[0.0, 1, 2], [0.0, jnp.nan, 2], [1.0, 0, 1]]), jnp.ones(3)
    calls = {
        "sampled": lambda x, t: AdaptiveFlow()(jax.random.key(0), exact, x, t),
        "density": lambda x, t: log_density(exact, x, t),
    }
    for call in calls.values():
        np.testing.assert_array_equal(np.isfinite(call(x_t, t)).reshape(3, -1).all(1), [True, False, True])
        np.testing.assert_array_equal(call(x_t, t)[::2], call(x_t[::2], t[::2]))
    late = jax.jit(calls["density"])(x_t, jnp.array([1.0, 1.0, 9.0]))
    np.testing.assert_array_equal(np.isfinite(late), [True, False, False])


def test_rows_probes_and_steps_that_lead_nowhere_are_refused():
    exact, x_t, t = gaussian(), jnp.zeros((1, 3)), jnp.ones(1)
    for keys in ({}, {"key": jax.random.key(0)}):
        with pytest.raises(ValueError, match="num_probes = -1: give 0 for the exact trace, or a positive number"):
            log_density(exact, x_t, t, num_probes=-1, **keys)
    for call in (log_density, lambda d, x, t: AdaptiveFlow()(jax.random.key(0), d, x, t)):
        with pytest.raises(ValueError, match="it is empty, give at least one datum"):
            call(exact, x_t[:0], t[:0])
    with pytest.raises(RuntimeError, match="no end in 4096 steps at tolerance = 1e-30: raise it"):
        log_density(exact, x_t + 1, t, tolerance=1e-30)
