"""The flow map of one-dimensional mixtures, against its equation integrated with the exact denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion import AdaptiveFlow, VarianceExploding, VectorProcess
from hierarchical import GaussianMixture
from theory import flow_map
from theory.exact import MixtureDenoiser

NOISE = GaussianMixture([1.0], [[0.0]], 1.0)


def modes(offset, width):
    return GaussianMixture([0.5, 0.5], [[offset], [-offset]], width**2)


def test_slope_at_the_origin_of_two_modes():
    """w exp(mu^2/2w^2), 3.69 and 1.07e5; the flow map rounds as its slope says."""
    for offset, width in ((1.0, 0.5), (2.0, 0.4)):
        want = flow_map.two_mode_slope(offset, width)
        np.testing.assert_allclose(flow_map.flow_slope(NOISE, modes(offset, width), 0.0), want, rtol=1e-9)
        assert abs(flow_map.flow_map(NOISE, modes(offset, width), 0.0)) < 1e-16 * want * 10
    far = flow_map.flow_slope(NOISE, modes(1.0, 0.5), [-9.0, 9.0])  # there the outer mode alone counts, beside ln 2
    np.testing.assert_allclose(far, 0.5, rtol=0.01)


def test_one_gaussian_is_taken_to_another_linearly():
    target, x = GaussianMixture([2.0], [[3.0]], 4.0), np.array([-30.0, -1.0, 0.0, 2.5, 30.0])
    np.testing.assert_allclose(flow_map.flow_map(NOISE, target, x), 3 + 2 * x, rtol=1e-12)
    np.testing.assert_allclose(flow_map.flow_slope(NOISE, target, x), 2, rtol=1e-10)


def test_ranks_are_kept_and_slopes_are_derivatives():
    """Against SciPy's distribution functions; the map back is the inverse, of inverse slope."""
    target = GaussianMixture([0.2, 0.5, 0.3], [[-2.0], [0.5], [3.0]], [0.3, 0.05, 1.0])
    x = np.linspace(-3, 3, 13)
    y = flow_map.flow_map(NOISE, target, x)
    ranks = sum(w * stats.norm.cdf(y, m, v**0.5) for w, m, v in ((0.2, -2, 0.3), (0.5, 0.5, 0.05), (0.3, 3, 1)))
    np.testing.assert_allclose(ranks, stats.norm.cdf(x), rtol=1e-10)
    np.testing.assert_allclose(flow_map.flow_map(target, NOISE, y), x, atol=1e-9)
    back = flow_map.flow_slope(target, NOISE, y)
    np.testing.assert_allclose(flow_map.flow_slope(NOISE, target, x) * back, 1, rtol=1e-6)
    step = 1e-5
    rise = flow_map.flow_map(NOISE, target, x + step) - flow_map.flow_map(NOISE, target, x - step)
    np.testing.assert_allclose(rise / (2 * step), flow_map.flow_slope(NOISE, target, x), rtol=1e-4)


@pytest.mark.parametrize(
    "process", [VectorProcess(), pytest.param(VectorProcess(VarianceExploding()), marks=pytest.mark.slow)]
)
def test_flows_with_the_exact_denoiser_follow_the_map(process):
    """From t = 1 to data: places, and the slope at the origin by differences of neighbours."""
    law, t, step = modes(1.0, 0.5), 1.0, 1e-3
    denoiser = MixtureDenoiser(law, process)
    noised = law.noised(process.path.alpha(t), process.path.sigma(t))
    x_t = np.array([-2.0, -0.3, -step, step, 0.3, 2.0])
    flow = jax.jit(lambda x: AdaptiveFlow(tolerance=1e-8, min_time=1e-6)(jax.random.key(0), denoiser, x, t))
    found = np.asarray(flow(jnp.asarray(x_t)[:, None]))[:, 0]
    np.testing.assert_allclose(found, flow_map.flow_map(noised, law, x_t), atol=1e-5)
    slope = (found[3] - found[2]) / (2 * step)
    np.testing.assert_allclose(slope, flow_map.flow_slope(noised, law, 0.0), rtol=1e-3)


def test_what_is_refused():
    plane = GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    for refused, message in (
        (lambda: flow_map.flow_map(NOISE, plane, 0.0), "target has dimension 2"),
        (lambda: flow_map.flow_map(modes(1.0, 0.0), NOISE, 0.0), "source has a component of variance 0"),
        (lambda: flow_map.flow_slope(NOISE, NOISE, [0.0, np.nan]), "x = nan: give finite points"),
        (lambda: flow_map.two_mode_slope(1.0, 0.0), "width = 0.0: give a finite number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
