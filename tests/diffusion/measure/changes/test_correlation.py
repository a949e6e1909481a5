"""Correlation measures against covariance matrices written out in full."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking
from diffusion.measure import (
    GridGeometry,
    LineGeometry,
    RingGeometry,
    TreeGeometry,
    bootstrap,
    change_sums,
    changed,
    connected_sums,
    connected_sums_within,
    correlation,
    correlation_length,
    displacement,
    distance_of_others,
    susceptibility,
)
from tests.grammars import enumerated
from theory.exact import GrammarDenoiser

SITES = np.arange(12)
GEOMETRIES = {
    "line": LineGeometry(12),
    "ring": RingGeometry(12),
    "tree": TreeGeometry((2, 3, 2)),
    "grid": GridGeometry(3, 4),
}


def pair_classes(name):
    """Which class of the geometry every pair of the 12 sites belongs to, from the definition."""
    if name == "tree":
        above = [[i // block for block in (1, 2, 6, 12)] for i in SITES]
        return np.array([[next(k for k in range(4) if a[k] == b[k]) for a in above] for b in above])
    if name == "grid":
        places = [divmod(i, 4) for i in SITES]
        return np.array([[round(np.hypot(a - c, b - d)) for a, b in places] for c, d in places])
    apart = abs(SITES[:, None] - SITES[None])
    return np.minimum(apart, 12 - apart) if name == "ring" else apart


@pytest.mark.parametrize("name", GEOMETRIES)
def test_pair_sums_are_those_of_the_matrix_of_products(name):
    geometry, classes = GEOMETRIES[name], pair_classes(name)
    field = jax.random.normal(jax.random.key(0), (3, 12), float)
    expected = [[np.outer(f, f)[classes == k].sum() for k in range(classes.max() + 1)] for f in np.asarray(field)]
    np.testing.assert_allclose(jax.jit(geometry.pair_sums)(field), expected, atol=1e-12)
    np.testing.assert_array_equal(geometry.num_pairs, np.bincount(classes.ravel()))


def test_distances_are_in_sites():
    np.testing.assert_array_equal(TreeGeometry((2, 3, 2)).distances, [0, 1, 5, 11])
    np.testing.assert_array_equal(LineGeometry(4).distances, [0, 1, 2, 3])
    # of a 3 x 4 grid: 1 and sqrt 2 round to 1, 2 and sqrt 5 to 2, 3 and sqrt 8 and sqrt 10 to 3, sqrt 13 to 4
    pairs = {1: 34, 2**0.5: 24, 2: 20, 5**0.5: 28, 8**0.5: 8, 3: 6, 10**0.5: 8, 13**0.5: 4}
    means = [
        np.average([r for r in pairs if round(r) == k], weights=[n for r, n in pairs.items() if round(r) == k])
        for k in range(1, 5)
    ]
    np.testing.assert_allclose(GridGeometry(3, 4).distances, [0, *means])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "line" else ()) for name in GEOMETRIES]
)
def test_connected_sums_are_those_of_the_covariance_matrix(name):
    sigma = jax.random.normal(jax.random.key(1), (5, 12), float)
    covariance, classes = np.cov(np.asarray(sigma).T), pair_classes(name)
    expected = [covariance[classes == k].sum() for k in range(classes.max() + 1)]
    np.testing.assert_allclose(connected_sums(sigma, GEOMETRIES[name]), expected, atol=1e-12)


def test_pairs_of_one_group_are_counted_apart():
    sigma, groups = jax.random.normal(jax.random.key(9), (5, 12), float), np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4])
    covariance, apart = np.cov(np.asarray(sigma).T), abs(SITES[:, None] - SITES[None])
    together = groups[:, None] == groups[None]
    expected = [covariance[(apart == r) & together].sum() for r in range(12)]
    found = connected_sums_within(sigma, jnp.asarray(groups, jnp.int32))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("line", "ring") else ()) for n in GEOMETRIES]
)
def test_sums_take_batch_axes_whole_numbers_and_lists(name):
    sigma = np.random.default_rng(3).integers(-1, 2, (2, 3, 5, 12)).astype(np.int8)
    classes = pair_classes(name)
    expected = np.array(
        [[[np.cov(s.T)[classes == k].sum() for k in range(classes.max() + 1)] for s in row] for row in sigma]
    )
    for given in (sigma, sigma.tolist()):
        np.testing.assert_allclose(connected_sums(given, GEOMETRIES[name]), expected, atol=1e-12)
    np.testing.assert_allclose(connected_sums(sigma[0, 1].tolist(), GEOMETRIES[name]), expected[0, 1], atol=1e-12)


def test_pairs_of_groups_take_batch_axes_and_groups_of_each_datum_or_one_for_all():
    sigma = np.random.default_rng(4).integers(-1, 2, (2, 5, 4)).astype(np.int8)
    groups, apart = np.array([[0, 0, 1, 1], [2, 1, 1, 2]], np.uint8), abs(np.arange(4)[:, None] - np.arange(4)[None])

    def truth(sigma, groups):
        return [np.cov(sigma.T)[(apart == r) & (groups[:, None] == groups[None])].sum() for r in range(4)]

    each = jax.jit(connected_sums_within)(jnp.asarray(sigma), jnp.asarray(groups))
    np.testing.assert_allclose(each, [truth(s, g) for s, g in zip(sigma, groups, strict=True)], atol=1e-12)
    together = connected_sums_within(sigma.tolist(), groups[1].tolist())
    np.testing.assert_allclose(together, [truth(s, groups[1]) for s in sigma], atol=1e-12)
    with pytest.raises(ValueError, match="at least 2 trajectories"):
        connected_sums_within(sigma[:, :1], groups)


def test_changes_take_batch_axes_bytes_and_lists():
    rng = np.random.default_rng(5)
    x0, after = rng.integers(0, 256, (2, 3, 4)).astype(np.uint8), rng.integers(0, 256, (2, 3, 5, 4)).astype(np.uint8)
    after[0, 0, 1] = x0[0, 0]
    truth = np.where(after != x0[:, :, None], 1, -1)
    np.testing.assert_array_equal(changed(x0, after.astype(np.int64)), truth)
    np.testing.assert_array_equal(changed(x0.tolist(), after.tolist()), truth)
    vectors, moved = x0[..., None], after[..., None]
    truth = abs(after.astype(float) - x0[:, :, None])
    np.testing.assert_allclose(displacement(vectors, moved), truth)
    np.testing.assert_allclose(jax.jit(displacement)(jnp.asarray(vectors), jnp.asarray(moved, jnp.float32)), truth)
    np.testing.assert_allclose(displacement(vectors[0, 0].tolist(), moved[0, 0].tolist()), truth[0, 0])
    with pytest.raises(ValueError, match=r"x0 has shape \(2, 3, 4\), regenerated \(5, 2, 3, 4\): give \(..., traj"):
        changed(x0, np.moveaxis(after, 2, 0))
    with pytest.raises(ValueError, match="a string holds integers"):
        changed(x0 + 0.5, after)


def test_two_trajectories_are_enough_for_an_unbiased_sum():
    """Over all pairs of draws from a population the sums average to those of the population's covariance."""
    geometry = TreeGeometry((2, 2))
    population = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], (6, 4)))
    pairs = jnp.asarray(list(itertools.product(range(6), repeat=2)))
    sums = jax.vmap(lambda pair: connected_sums(population[pair], geometry))(pairs)
    deviation = population - population.mean(0, keepdims=True)
    np.testing.assert_allclose(sums.mean(0), geometry.pair_sums(deviation).mean(0), atol=1e-12)


