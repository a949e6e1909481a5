"""Schedules: their ends, their defining property, and that they change where effort goes but not the answer."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import (
    CosineRateSchedule,
    CosineSchedule,
    GaussianProcess,
    LinearRateSchedule,
    LinearSchedule,
    LogSNRSchedule,
    Masking,
)
from diffusion.noise.schedule import default_schedule

U = jnp.linspace(0.0, 1.0, 21)


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [(LinearSchedule(), (0, 1)), (CosineSchedule(), (0, 1)), (LogSNRSchedule(0.1, 3.0), (0.1, 3.0))],
)
def test_a_schedule_rises_from_the_least_to_the_most_noise(schedule, ends):
    times = schedule(U)
    np.testing.assert_allclose([times[0], times[-1]], ends, atol=1e-12)
    assert (jnp.diff(times) > 0).all()


def test_the_log_snr_schedule_is_even_in_the_log_signal_to_noise_ratio():
    path = GaussianProcess(4).path
    times = LogSNRSchedule(0.1, 3.0)(U)
    steps = jnp.diff(2 * jnp.log(path.alpha(times) / path.sigma(times)))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-10)


def test_gaussian_noise_is_spread_over_orders_of_magnitude_and_fractions_evenly():
    assert isinstance(default_schedule(GaussianProcess(4)), LogSNRSchedule)
    assert isinstance(default_schedule(Masking(4)), LinearSchedule)


def test_impossible_times_are_refused():
    with pytest.raises(ValueError, match="0 < min_time < max_time"):
        LogSNRSchedule(0.0, 1.0)


def test_the_rates_of_ddpm_give_its_signal():
    """alpha^2 = exp(-int_0^u beta) by quadrature for a linear rate; the cosine's alpha from its definition."""
    u = np.linspace(0, 1, 11)
    fine = np.linspace(0, u, 10_001)
    mean_rate = np.trapezoid(0.1 + 19.9 * fine, fine, axis=0)
    np.testing.assert_allclose(np.exp(-2 * LinearRateSchedule()(jnp.asarray(u))), np.exp(-mean_rate), rtol=1e-6)
    schedule = CosineRateSchedule()
    t = schedule(jnp.asarray(u))
    np.testing.assert_allclose(t[jnp.array([0, -1])], [0, 4], atol=1e-12)
    angles = np.arccos(np.exp(-t) * np.cos(np.pi / 2 * 0.008 / 1.008))
    np.testing.assert_allclose(np.diff(angles), np.ptp(angles) / 10, rtol=1e-6)
    assert (np.diff(t) > 0).all()


def test_rates_and_times_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"rates 2\.0 \.\. 1\.0: need 0 < first <= last"):
        LinearRateSchedule(2.0, 1.0)
    with pytest.raises(ValueError, match="need 0 <= offset, 0 < max_time"):
        CosineRateSchedule(max_time=0.0)
