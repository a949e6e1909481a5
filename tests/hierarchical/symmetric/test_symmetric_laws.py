"""Data with a symmetry: exact covariances and counts, conserved quantities, drawn laws, what keeps each in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.linalg import subspace_angles

from hierarchical import (
    Bodies,
    Collision,
    DrellYan,
    Kepler,
    MassShell,
    MuonPairs,
    Oscillator,
    Ring,
    boost,
    intrinsic_dimension,
    linear_rank,
    lorentz_generators,
    minkowski,
    radiation_exponent,
    tangent_generators,
)

LAWS = {
    "ring": Ring(),
    "ring, anisotropic and noisy": Ring(0.4, 0.1),
    "elastic collision": Collision((1.0, 3.0)),
    "collision of random restitution": Collision((1.0, 3.0), spread=0.3),
    "bodies": Bodies(3, 2),
    "leaking bodies at fixed energy": Bodies(3, 2, fixed_energy=True, leak=0.2),
    **{f"oscillator with {fixed} fixed": Oscillator(fixed, 0.3) for fixed in range(4)},
    **{f"planet with {fixed} fixed": Kepler(fixed, 0.3) for fixed in range(4)},
    "mass shell": MassShell(2, 0.7),
    "muon pairs": MuonPairs(),
    "muon pairs with beam spread": MuonPairs(0.05),
    "muon pairs with radiation": MuonPairs(0.0, 0.1077),
    "muon pairs with both": MuonPairs(0.05, 0.1077),
    "Drell-Yan": DrellYan(),
    "Drell-Yan of one mass": DrellYan(width=0.0),
    "Drell-Yan with recoil": DrellYan(5.0),
}
SOME = {
    *("ring, anisotropic and noisy", "collision of random restitution", "leaking bodies at fixed energy"),
    *("oscillator with 3 fixed", "oscillator with 1 fixed", "planet with 0 fixed", "planet with 2 fixed", "mass shell"),
    *("muon pairs with both", "muon pairs", "Drell-Yan with recoil", "Drell-Yan"),
}
COUNTS = {  # linear and intrinsic, as derived at the head of each file
    "ring": (2, 1),
    "ring, anisotropic and noisy": (2, 2),
    "elastic collision": (2, 2),
    "collision of random restitution": (3, 3),
    "bodies": (4, 4),
    "leaking bodies at fixed energy": (6, 5),
    **{f"oscillator with {fixed} fixed": (2 if fixed == 3 else 4, 4 - fixed) for fixed in range(4)},
    **{f"planet with {fixed} fixed": (4, 4 - fixed) for fixed in range(4)},
    "mass shell": (3, 2),
    "muon pairs": (3, 2),
    "muon pairs with beam spread": (6, 4),
    "muon pairs with radiation": (5, 3),
    "muon pairs with both": (6, 4),
    "Drell-Yan": (6, 4),
    "Drell-Yan of one mass": (6, 3),
    "Drell-Yan with recoil": (8, 6),
}
SIZE = 20_000
CORNERS = [  # one of each program; other cases are slow
    name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in LAWS
]


@pytest.fixture(scope="module")
def drawn():
    """Data of each law, drawn once."""
    kept = {}

    def draw(name):
        if name not in kept:
            kept[name] = LAWS[name].sample(jax.random.key(7), (SIZE,))
        return kept[name]

    return draw


@pytest.mark.parametrize("name", CORNERS)
def test_the_covariance_is_that_of_the_draws(name, drawn):
    x = np.asarray(drawn(name).x)
    away = x - x.mean(0)
    products = np.einsum("ni,nj->nij", away, away).reshape(SIZE, -1)
    scatter = products.std(0) / SIZE**0.5
    exact = np.asarray(LAWS[name].covariance()).reshape(-1)
    assert np.all(np.abs(products.mean(0) - exact) <= 5 * scatter + 1e-9 * exact.max())


@pytest.mark.parametrize("name", CORNERS)
def test_counts_are_ranks_of_the_covariance_and_of_the_jacobian(name):
    law = LAWS[name]
    assert law.counts[:2] == COUNTS[name]
    assert linear_rank(law.covariance()) == law.counts.linear
    assert intrinsic_dimension(jax.random.key(1), law) == law.counts.intrinsic
    assert law.counts.intrinsic <= law.counts.embedding <= law.counts.linear


@pytest.mark.parametrize("name", CORNERS)
def test_rotations_leave_the_law_as_it_is(name, drawn):
    """The mean of the derivative of any function along A x is 0: here of cosines in random directions."""
    law, x = LAWS[name], np.asarray(drawn(name).x)
    generators, covariance = np.asarray(law.rotations()), np.asarray(law.covariance())
    size = np.sqrt(np.trace(covariance))
    for generator in generators:
        np.testing.assert_allclose(generator, -generator.T, atol=1e-9)
        np.testing.assert_allclose(generator @ covariance, covariance @ generator, atol=1e-9 * size**2)
    if len(generators):
        assert np.linalg.matrix_rank(generators.reshape(len(generators), -1)) == len(generators)
    waves = np.random.default_rng(0).normal(size=(4, x.shape[1])) / size
    for wave in 2 * waves:
        slopes = -np.sin(x @ wave + 1)[:, None] * np.einsum("i,gij,nj->ng", wave, generators, x)
        assert np.all(np.abs(slopes.mean(0)) < 5 * slopes.std(0) / SIZE**0.5 + 1e-9 * size)


def test_an_anisotropic_ring_has_no_rotation(drawn):
    assert len(Ring(0.4).rotations()) == len(Kepler(2, 0.3).rotations()) == len(Kepler(3).rotations()) == 0
    assert len(Ring().rotations()) == len(Kepler(2).rotations()) == 1
    assert len(Oscillator(1).rotations()) == 6
    x = np.asarray(drawn("ring, anisotropic and noisy").x)  # E d(x y) / d theta, which is 0 in a symmetric law
    slopes = x[:, 0] ** 2 - x[:, 1] ** 2
    assert slopes.mean() > 20 * slopes.std() / SIZE**0.5


def test_the_knobs_give_the_variances_that_conservation_forbids():
    """The numbers that stand at the heads of the files, each as an eigenvalue."""

    def eigenvalues(law):
        return np.linalg.eigvalsh(np.asarray(law.covariance()))

    np.testing.assert_allclose(eigenvalues(Ring(0.4, 0.1)), [1.01 / 2 * 0.8, 1.01 / 2 * 1.2])
    np.testing.assert_allclose(eigenvalues(Collision()), [0, 0, 2, 2], atol=1e-12)
    np.testing.assert_allclose(eigenvalues(Bodies(3, 2, leak=0.1)), [0.01] * 2 + [1.0] * 4)
    np.testing.assert_allclose(eigenvalues(MuonPairs())[5:], [0.6, 0.6, 0.8])
    spread = 0.03
    small = eigenvalues(MuonPairs(spread))[2:5]
    np.testing.assert_allclose(small, spread**2 * np.array([0.4, 1.0, 1.0]), rtol=1e-12)
    np.testing.assert_allclose(eigenvalues(DrellYan(5.0))[:2], [12.5, 12.5], rtol=1e-9)
    np.testing.assert_allclose(eigenvalues(DrellYan(0.5))[:2], [0.125, 0.125], rtol=1e-7)


def test_a_spread_of_restitution_adds_a_direction_of_a_twenty_fourth_of_its_square():
    for spread in (0.01, 0.02):
        smallest = np.linalg.eigvalsh(np.asarray(Collision((2.0, 5.0), spread).covariance()))[1]
        assert smallest == pytest.approx(spread**2 / 24, rel=2 * spread)


def test_collisions_conserve_momentum_and_if_elastic_energy(drawn):
    root = np.sqrt([1.0, 3.0])
    for name in ("elastic collision", "collision of random restitution"):
        before, after = np.split(np.asarray(drawn(name).x), 2, 1)
        np.testing.assert_allclose(before @ root, after @ root, atol=1e-12)
        lost = np.sum(before**2, 1) - np.sum(after**2, 1)
        assert np.abs(lost).max() < 1e-12 if name.startswith("elastic") else lost.min() >= 0 and lost.max() > 0.1


def test_bodies_have_the_total_momentum_and_energy_that_are_fixed(drawn):
    momenta = np.asarray(drawn("bodies").x).reshape(SIZE, 3, 2)
    np.testing.assert_allclose(momenta.sum(1), 0, atol=1e-12)
    leaking = np.asarray(drawn("leaking bodies at fixed energy").x).reshape(SIZE, 3, 2)
    relative = leaking - leaking.mean(1, keepdims=True)
    np.testing.assert_allclose(np.sum(relative**2, (1, 2)), 4.0)


@pytest.mark.parametrize("fixed", [0, 1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_oscillators_have_the_energies_that_are_fixed(fixed, drawn):
    x, y, px, py = np.asarray(drawn(f"oscillator with {fixed} fixed").x).T
    along, across = (x**2 + px**2) / 2 / 1.3, (y**2 + py**2) / 2 / 0.7
    if fixed == 0:
        assert stats.kstest(along, "expon").pvalue > 1e-3
    if fixed == 1:
        np.testing.assert_allclose(along + across, 2.0)
        assert stats.kstest(along / 2, "uniform").pvalue > 1e-3
    if fixed >= 2:
        np.testing.assert_allclose([along, across], 1.0)
    angular = (x * py - y * px) / 2 / np.sqrt(1.3 * 0.7)
    assert (angular.std() < 1e-12) == (fixed == 3)


@pytest.mark.parametrize(
    "fixed", [0, pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_planets_move_as_newton_says(fixed, drawn):
    """Along the anomaly place and velocity change as dx = v dt, dv = -x / r^3 dt; energy and momentum are fixed."""
    law, sample = LAWS[f"planet with {fixed} fixed"], drawn(f"planet with {fixed} fixed")
    parameters, data = np.asarray(sample.latent)[:200], np.asarray(sample.x)[:200]
    place, velocity = data[:, :2], data[:, 2:]
    distance = np.linalg.norm(place, axis=1)
    axis = 1 / (2 / distance - np.sum(velocity**2, 1))
    change = np.asarray(law.jacobian(parameters))[:, :, 3]
    time = (np.sqrt(axis) * distance)[:, None]
    np.testing.assert_allclose(change[:, :2], velocity * time, atol=1e-10)
    np.testing.assert_allclose(change[:, 2:], -place / distance[:, None] ** 3 * time, atol=1e-9)
    momentum = place[:, 0] * velocity[:, 1] - place[:, 1] * velocity[:, 0]
    eccentricity = np.sqrt(1 - momentum**2 / axis)
    for quantity, steady, value in ((axis, fixed >= 1, 1.0), (eccentricity, fixed >= 2, 0.5)):
        assert (np.std(quantity) < 1e-9) == steady
        assert np.mean(quantity) == pytest.approx(value, abs=1e-9 if steady else 0.1)


def test_planets_are_drawn_uniformly_in_time(drawn):
    """Then the mean of 1 / r is 1 / A, and Kepler's equation makes eta - e sin eta uniform."""
    parameters = np.asarray(drawn("planet with 2 fixed").latent)
    anomaly = (parameters[:, 3] - 0.5 * np.sin(parameters[:, 3])) / (2 * np.pi)
    assert stats.kstest(anomaly, "uniform").pvalue > 1e-3
    inverse = 1 / np.linalg.norm(np.asarray(drawn("planet with 2 fixed").x)[:, :2], axis=1)
    assert abs(inverse.mean() - 1) < 5 * inverse.std() / SIZE**0.5