def test_susceptibility_is_the_variance_of_the_number_of_changes():
    sigma = jnp.asarray(np.random.default_rng(1).choice([-1.0, 1.0], (50, 8), p=[0.3, 0.7]))
    sums = connected_sums(sigma, TreeGeometry((2, 2, 2)))
    changes = (np.asarray(sigma) + 1) / 2
    np.testing.assert_allclose(susceptibility(sums), changes.sum(1).var() / changes.var(0).sum(), rtol=1e-12)


def test_the_correlation_length_of_an_exponential_is_known():
    """C(r) = e^(-r/3) on a long line: sums over r of r^q x^r are x/(1-x)^2, x(1+x)/(1-x)^3."""
    geometry, x = LineGeometry(2000), np.exp(-1 / 3)
    sums = jnp.asarray(x**geometry.distances * np.where(geometry.distances > 0, 2.0, 1.0))
    first, second = x / (1 - x) ** 2, x * (1 + x) / (1 - x) ** 3
    np.testing.assert_allclose(correlation_length(sums, geometry), 2 * first / (1 + 2 * x / (1 - x)), rtol=1e-12)
    np.testing.assert_allclose(correlation_length(sums, geometry, 1), second / first, rtol=1e-12)


def test_the_distance_of_the_others_leaves_the_site_itself_out():
    """xi_0 is (chi - 1)/chi times it; of an exponential x^r on a long line it is sum r x^r / sum x^r = 1/(1 - x)."""
    geometry, x = LineGeometry(2000), np.exp(-1 / 3)
    sums = jnp.asarray(x**geometry.distances * np.where(geometry.distances > 0, 2.0, 1.0))
    others, chi = distance_of_others(sums, geometry), susceptibility(sums)
    np.testing.assert_allclose(others, 1 / (1 - x), rtol=1e-12)
    np.testing.assert_allclose(correlation_length(sums, geometry), (chi - 1) / chi * others, rtol=1e-12)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_field_of_another_number_of_sites_is_refused(name):
    with pytest.raises(ValueError, match="has 12 sites, the field 13"):
        GEOMETRIES[name].pair_sums(jnp.zeros((2, 13)))


