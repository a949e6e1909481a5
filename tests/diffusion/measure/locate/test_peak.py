"""Peaks: located, judged by the other half of the data, and none where a curve is flat or rises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import locate_peak, susceptibility

TIMES = jnp.linspace(0.1, 0.9, 9)


def noisy_sums(key, chi, noise=0.5):
    """S(0) = 1 without noise and S(1) = chi - 1 with some: 40 data."""
    noise = noise * jax.random.normal(key, (40, len(chi)), float)
    return jnp.stack([jnp.ones_like(noise), chi[None] - 1 + noise], -1)


def test_a_curve_that_rises_to_its_end_has_no_peak():
    peak = jax.jit(locate_peak)(jax.random.key(3), TIMES, noisy_sums(jax.random.key(4), 1 + 5 * TIMES, 0.05))
    assert peak.significance == 0 and peak.above_last.value == 0 and peak.above_first.value > 3
    with pytest.raises(ValueError, match="3 are too few, give at least 4"):
        locate_peak(jax.random.key(3), TIMES, noisy_sums(jax.random.key(4), TIMES)[:3])


def test_a_level_where_nothing_changes_is_no_peak():
    """Where nothing changed chi is 0/0."""
    sums = noisy_sums(jax.random.key(5), 2 - 5 * (TIMES - 0.4) ** 2, 0.05).at[:, 0].set(0.0)
    peak = jax.jit(locate_peak)(jax.random.key(6), TIMES, sums)
    np.testing.assert_allclose(peak.time.value, 0.4, atol=0.11)
    assert jnp.isnan(peak.above_first.value) and jnp.isnan(peak.significance)


def test_a_peak_is_located_with_its_significance():
    chi = 2 - 5 * (TIMES - 0.4) ** 2
    peak = jax.jit(locate_peak)(jax.random.key(0), TIMES, noisy_sums(jax.random.key(1), chi, 0.2))
    assert abs(peak.time.value - 0.4) < 4 * peak.time.stderr + 0.1
    assert abs(peak.above_last.value - 1.25) < 5 * peak.above_last.stderr and peak.significance > 3


def test_a_flat_curve_has_no_peak_on_average():
    """The height of the largest of nine noisy values is 1.5 errors too high; measured by the other half it is not."""

    def excess(key):
        sums_key, peak_key = jax.random.split(key)
        return locate_peak(peak_key, TIMES, noisy_sums(sums_key, jnp.ones(9))).above_first

    found = jax.jit(jax.vmap(excess))(jax.random.split(jax.random.key(2), 200))
    # the chosen level is the first one time in nine: then the excess is 0 by definition
    assert abs(found.value.mean()) < 4 * found.value.std() / np.sqrt(200)
    np.testing.assert_allclose(found.stderr.mean(), found.value.std(), rtol=0.2)


def test_times_and_sums_that_do_not_fit_are_refused():
    sums = noisy_sums(jax.random.key(4), TIMES)
    for times, given, message in (
        (TIMES[:-1], sums, r"8 noise times, sums have shape \(40, 9, 2\): give \(data, times, ...\)"),
        (TIMES[::-1], sums, "give increasing times"),
        (TIMES.at[0].set(jnp.nan), sums, "noise_times holds nan: give finite times"),
        (TIMES, sums[:, 0, 0], r"sums have shape \(40,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            locate_peak(jax.random.key(3), times, given)


def test_whole_numbers_and_lists_are_sums():
    sums = np.round(10 * noisy_sums(jax.random.key(1), 2 - 5 * (TIMES - 0.4) ** 2, 0.2)).astype(np.int8)
    truth = jax.jit(locate_peak)(jax.random.key(0), TIMES, jnp.asarray(sums, float))
    found = locate_peak(jax.random.PRNGKey(0), TIMES.tolist(), sums.tolist())
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    assert jnp.argmax(susceptibility(jnp.asarray(sums, float).mean(0))) == 3
