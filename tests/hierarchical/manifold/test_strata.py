"""Sets of parts of different dimensions: ranks, lengths and areas, weights, exact mixtures, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, stats

from diffusion import Fresh, TrainConfig, VectorMLP, VectorProcess, from_flax, train
from hierarchical import (
    Generated,
    LinearSubspace,
    Strata,
    affine_mixture,
    lollipop,
    sinusoidal_mixture,
    string_in_doughnut,
)
from hierarchical.manifold.generated import Harmonics

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
MANY = 4000
LAWS = {
    "lollipop": lollipop(KEY, 7, radius=1.5, length=2.0),
    "doughnut": string_in_doughnut(KEY, 7, radius=2.0, tube=0.8, weights=[3, 1]),
    "sinusoidal": sinusoidal_mixture(KEY, [1, 3, 7], 7, weights=[1, 2, 1]),
}
over_laws = pytest.mark.parametrize("name", LAWS)


def flat(name, part, plane):
    """Draws of one part, in the coordinates in which the set is defined."""
    drawn = LAWS[name].sample(KEY, MANY)
    axes = np.asarray(LAWS[name].parts[0].function.axes)
    x = np.asarray(drawn.x)
    np.testing.assert_allclose(x @ axes @ axes.T, x, atol=1e-12)  # nothing lies outside the span
    return (x @ axes)[np.asarray(drawn.latent.part) == part][:, :plane]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "sinusoidal" else ()) for name in LAWS]
)
def test_a_datum_has_as_many_directions_as_its_latent_says(name):
    """The rank of the Jacobian at the place of each datum, which the function of the part maps to that datum."""
    law, drawn = LAWS[name], LAWS[name].sample(KEY, 60)
    for number, part in enumerate(law.parts):
        here = np.asarray(drawn.latent.part) == number
        assert here.any() and (np.asarray(drawn.latent.dimension)[here] == part.dimension).all()
        u = drawn.latent.u[here][:, : part.dimension]
        np.testing.assert_allclose(jax.vmap(part.function)(u), drawn.x[here], rtol=1e-12)
        singular = np.linalg.svd(np.asarray(jax.vmap(jax.jacfwd(part.function))(u)), compute_uv=False)
        assert singular.shape == (here.sum(), part.dimension) and (singular.min(1) > 1e-3 * singular.max(1)).all()


@over_laws
def test_neighbours_span_the_dimension(name):
    """Principal components of draws around one: the k-th reaches as far as the neighbourhood, the next does not."""
    part = min(LAWS[name].parts, key=lambda part: abs(part.dimension - 1.5))  # 2, or 1 where there is no 2
    u = 0.4 + 1e-3 * np.random.default_rng(0).random((50, part.dimension))
    x = np.asarray(jax.vmap(part.function)(jnp.asarray(u)))
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert singular[part.dimension] < 0.02 * singular[part.dimension - 1]


@over_laws
def test_parts_are_drawn_by_their_weights(name):
    law = LAWS[name]
    counts = np.bincount(np.asarray(law.sample(KEY, MANY).latent.part))
    assert stats.chisquare(counts, MANY * np.asarray(law.weights)).pvalue > 1e-3


def uniform(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_a_lollipop_is_a_disc_and_a_stick_from_its_rim():
    """Uniform by area and by length, and lengths stay what they are in R^d."""
    disc, stick = flat("lollipop", 0, 2), flat("lollipop", 1, 2)
    assert uniform((disc**2).sum(1), 0, 1.5**2) and uniform(np.arctan2(*disc.T), -np.pi, np.pi)
    assert uniform(stick[:, 0], 1.5, 3.5) and np.abs(stick[:, 1]).max() < 1e-12


def test_a_string_runs_at_the_core_of_a_torus_that_is_uniform_by_area():
    torus, string = flat("doughnut", 0, 3), flat("doughnut", 1, 3)
    outward = np.hypot(*torus.T[:2]) - 2.0
    np.testing.assert_allclose(np.hypot(outward, torus[:, 2]), 0.8, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(string, axis=1), 2.0, rtol=1e-12)
    assert np.abs(string[:, 2]).max() < 1e-12 and uniform(np.arctan2(*string.T[:2]), -np.pi, np.pi)

    def area(angle):  # of the band up to that angle around the tube, by quadrature
        def density(a):
            return (2.0 + 0.8 * np.cos(a)) / (4 * np.pi)

        return np.array([integrate.quad(density, -np.pi, one)[0] for one in np.atleast_1d(angle)])

    assert stats.kstest(np.arctan2(torus[:500, 2], outward[:500]), area).pvalue > 1e-3
    assert uniform(np.arctan2(*torus.T[:2]), -np.pi, np.pi)


def test_a_thin_wall_between_tube_and_hole_is_drawn_precisely():
    """r = .99 R, where Newton's method has the most to do; and its derivative is that of the implicit function."""
    torus, u = string_in_doughnut(KEY, 3, 1.0, 0.99).parts[0].function.function, jnp.linspace(0, 0.999, 501)
    angle = jax.vmap(lambda u: torus._angle(2 * jnp.pi * u))(u)
    np.testing.assert_allclose(angle + 0.99 * jnp.sin(angle), 2 * np.pi * np.asarray(u), atol=1e-12)
    slope = jax.vmap(jax.grad(lambda u: torus._angle(2 * jnp.pi * u)))(u)
    np.testing.assert_allclose(slope, 2 * np.pi / (1 + 0.99 * np.cos(angle)), rtol=1e-9)