@pytest.mark.parametrize(
    ("geometry", "sizes", "message"),
    [
        (LineGeometry, (0,), "num_sites = 0: give a whole number, 1 or above"),
        (LineGeometry, (2.5,), "num_sites = 2.5: give a whole number"),
        (RingGeometry, (True,), "num_sites = True: give a whole number"),
        (GridGeometry, (3, -1), "width = -1: give a whole number"),
        (TreeGeometry, ((2, 0),), "branching = 0: give a whole number"),
        (TreeGeometry, (2,), "branching = 2: give a sequence of whole numbers, one for each level"),
    ],
)
def test_sizes_that_no_geometry_has_are_refused(geometry, sizes, message):
    with pytest.raises(ValueError, match=message):
        geometry(*sizes)


def test_groups_of_another_number_of_sites_are_refused():
    with pytest.raises(ValueError, match=r"groups of int32, shape \(11,\), for 12 sites"):
        connected_sums_within(jnp.zeros((5, 12)), jnp.zeros(11, jnp.int32))


def test_sites_that_change_alone_have_no_correlation():
    geometry = TreeGeometry((2, 2, 2))
    sigma = jnp.asarray(np.random.default_rng(2).choice([-1.0, 1.0], (100, 200, 8)))
    sums = jax.vmap(lambda s: connected_sums(s, geometry))(sigma)
    found = jax.jit(lambda key, sums: bootstrap(key, sums, susceptibility))(jax.random.key(2), sums)
    assert abs(found.value - 1) < 5 * found.stderr
    spread = jax.jit(lambda key, sums: bootstrap(key, sums, lambda s: correlation(s, geometry)))(
        jax.random.key(3), sums
    )
    assert (abs(spread.value[1:]) < 5 * spread.stderr[1:]).all() and spread.value[0] == 1


def test_the_bootstrap_error_of_a_mean_is_its_standard_error():
    rows = jax.random.normal(jax.random.key(4), (400, 3), float)
    found = bootstrap(jax.random.key(5), rows, lambda mean: mean, num_resamples=2000)
    np.testing.assert_allclose(found.stderr, rows.std(0, ddof=1) / 20, rtol=0.08)  # 5 of its own standard errors
    few = bootstrap(jax.random.key(6), rows[:3], lambda mean: mean, num_resamples=4000)
    np.testing.assert_allclose(few.stderr, 1.3213 * rows[:3].std(0, ddof=1) / 3**0.5, rtol=0.06)  # Student's
    assert jnp.isnan(bootstrap(jax.random.key(5), rows[:1], lambda mean: mean).stderr).all()