def test_four_momenta_are_on_their_shells_and_balance(drawn):
    for name in ("muon pairs with both", "Drell-Yan with recoil"):
        first, second = np.split(np.asarray(drawn(name).x), 2, 1)
        for p in (first, second):
            np.testing.assert_allclose(np.asarray(minkowski(p, p)) / p[:, 0] ** 2, 0, atol=1e-12)
    shell = np.asarray(drawn("mass shell").x)
    np.testing.assert_allclose(minkowski(shell, shell), 1.0)
    both = np.add(*np.split(np.asarray(drawn("muon pairs").x), 2, 1))
    np.testing.assert_allclose(both, np.broadcast_to([2.0, 0, 0, 0], both.shape), atol=1e-12)
    across = np.add(*np.split(np.asarray(drawn("Drell-Yan").x), 2, 1))[:, 1:3]
    np.testing.assert_allclose(across, 0, atol=1e-9)
    kicked = np.add(*np.split(np.asarray(drawn("Drell-Yan with recoil").x), 2, 1))
    assert stats.kstest(kicked[:, 1] / 5, "norm").pvalue > 1e-3


def test_radiation_leaves_the_other_beam_its_energy(drawn):
    both = np.add(*np.split(np.asarray(drawn("muon pairs with radiation").x), 2, 1))
    np.testing.assert_allclose(both[:, 0] - both[:, 3], 2.0)
    lost = 1 - (both[:, 0] + both[:, 3]) / 2
    least = 1e-10  # below it is rounding
    below = least**0.1077
    assert np.mean(lost < least) == pytest.approx(below, abs=5 * (below / SIZE) ** 0.5)
    assert stats.kstest(lost[lost > least], lambda z: (z**0.1077 - below) / (1 - below)).pvalue > 1e-3


