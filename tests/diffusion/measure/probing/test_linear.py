"""Linear probes: the normal equations, leaving out by fitting again, known noise, and errors that hold the truth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import probing
from diffusion.measure.probing.linear import RIDGES


def draws(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def solved(x, y, ridge):
    """Ridge regression by the normal equations, the mean free; `ridge` in units of the mean square singular value."""
    inside, strength = x - x.mean(0), ridge * np.mean(np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2)
    weights = np.linalg.solve(inside.T @ inside + strength * np.eye(x.shape[1]), inside.T @ (y - y.mean(0)))
    return weights, y.mean(0) - x.mean(0) @ weights, strength


def test_a_probe_solves_the_normal_equations_with_the_ridge_that_leaving_out_prefers():
    """Each datum is left out and the rest fitted again, at the strength of the whole."""
    x, noise = draws(0, (12, 5), (12, 2))
    y = x[:, :2] + 1.5 * noise
    probe = probing.fit_probe(x, y)
    errors = []
    for ridge in RIDGES:
        strength, left = solved(x, y, ridge)[2], []
        for i in range(12):
            rest, others = np.delete(x, i, 0), np.delete(y, i, 0)
            own = np.mean(np.linalg.svd(rest - rest.mean(0), compute_uv=False) ** 2)
            weights, intercept, _ = solved(rest, others, strength / own)
            left.append(y[i] - x[i] @ weights - intercept)
        errors.append(np.mean(np.square(left)))
    assert 0 < np.argmin(errors) < len(RIDGES) - 1
    np.testing.assert_allclose(probe.ridge, RIDGES[np.argmin(errors)])
    weights, intercept, _ = solved(x, y, float(probe.ridge))
    np.testing.assert_allclose(probe.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(probe.intercept, intercept, rtol=1e-9)
    np.testing.assert_allclose(probe(x), x @ weights + intercept, rtol=1e-9)


def test_r2_is_the_share_of_the_variance_that_is_not_noise_and_errors_hold_it():
    """y = W x + sigma z with |W|^2 = 3 of two outputs: R^2 = 3 / (3 + 2 sigma^2), over 64 sets of data at once."""
    x, z, w = draws(1, (64, 800, 4), (64, 800, 2), (4, 2))
    w *= np.sqrt(3 / (w**2).sum())
    score = probing.linear_probe(x, x @ w + 0.7 * z)
    away = np.asarray(score.r2.value) - 3 / (3 + 2 * 0.49)
    assert abs(away.mean()) < 5 * away.std() / 8 + 4 / 400  # five numbers of 400 data: less by about 1%
    assert 0.7 < np.mean(score.r2.stderr) / away.std() < 1.4


def test_symbols_that_states_hold_are_read_and_others_are_chance():
    symbols = np.random.default_rng(2).integers(0, 3, (2, 400)).astype(np.uint8)
    turn, states = draws(3, (3, 6), (1, 400, 6))
    held = probing.linear_probe(np.eye(3)[symbols[0]] @ turn, symbols[0], num_symbols=3)
    assert held.r2.value == pytest.approx(1, abs=1e-6) and held.accuracy.value == 1 and held.accuracy.stderr == 0
    other = probing.linear_probe(states, symbols, num_symbols=np.int64(3))  # axes of the states are broadcast
    assert other.r2.value.shape == (2,) and (np.abs(other.r2.value) < 5 * np.asarray(other.r2.stderr) + 0.05).all()
    assert (np.abs(other.accuracy.value - 1 / 3) < 5 * np.asarray(other.accuracy.stderr)).all()


def test_states_that_are_all_the_same_know_the_mean_alone():
    score = probing.linear_probe(np.ones((40, 3)), np.arange(40) % 2, num_symbols=2)
    np.testing.assert_allclose(score.r2.value, 0, atol=1e-12)


def test_a_probe_works_under_jit_and_vmap():
    x, y = draws(4, (3, 12, 5), (3, 12, 2))
    want = probing.linear_probe(x, y)
    found = eqx.filter_jit(jax.vmap(probing.linear_probe))(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found.r2.value, want.r2.value, rtol=1e-8)


@pytest.mark.parametrize(
    ("states", "targets", "message"),
    [
        (np.ones((4, 2)), np.zeros(4, int), "the targets are symbols: give num_symbols"),
        (np.ones((4, 2)), np.ones((3, 2)), r"states have shape \(4, 2\), targets \(3, 2\)"),
        (np.ones((4, 2)), np.ones(4), r"targets \(4,\)"),
        (np.ones((3, 2)), np.ones((3, 2)), "3 data: give at least 4"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), "the states hold NaN"),
        (np.ones((4, 2)), np.full((4, 2), np.inf), "the targets hold NaN"),
    ],
)
def test_wrong_data_are_refused_by_name(states, targets, message):
    with pytest.raises(ValueError, match=message):
        probing.linear_probe(states, targets)


def test_wrong_symbols_and_probes_of_other_data_are_refused():
    with pytest.raises(ValueError, match=r"targets holds the symbol 2: give symbols 0 \.\. 1"):
        probing.linear_probe(np.ones((4, 2)), [0, 1, 2, 0], num_symbols=2)
    probe = probing.fit_probe(np.ones((4, 2)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="the probe maps 2 numbers to 1, data have 3 and 1"):
        probing.score_probe(probe, np.ones((4, 3)), np.ones((4, 1)))