def test_a_sinusoidal_part_is_the_graph_it_is_said_to_be():
    law = LAWS["sinusoidal"]
    moved, u = law.parts[1].function, jnp.array([0.2, 0.5, 0.9])
    straight = np.asarray(moved.axes).T @ np.asarray(moved(u) - moved.centre)
    waves = moved.function
    np.testing.assert_allclose(straight[:3], u - 0.5, atol=1e-12)
    np.testing.assert_allclose(straight[3:], np.sin(np.asarray(waves.frequencies) @ u + waves.phases), atol=1e-12)
    assert law.dimensions == (1, 3, 7) and law.parts[2].function.function.frequencies.shape == (0, 7)


def test_an_affine_mixture_has_an_exact_density_around_its_centres():
    """Against the mixture of full Gaussians with the covariances of the subspaces, and noise, written with SciPy."""
    law = affine_mixture(KEY, [1, 3], 4, spreads=0.7, centre_spread=2.0, weights=[1, 3])
    x, noised = law.sample(jax.random.key(1), 5).x, law.noised(0.8, 0.4)
    dense = 0.0
    for weight, part in zip(law.weights, law.laws, strict=True):
        axes = np.asarray(part.axes)
        covariance = 0.8**2 * 0.7**2 * axes @ axes.T + 0.4**2 * np.eye(4)
        dense = dense + float(weight) * stats.multivariate_normal(0.8 * part.centre, covariance).pdf(np.asarray(x))
    np.testing.assert_allclose(noised.log_prob(x), np.log(dense), rtol=1e-10)
    np.testing.assert_allclose(noised.score(x), jax.vmap(jax.grad(noised.log_prob))(x), rtol=1e-9)
    which = np.asarray(law.sample(KEY, MANY).latent)
    assert stats.chisquare(np.bincount(which), MANY * np.array([0.25, 0.75])).pvalue > 1e-3
    for number, part in enumerate(law.laws):
        drawn = np.asarray(law.sample(KEY, MANY).x)[which == number] - np.asarray(part.centre)
        assert np.linalg.matrix_rank(drawn, tol=1e-8) == part.dimension == [1, 3][number]


@pytest.mark.slow  # by default `test_contracts` trains on other laws
@pytest.mark.parametrize(
    "law",
    [affine_mixture(KEY, [1, 3], 7), *LAWS.values()],
    ids=["affine", *LAWS],
)
def test_they_are_trained_on_as_any_law(law):
    network = VectorMLP(7, 8, num_blocks=1, rngs=nnx.Rngs(0))
    config = TrainConfig(steps=2, batch_size=8, warmup_steps=1, steps_per_chunk=2)
    trained = train(jax.random.key(0), from_flax(network, VectorProcess(), (7,)), Fresh(law), config)
    assert np.isfinite(trained.losses).all()
    one, many = law.sample(KEY), law.sample(KEY, (2, 3))
    assert jax.tree.map(lambda leaf: (2, 3, *leaf.shape), one) == jax.tree.map(lambda leaf: leaf.shape, many)


def test_what_does_not_fit_is_refused_by_name():
    wave = Harmonics(jnp.arange(1.0, 4))
    for refused, message in (
        (lambda: lollipop(KEY, 1), "the set spans 2 dimensions: ambient_dimension = 1 must be at least that"),
        (lambda: lollipop(KEY, 3, radius=0.0), "radius = 0.0: give one positive number"),
        (lambda: lollipop(KEY, 3, weights=[1.0]), r"weights = \[1.0\] of 2 parts: give parts, and a positive weight"),
        (lambda: string_in_doughnut(KEY, 3, 1.0, 1.0), "tube = 1.0 of a torus of radius 1.0: give a thinner one"),
        (lambda: sinusoidal_mixture(KEY, [1, 5], 4), "dimension = 5 in ambient_dimension = 4: give at most that"),
        (lambda: sinusoidal_mixture(KEY, [], 4), "weights = None of 0 parts"),
        (lambda: sinusoidal_mixture(KEY, [1], 4, centre_spread=-1.0), "centre_spread = -1.0: give one number of 0"),
        (lambda: affine_mixture(KEY, [5], 4), "the set spans 5 dimensions: ambient_dimension = 4"),
        (lambda: affine_mixture(KEY, [], 4), "weights = None of 0 laws"),
        (lambda: LinearSubspace(KEY, 1, 4, centre=[1.0, 2.0]), r"centre has shape \(2,\): give the 4 numbers"),
        (
            lambda: Strata([Generated(wave, 1), Generated(Harmonics(jnp.ones(2)), 1)]),
            r"data of the parts have shapes \[\(2,\), \(3,\)\]: give parts in the same space",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
