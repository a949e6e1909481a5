"""Laws on manifolds: densities, scores and Hessians against one another, quadrature, draws, and known numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import Curve, LinearSubspace, Sphere, Union, blobs, line, squares, uneven_sphere
from hierarchical.manifold.generated import Harmonics

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
CLEAN = {
    "sphere": Sphere(KEY, 2, 5, radius=1.5),
    "circle": Sphere(KEY, 1, 2),
    "linear": LinearSubspace(KEY, 2, 5, spreads=[1.0, 0.5]),
    "union": Union([Sphere(KEY, 1, 5), LinearSubspace(jax.random.key(1), 3, 5)], [1.0, 2.0]),
}
NOISED = {name: law.noised(0.8, 0.4) for name, law in CLEAN.items()} | {"curve": line(3).noised(0.8, 0.4)}
over_laws = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "circle" else ()) for name in NOISED]
)


def points(name):
    law = CLEAN.get(name, line(3))
    x = law.sample(jax.random.key(2), 6).x * 0.8
    return x + 0.4 * jax.random.normal(jax.random.key(3), x.shape)


@over_laws
def test_score_is_the_slope_of_the_density_and_curvature_that_of_the_score(name):
    law, x = NOISED[name], points(name)
    v = jnp.cos(jnp.arange(x.size)).reshape(x.shape)
    score, product, laplacian = jax.jit(lambda law: (law.score(x), law.hessian_vector(x, v), law.laplacian(x)))(law)
    slopes, hessians = jax.jit(lambda law: (jax.vmap(jax.grad(law.log_prob))(x), jax.vmap(jax.jacrev(law.score))(x)))(
        law
    )
    np.testing.assert_allclose(score, slopes, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(product, np.einsum("nij,nj->ni", hessians, v), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(laplacian, np.trace(hessians, axis1=1, axis2=2), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@over_laws
def test_curvature_is_the_second_derivative_of_the_density(name):
    law, x = NOISED[name], points(name)
    v = jnp.cos(jnp.arange(x.size)).reshape(x.shape)
    hessians = jax.jit(lambda law: jax.vmap(jax.hessian(law.log_prob))(x))(law)
    np.testing.assert_allclose(law.hessian_vector(x, v), jnp.einsum("nij,nj->ni", hessians, v), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(law.laplacian(x), jnp.trace(hessians, axis1=1, axis2=2), rtol=1e-6, atol=1e-8)


def test_the_density_of_a_circle_is_its_quadrature_and_integrates_to_one():
    circle = NOISED["circle"]
    angle = 2 * np.pi * np.arange(400) / 400
    on = 0.8 * np.stack([np.cos(angle), np.sin(angle)], -1) @ np.asarray(CLEAN["circle"].axes).T
    x = np.asarray(points("circle"))
    away = ((x[:, None] - on[None]) ** 2).sum(-1)
    want = np.log(np.mean(np.exp(-away / (2 * 0.16)), 1) / (2 * np.pi * 0.16))
    np.testing.assert_allclose(circle.log_prob(x), want, rtol=1e-10)
    grid = np.stack(np.meshgrid(*[np.linspace(-4, 4, 161)] * 2), -1)
    assert abs(np.exp(circle.log_prob(grid)).sum() * 0.05**2 - 1) < 1e-10


@pytest.mark.parametrize("name", ["sphere", *(pytest.param(n, marks=pytest.mark.slow) for n in ("linear", "union"))])
def test_a_mean_of_many_draws_is_the_posterior_mean(name):
    """Draws of x_0 weighed by the likelihood of x_t, within five standard errors."""
    draws = np.asarray(CLEAN[name].sample(jax.random.key(4), 200_000).x)
    x = np.asarray(points(name))[0]
    logs = -((x - 0.8 * draws) ** 2).sum(1) / (2 * 0.16)
    weight = np.exp(logs - logs.max())
    mean = weight @ draws / weight.sum()
    error = np.sqrt((weight**2) @ (draws - mean) ** 2) / weight.sum()
    want = (x + 0.16 * np.asarray(NOISED[name].score(x))) / 0.8
    assert (np.abs(mean - want) < 5 * error).all()


def flipd(sphere, sigma):
    """d + sigma^2 (Laplacian + |score|^2) at a point of the sphere."""
    law, x = sphere.noised(1.0, sigma), sphere.sample(jax.random.key(5)).x
    return law.ambient_dimension + sigma**2 * (law.laplacian(x) + jnp.sum(law.score(x) ** 2))


@pytest.mark.parametrize(("k", "at_tenth"), [pytest.param(10, 9.798, marks=pytest.mark.slow), (50, 44.03)])
def test_the_dimension_of_a_sphere_in_closed_form(k, at_tenth):
    """PHYSICS of the dimension: 2 kappa (1 - A), and its limits in curvature."""
    sphere = Sphere(KEY, k, 100)
    assert abs(flipd(sphere, 0.1) - at_tenth) < 0.005
    expected = k - k * (k - 2) * 1e-4 / 4
    assert abs(flipd(sphere, 0.01) - expected) < 2e-3
    if k == 50:
        first, second, third = (float(flipd(sphere, 0.1 / root)) for root in (1, 2**0.5, 2))
        assert abs(2 * second - first - 49.96) < 0.005
        assert abs((8 * third - 6 * second + first) / 3 - 50.01) < 0.005


def test_eigenvalues_of_the_jacobian_are_those_of_the_formulas():
    """Tangents R A / r, one radial value, zeros across the span; linear L^2 / (L^2 + s^2)."""
    sphere, x = NOISED["sphere"], points("sphere")[0]
    jacobian = jnp.eye(5) + 0.16 * jax.vmap(lambda v: sphere.hessian_vector(x, v))(jnp.eye(5))
    values = np.linalg.eigvalsh(jacobian)
    np.testing.assert_allclose(values[:2], 0, atol=1e-10)
    r = np.linalg.norm(np.asarray(CLEAN["sphere"].axes).T @ np.asarray(x))
    tangent = float(jnp.linalg.norm(sphere.mean(x)) / r)
    assert np.sum(np.abs(values - tangent) < 1e-9) == 2
    linear = NOISED["linear"]
    jacobian = jnp.eye(5) + 0.16 * jax.vmap(lambda v: linear.hessian_vector(jnp.ones(5), v))(jnp.eye(5))
    want = [0, 0, 0, 0.16 / 0.32, 0.64 / 0.8]
    np.testing.assert_allclose(np.linalg.eigvalsh(jacobian), want, atol=1e-10)


def test_draws_lie_on_their_sets():
    sphere = CLEAN["sphere"].sample(KEY, 100)
    np.testing.assert_allclose(jnp.linalg.norm(sphere.x, axis=1), 1.5, rtol=1e-12)
    assert np.linalg.matrix_rank(np.asarray(CLEAN["linear"].sample(KEY, 100).x)) == 2
    which = CLEAN["union"].sample(KEY, 3000).latent
    assert abs(np.mean(np.asarray(which)) - 2 / 3) < 5 * np.sqrt(2 / 9 / 3000)
    uneven = uneven_sphere(KEY, 4, 9, 0.5).sample(KEY, 100).x
    np.testing.assert_allclose(jnp.linalg.norm(uneven, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(line(4).sample(KEY).x, np.sin(np.arange(1, 5) * float(line(4).sample(KEY).latent[0])))


@pytest.mark.parametrize(
    "law", [squares(KEY, 10), squares(KEY, 20, side=5), blobs(KEY, 10), uneven_sphere(KEY, 10, 30, 1)]
)
def test_the_jacobian_of_generated_data_has_the_rank_of_their_dimension(law):
    drawn = law.sample(jax.random.key(6))
    singular = np.linalg.svd(np.asarray(jax.jacfwd(law.function)(drawn.latent)), compute_uv=False)
    assert law.dimension == len(singular) and singular[-1] > 1e-6 * singular[0]
    assert drawn.x.shape == law.sample(KEY, (2, 3)).x.shape[2:]


def test_what_has_no_density_or_does_not_fit_is_refused_by_name():
    sphere = CLEAN["sphere"]
    for refused, message in (
        (lambda: sphere.score(jnp.ones(5)), r"noise = 0: a law on a set of lower dimension has no density"),
        (lambda: NOISED["sphere"].score(jnp.ones(4)), r"x has shape \(4,\): give points \(..., 5\)"),
        (lambda: sphere.noised([1.0, 2.0], 0.1), r"alpha has shape \(2,\): give one number"),
        (lambda: Sphere(KEY, 5, 5), "the set spans 6 dimensions: ambient_dimension = 5"),
        (lambda: Sphere(KEY, 2, 5, radius=-1.0), "radius = -1.0: give one positive number"),
        (lambda: LinearSubspace(KEY, 2, 5, spreads=[1.0]), r"spreads = \[1.0\]: give one positive number, or 2"),
        (lambda: Union([]), "weights = None of 0 laws"),
        (lambda: Union([sphere, Sphere(KEY, 2, 6)]), r"of shape \(5,\) and .* of shape \(6,\): give laws in one space"),
        (lambda: line(100).noised(1.0, 0.01), r"points = 4096: neighbours are .* apart, more than sigma = 0.01: give"),
        (lambda: line(3).noised(1.0, 0.0), "sigma = 0.0: a curve has no density"),
        (lambda: squares(KEY, 5, side=31), "5 squares of side 31 have 4 places"),
        (lambda: uneven_sphere(KEY, 2, 5, 0.0), "spread = 0.0: give a positive number of radians"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    assert np.isnan(jax.jit(lambda law, x: law.score(x))(sphere, jnp.ones(5))).all()
    assert np.isfinite(
        jax.jit(lambda x: NOISED["sphere"].score(x))(jnp.ones(5))
    ).all()  # a law that is no argument is known


def test_noise_adds_up():
    """Noised twice is noised once, and a curve of one's own is a law like others."""
    twice, once = CLEAN["sphere"].noised(0.5, 0.3).noised(0.8, 0.4), CLEAN["sphere"].noised(0.4, np.hypot(0.24, 0.4))
    score = jax.jit(lambda law: law.score(points("sphere")))
    np.testing.assert_allclose(score(twice), score(once), rtol=1e-12)
    own = Curve(Harmonics(jnp.array([2 * np.pi, 4 * np.pi])))
    values = [own.noised(1.0, 0.3, points).log_prob(jnp.array([0.2, -0.1])) for points in (128, 256)]
    np.testing.assert_allclose(*values, rtol=1e-12)


def test_many_points_at_once_have_the_values_of_few():
    """XLA on CPUs gave wrong sums in arrays of 4096 numbers and more; laws compute in smaller blocks."""
    law = Sphere(np.array([0, 0], np.uint32), 2, 3).noised(0.8, 0.4)
    points = np.random.default_rng(0).normal(size=(4500, 3))
    for function in (law.log_prob, law.laplacian):
        np.testing.assert_allclose(function(points)[-300:], function(points[-300:]), rtol=1e-10)
