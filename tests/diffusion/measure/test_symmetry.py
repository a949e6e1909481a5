"""Symmetries read off denoisers: against the change of a law that is moved, exact algebras, and laws that have none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, VarianceExploding, VectorProcess
from diffusion.measure import symmetry
from diffusion.noise.gaussian import time_of_noise
from hierarchical import GaussianMixture, MassShell, RandomHierarchyModel, Ring, lorentz_generators
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, MixtureDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key, which may be used again
EXPLODING, PRESERVING = VectorProcess(VarianceExploding()), VectorProcess()
TURN = jnp.array([[[0.0, -1.0], [1.0, 0.0]]])


def mixture(seed, d=2):
    """Six normal components at random places: no linear symmetry."""
    rng = np.random.default_rng(seed)
    return GaussianMixture(rng.uniform(0.5, 1.5, 6), rng.normal(size=(6, d)), 0.05)


def ring(anisotropy=0.0):
    law = Ring(anisotropy)
    return MixtureDenoiser(law.quadrature(128), EXPLODING), law.sample(KEY, (400,)).x


@pytest.mark.parametrize("process", [EXPLODING, PRESERVING])
def test_the_lie_derivative_is_the_change_of_the_noised_law_when_the_clean_one_is_moved(process):
    """Equation (1): d ln p_s / d epsilon of the law of exp(epsilon A) x_0 is -l_A, by moving the components."""
    means, spreads = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 2)))
    generators, y, s = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2, 2))), means[:4] + 0.3, 0.4

    def covariances(moved):
        return jnp.einsum("ij,kj,lj->kil", moved, spreads**2, moved)

    def log_prob(generator):
        moved = jnp.eye(2) + generator
        noised = covariances(moved) + s**2 * jnp.eye(2)[None]
        away = y[:, None] - (means @ moved.T)[None]
        square = jnp.einsum("nki,kij,nkj->nk", away, jnp.linalg.inv(noised), away)
        return jax.nn.logsumexp(-square / 2 - jnp.linalg.slogdet(noised)[1][None] / 2, axis=1)

    change = jnp.stack([jax.jvp(log_prob, (jnp.zeros((2, 2)),), (g,))[1] for g in generators], 1)
    denoiser = MixtureDenoiser(GaussianMixture(jnp.ones(6), means, covariances(jnp.eye(2))), process)
    t = time_of_noise(s)
    found = symmetry.lie_derivative(denoiser, generators, process.path.alpha(t) * y, t)
    np.testing.assert_allclose(found, -change, rtol=1e-9)


@pytest.mark.parametrize("s", [0.1, 0.5, 2.0])
def test_a_normal_law_is_kept_by_rotations_in_its_own_metric_at_every_noise(s):
    stretch = jnp.diag(jnp.array([2.0, 0.5]))
    skewed = stretch @ TURN[0] @ jnp.linalg.inv(stretch)
    law = GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[4.0, 0.25]]))
    y = jax.random.normal(jax.random.key(0), (5, 2))
    kept, other = symmetry.lie_derivative(MixtureDenoiser(law, EXPLODING), [skewed, TURN[0]], y, time_of_noise(s)).T
    np.testing.assert_allclose(kept, 0, atol=1e-12)
    assert jnp.all(jnp.abs(other) > 1e-3)


def test_breaking_grows_as_the_square_of_the_knob():
    broken = []
    for anisotropy in (0.0, 0.1, 0.2):
        denoiser, x = ring(anisotropy)
        broken.append(symmetry.breaking(KEY, denoiser, TURN, x, time_of_noise(0.3)).value[0])
    assert broken[0] < 1e-20
    assert broken[2] / broken[1] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("of_set", [False, True])
def test_the_search_finds_the_rotation_of_a_ring_and_nothing_else(of_set):
    denoiser, x = ring()
    found = symmetry.search(KEY, denoiser, x, time_of_noise(0.1), of_set=of_set)
    assert found.matrices.shape == (4, 2, 2)
    assert np.all(found.breaking.value[1:] > (0.3 if of_set else 0.5))
    assert np.asarray(found.breaking.value[0]) < (0.05 if of_set else 1e-12)
    assert symmetry.principal_angles(found.matrices[:1], TURN)[0] < (1.0 if of_set else 1e-3)
    [rotation] = symmetry.search_rotations(KEY, denoiser, x, time_of_noise(0.1)).unbroken()
    np.testing.assert_allclose(jnp.abs(rotation), jnp.abs(TURN[0]) / 2**0.5, atol=1e-9)


def test_a_mass_shell_has_the_lorentz_group_as_a_set_and_one_rotation_as_a_law():
    law = MassShell(2)
    denoiser, x = MixtureDenoiser(law.quadrature(80), EXPLODING), law.sample(KEY, (200,)).x
    t, true = time_of_noise(0.15), lorentz_generators(2)
    of_set = symmetry.search(KEY, denoiser, x, t, of_set=True)
    assert np.all(of_set.breaking.value[2] < 0.01 < of_set.breaking.value[3])
    assert symmetry.principal_angles(of_set.matrices[:3], true)[0] < 5.0
    of_law = symmetry.search(KEY, denoiser, x, t)
    assert len(of_law.unbroken(1e-9)) == 1
    assert symmetry.principal_angles(of_law.unbroken(1e-9), true[2:])[0] < 1e-3


@pytest.mark.parametrize(
    ("d", "laws", "noises"),
    [
        (2, 8, (0.2, 0.5)),
        pytest.param(2, 20, (0.2, 0.5), marks=pytest.mark.slow),
        *(pytest.param(d, 60, (0.2, 0.5, 1.0), marks=pytest.mark.slow) for d in (2, 3, 4)),
    ],
)
def test_laws_without_symmetry_give_none(d, laws, noises):
    """No false positive of either search: the least of all breakings is ten times the threshold."""
    least = []
    for seed in range(laws):
        law = mixture(seed, d)
        denoiser, x = MixtureDenoiser(law, EXPLODING), law.sample(jax.random.key(seed), (200 * d,)).x
        for share in noises:
            t = time_of_noise(share * float(jnp.mean(jnp.std(x, 0))))
            for search in (symmetry.search, symmetry.search_rotations):
                found = search(KEY, denoiser, x, t)
                least.append(float(found.breaking.value[0]))
                assert len(found.unbroken()) == 0
    assert min(least) > 0.1


def test_the_data_alone_tell_their_rotation():
    x = Ring().sample(jax.random.key(3), (1500,)).x
    found = symmetry.search(KEY, EmpiricalDenoiser(x, EXPLODING), x[:400], time_of_noise(0.3))
    assert symmetry.principal_angles(found.matrices[:1], TURN)[0] < 5.0
    assert found.breaking.value[0] < 0.02 < 0.5 < found.breaking.value[1]


def test_directions_without_data_are_left_out():
    """A ring in a plane of three dimensions: generators that only turn the plane out of itself are none of its own."""
    plane = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (3, 2)))[0]
    law = Ring().quadrature(128)
    denoiser = MixtureDenoiser(GaussianMixture(law.weights, law.means @ plane.T, 0.0), EXPLODING)
    x = Ring().sample(KEY, (200,)).x @ plane.T
    found = symmetry.search(KEY, denoiser, x, time_of_noise(0.1))
    assert found.matrices.shape == (4, 3, 3)
    assert symmetry.principal_angles(found.unbroken(1e-9), plane @ TURN @ plane.T)[0] < 1e-3


def test_data_on_a_line_have_no_rotation():
    x = jnp.outer(jax.random.normal(jax.random.key(5), (60,)), jnp.array([0.6, 0.8]))
    found = symmetry.search_rotations(KEY, EmpiricalDenoiser(x, EXPLODING), x, time_of_noise(0.1))
    assert found.matrices.shape == (0, 2, 2) and found.breaking.value.shape == (0,)


def test_batches_arrays_and_compiled_calls():
    denoiser, x = ring()
    t = time_of_noise(0.3)
    rows = symmetry.lie_derivative(denoiser, TURN, x[:6], t)
    assert rows.shape == (6, 1)
    batched = eqx.filter_jit(symmetry.lie_derivative)(denoiser, TURN, x[:6].reshape(2, 3, 2), jnp.full((2, 3), t))
    np.testing.assert_allclose(batched.reshape(6, 1), rows, atol=1e-12)
    np.testing.assert_allclose(
        symmetry.lie_derivative(denoiser, TURN.tolist(), np.asarray(x[0]), t), rows[0], atol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, x: symmetry.breaking(KEY, d, TURN[0], x, 0.5), r"generators have shape \(2, 2\)"),
        (lambda d, x: symmetry.search(KEY, d, x[:20], 0.5), "20 data for 4 numbers of a generator: give 32"),
        (lambda d, x: symmetry.search(KEY, d, x, 0.0), "t = 0"),
        (lambda d, x: symmetry.principal_angles(TURN, TURN[:0]), "at least one of each"),
        (lambda d, x: symmetry.principal_angles(TURN, jnp.zeros((1, 3, 3))), "of one size"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*ring())


def test_a_denoiser_of_strings_is_refused():
    rhm = RandomHierarchyModel(num_symbols=4, num_synonyms=2, branching=2, depth=1, key=KEY)
    with pytest.raises(ValueError, match="no denoiser of arrays"):
        symmetry.search(KEY, GrammarDenoiser(rhm, Masking(4)), np.zeros((4, 2), int), 0.5)