def test_masses_rapidities_and_angles_have_their_densities(drawn):
    data, parameters = (np.asarray(part) for part in (drawn("Drell-Yan").x, drawn("Drell-Yan").latent))
    both = np.add(*np.split(data, 2, 1))
    mass2 = np.asarray(minkowski(both, both))
    m, width = 91.1876, 2.4952
    edges = np.arctan((np.array([66.0, 116.0]) ** 2 - m**2) / (m * width))
    share = (np.arctan((mass2 - m**2) / (m * width)) - edges[0]) / (edges[1] - edges[0])
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    rapidity = np.arctanh(both[:, 3] / both[:, 0])
    np.testing.assert_allclose(rapidity, parameters[:, 1], atol=1e-9)
    at_peak = np.asarray(drawn("Drell-Yan of one mass").latent)[:, 1]
    grid = np.linspace(-1, 1, 4001) * np.log(13_000 / m)
    density = ((1 - m / 13_000 * np.exp(grid)) * (1 - m / 13_000 * np.exp(-grid))) ** 3
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    assert stats.kstest(at_peak, lambda y: np.interp(y, grid, below / below[-1])).pvalue > 1e-3
    cosine = np.asarray(drawn("muon pairs").latent)[:, 0]
    assert stats.kstest(cosine, lambda c: (c**3 + 3 * c + 4) / 8).pvalue > 1e-3
    angle = np.asarray(drawn("ring, anisotropic and noisy").latent)[:, 0]
    assert stats.kstest(angle, lambda t: (t + 0.2 * np.sin(2 * t)) / (2 * np.pi)).pvalue > 1e-3