def test_regeneration_changes_what_the_enumerated_posterior_says():
    """All 2^4 masks of one string, and all strings that can follow each: the exact covariance of changes."""
    rhm, derivations = enumerated("uniform")
    strings, probs = (
        np.array([levels[-1] for _, levels in derivations]),
        np.array([weight for weight, _ in derivations]),
    )
    x0, t, geometry = strings[5], 0.6, TreeGeometry((2, 2))
    first, second = np.zeros(4), np.zeros((4, 4))
    for mask in itertools.product([False, True], repeat=4):
        weight = np.prod(np.where(mask, t, 1 - t))
        posterior = probs * (strings == x0)[:, ~np.array(mask)].all(1)
        posterior /= posterior.sum()
        sigma = np.where(strings != x0, 1.0, -1.0)
        first += weight * posterior @ sigma
        second += weight * (sigma.T * posterior) @ sigma
    covariance = second - np.outer(first, first)
    classes = np.array([[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]])
    exact = [covariance[classes == k].sum() for k in range(3)]

    data = jnp.broadcast_to(jnp.asarray(x0, jnp.int32), (200, 4))
    denoiser = GrammarDenoiser(rhm, Masking(3))
    found = change_sums(
        jax.random.key(6), denoiser, data, jnp.float32(t), geometry, num_trajectories=50, strings_at_once=1500
    )
    for rows, truth in ((np.array(found.sums), exact), (np.array(found.fraction), (first.mean() + 1) / 2)):
        assert (abs(rows.mean(0) - truth) < 5 * rows.std(0, ddof=1) / np.sqrt(200)).all()


def test_a_single_trajectory_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 trajectories"):
        connected_sums(jnp.ones((1, 4)), LineGeometry(4))


def test_groups_off_a_line_are_refused():
    denoiser, x0 = GrammarDenoiser(enumerated("uniform")[0], Masking(3)), jnp.zeros((1, 4), jnp.int32)
    with pytest.raises(ValueError, match="not on a TreeGeometry"):
        change_sums(
            jax.random.key(0), denoiser, x0, jnp.float32(0.5), TreeGeometry((2, 2)), num_trajectories=2, groups=x0
        )


@pytest.mark.parametrize(
    ("x0", "t", "message"),
    [
        ([[0, 1, 2, 0]], np.nan, "t = nan is not a time of Masking"),
        ([[0, 1, 2, 0]], -1.0, "t = -1.0 is not a time"),
        ([[0, 1, 2, -9]], 0.5, "x0 holds the symbol -9: give symbols 0 .. 2"),
    ],
)
def test_no_change_is_measured_of_impossible_symbols_and_times(x0, t, message):
    """They are refused; inside `jax.jit`, where they are not known, the sums and the fraction are NaN."""
    denoiser, x0 = GrammarDenoiser(enumerated("uniform")[0], Masking(3)), jnp.array(x0, jnp.int32)

    def measured(x0, t):
        return change_sums(jax.random.key(0), denoiser, x0, t, LineGeometry(4), num_trajectories=2)

    with pytest.raises(ValueError, match=message):
        measured(x0, t)
    for values in jax.tree.leaves(jax.jit(measured)(x0, jnp.float32(t))):
        assert jnp.isnan(values).all()


def test_what_is_no_symbol_has_no_change():
    sigma = changed(jnp.array([0, -1, 1], jnp.int32), jnp.array([[-1, -1, 1]], jnp.int32))
    np.testing.assert_array_equal(sigma, [[np.nan, np.nan, -1]])


def test_a_displacement_is_the_length_of_a_change():
    x0 = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(displacement(x0, x0[None] + jnp.array([[[3.0, 4.0]]])), [[5.0, 5.0]])
    np.testing.assert_array_equal(changed(jnp.array([0, 1], jnp.int32), jnp.array([[0, 2]], jnp.int32)), [[-1.0, 1.0]])
