"""Weights of the seed: limits, quadrature, direct sums, and simulated sets of points."""

import math

import numpy as np
import pytest
from scipy import special, stats

from theory import collapse, seed_weight


@pytest.mark.parametrize(("n", "d", "t"), [(20, 12, 0.4), (5, 2, 1.0), (30, 3, 0.2)])
def test_seed_weights_at_finite_size_are_those_of_simulated_points(n, d, t):
    """Both averages of (4) and (5) against 20,000 sets of points, within 5 standard errors."""
    rng, draws = np.random.default_rng(n), 20_000
    x0, z = rng.normal(size=(draws, n, d)), rng.normal(size=(draws, d))
    alpha, noise = math.exp(-t), -math.expm1(-2 * t)
    x_t = alpha * x0[:, 0] + math.sqrt(noise) * z
    exponents = -np.sum((x_t[:, None] - alpha * x0) ** 2, 2) / (2 * noise)
    logs = exponents[:, 0] - np.logaddexp.reduce(exponents, axis=1)
    found = seed_weight.isotropic_seed_weight(n, d, t)
    for value, sample in ((found.mean, np.exp(logs)), (found.excess_entropy, -logs / d)):
        assert abs(value - sample.mean()) < 5 * sample.std() / draws**0.5


def test_seed_weights_have_their_limits():
    """1/n of n points and ln n / d once all is forgotten, 1 and 0 before; at t_C .60 at d = 12, then falling."""
    late, early = (seed_weight.isotropic_seed_weight(50, 8, t, 0.7) for t in (9.0, 1e-3))
    np.testing.assert_allclose(late, (1 / 50, math.log(50) / 8), atol=2e-4)
    np.testing.assert_allclose(early, (1, 0), atol=2e-5)
    sizes = {d: round(math.exp(d / 4)) for d in (12, 20, 28, 36)}
    t = collapse.isotropic_collapse_time(math.exp(3), 12)
    means = [seed_weight.isotropic_seed_weight(n, d, t).mean for d, n in sizes.items()]
    np.testing.assert_allclose(means, (0.6001, 0.5810, 0.5711, 0.5647), atol=2e-4)


def two_points(t):
    """Both averages of n = 2, d = 1 by Gauss-Hermite quadrature over the two points and the noise; exact to 2e-10."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    x, other, z = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    alpha, noise = math.exp(-t), -math.expm1(-2 * t)
    behind = (alpha * (x - other) + math.sqrt(noise) * z) ** 2 / (2 * noise) - z**2 / 2
    law = np.einsum("i,j,k->ijk", *3 * [weights / weights.sum()])
    return np.sum(law * special.expit(behind)), np.sum(law * np.logaddexp(0, -behind))


@pytest.mark.parametrize("t", [0.4, 1.0, 2.0, 6.0, 9.0])
def test_seed_weights_of_two_numbers_are_those_of_quadrature(t):
    np.testing.assert_allclose(seed_weight.isotropic_seed_weight(2, 1, t), two_points(t), atol=2e-8)


def direct_sums(n, d, t, nodes=24, step=0.2):
    """(4) and (5) at large d: midpoint sums over scipy's densities, each energy on the line."""
    signal, noise = math.exp(-2 * t), -math.expm1(-2 * t)
    gamma, weights = special.roots_genlaguerre(nodes, d / 2 - 1)
    energy, y = np.arange(step / 2, 230, step), np.arange(-30, 170, step)
    u = np.exp(np.minimum(y[:, None] - energy, 50))
    survives, below, means = np.exp(-u), -np.expm1(-u), np.zeros(2)
    for square, weight in zip(2 * gamma, weights / weights.sum(), strict=True):
        seed = stats.ncx2.pdf(2 * energy / signal, d, noise * square / signal) * 2 / signal * step
        other = stats.ncx2.pdf(2 * energy * noise / signal, d, square / signal) * 2 * noise / signal * step
        log_left = (n - 1) * np.log1p(-np.minimum(below @ other, 1 - 1e-15))
        won, behind = (u * survives) @ seed @ np.exp(log_left), -(survives @ seed) @ np.expm1(log_left)
        means += weight * step * np.array([won, behind / d])
    return means


def test_seed_weights_of_e35_points_are_those_of_direct_sums():
    n, d = round(math.exp(35)), 140
    for ratio in (0.9, 1.0):
        t = ratio * collapse.isotropic_collapse_time(n, d)
        np.testing.assert_allclose(seed_weight.isotropic_seed_weight(n, d, t), direct_sums(n, d, t), atol=2e-8)


@pytest.mark.parametrize(("n", "d"), [(60, 400), (5, 2000)])
def test_seed_weights_in_many_dimensions_are_those_of_simulated_points(n, d):
    """Within 5 standard errors; the gamma function of d / 2 overflows from d = 344 on."""
    rng, t = np.random.default_rng(d), collapse.isotropic_collapse_time(n, d)
    alpha, noise, logs = math.exp(-t), -math.expm1(-2 * t), []
    for _ in range(300):
        x = rng.normal(size=(n, d))
        x_t = alpha * x[0] + math.sqrt(noise) * rng.normal(size=d)
        exponents = -np.sum((x_t - alpha * x) ** 2, 1) / (2 * noise)
        logs.append(exponents[0] - np.logaddexp.reduce(exponents))
    found = seed_weight.isotropic_seed_weight(n, d, t)
    for value, sample in ((found.mean, np.exp(logs)), (found.excess_entropy, -np.array(logs) / d)):
        assert abs(value - sample.mean()) < 5 * sample.std() / 300**0.5


@pytest.mark.parametrize(("n", "d", "t"), [(2, 1, 6.0), (1000, 20, 9.0), (50, 8, 13.0), (10**15, 43, 13.0)])
def test_late_seed_weights_are_those_to_first_order(n, d, t):
    """With q = e^-2t: n E w = 1 + (1 - 1/n) q d and f = ln n / d - (1 - 1/n) q / 2, up to (q d)^2.

    Given |x_t|, energies have variance q d, the seed's a mean lower by q d; expand the softmax to second order.
    """
    ratio, found = (1 - 1 / n) * math.exp(-2 * t), seed_weight.isotropic_seed_weight(n, d, t)
    assert abs(n * found.mean - 1 - ratio * d) < 3e-8
    assert abs(found.excess_entropy - math.log(n) / d + ratio / 2) < 1e-8


@pytest.mark.parametrize("order", [0.5, 20.5, 30.5, 499.5])
def test_bessel_functions_of_half_orders_are_those_of_their_recurrence(order):
    """I_(v-1) - I_(v+1) = 2v / x I_v, over both expansions and where they meet."""
    x = np.array([0.1, 3.0, 40.0, 900.0, 9e5])
    below, here, above = (np.exp(seed_weight._log_scaled_bessel(order + i, x)) for i in (-1, 0, 1))
    kept = here > 1e-290
    np.testing.assert_allclose((above + 2 * order / x * here)[kept], below[kept], rtol=1e-7)