def test_the_radiation_of_a_beam_at_the_z():
    assert float(radiation_exponent(91.19)) == pytest.approx(0.1077, abs=5e-5)


def test_a_boost_keeps_products_and_moves_what_is_at_rest():
    p, q, momentum = (jax.random.normal(jax.random.key(seed), (5, n)) for seed, n in ((1, 4), (2, 4), (3, 3)))
    mass = jnp.full(5, 2.0)
    moved = boost(p, momentum, mass), boost(q, momentum, mass)
    np.testing.assert_allclose(minkowski(*moved), minkowski(p, q), atol=1e-12)
    rest = jnp.tile(jnp.array([2.0, 0, 0, 0]), (5, 1))
    np.testing.assert_allclose(boost(rest, momentum, mass)[:, 1:], momentum, atol=1e-12)


def degrees_between(found, true):
    flat = [np.asarray(matrices).reshape(len(matrices), -1).T for matrices in (found, true)]
    return np.degrees(subspace_angles(*flat)).max()


def test_the_mass_shell_is_kept_by_the_lorentz_group_and_by_nothing_else():
    found = tangent_generators(jax.random.key(0), MassShell(3))
    assert found.shape == (6, 4, 4)
    assert degrees_between(found, lorentz_generators(3)) < 1e-5


def test_sets_are_kept_by_the_algebras_that_their_equations_say():
    """A circle by its rotation; each light cone of a pair with recoil by the Lorentz group and a dilation; without
    recoil by a boost of each lepton, a rotation, a dilation."""
    sizes = {
        "ring": 1,
        "muon pairs": 3,
        "muon pairs with beam spread": 4,
        "Drell-Yan": 4,
        "Drell-Yan with recoil": 14,
        "ring, anisotropic and noisy": 4,
    }
    for name, size in sizes.items():
        assert len(tangent_generators(jax.random.key(0), LAWS[name])) == size, name


def test_quadratures_are_the_law(drawn):
    """Moments of the points: of the ring exactly, of the shell as far as its grid reaches."""
    for law, rtol in ((Ring(0.4, 0.1), 1e-12), (MassShell(2, 0.7), 1e-4), (MuonPairs(), 1e-12)):
        mixture = law.quadrature()
        weights, points = np.asarray(mixture.weights), np.asarray(mixture.means)
        away = points - weights @ points
        np.testing.assert_allclose((weights[:, None] * away).T @ away, law.covariance(), rtol=rtol, atol=1e-12)


def test_a_knob_is_differentiable_and_may_be_mapped():
    parameters = jnp.array([0.3, 0.2, 0.5, 1.0, 0.4, -0.6])

    def transverse(recoil):
        first, second = jnp.split(DrellYan(recoil).features(parameters), 2)
        return (first + second)[1]

    assert float(jax.grad(transverse)(2.0)) == pytest.approx(0.4, rel=1e-9)
    knobs = jnp.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(transverse))(knobs), 0.4 * knobs, atol=1e-9)


def test_shapes_and_dtypes():
    law = Ring()
    assert law.sample(jax.random.key(0)).x.shape == (2,)
    assert law.sample(np.array([0, 1], np.uint32), (3, 2)).latent.shape == (3, 2, 2)
    assert law.features([[0, 0]]).tolist() == [[1.0, 0.0]]
    assert law.jacobian(np.zeros((3, 2), np.float32)).shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ring(1.5), "anisotropy = 1.5"),
        (lambda: Ring(noise=-1.0), "noise = -1"),
        (lambda: Ring(noise=[0.1, 0.2]), "one number"),
        (lambda: Collision(masses=(1.0, 0.0)), "two positive numbers"),
        (lambda: Collision(spread=2.0), "spread = 2"),
        (lambda: Bodies(1), "num_bodies = 1"),
        (lambda: Oscillator(4), "num_fixed = 4"),
        (lambda: Kepler(anisotropy=float("nan")), "anisotropy = nan"),
        (lambda: MassShell(3, 0.0), "at rest"),
        (lambda: MuonPairs(0.5), "spread = 0.5"),
        (lambda: MuonPairs(0.05).quadrature(), "beam spread or radiation"),
        (lambda: DrellYan(-1.0), "recoil = -1"),
        (lambda: Ring().features([1.0]), "radial noise"),
        (lambda: linear_rank([1.0]), "give \\(d, d\\)"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
