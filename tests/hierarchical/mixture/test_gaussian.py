"""Mixtures: closed forms against scipy, autodiff and finite differences; posteriors against Bayes' rule and samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from hierarchical import GaussianMixture, fit_mixture, tree_mixture, two_clusters

K, D = 3, 4
WEIGHTS = np.array([0.5, 0.2, 0.3])


def covariances(kind, k, d, rng):
    """Full (k, d, d) matrices, and what the constructor is given."""
    if kind == "full":
        a = rng.normal(size=(k, d, d)) / np.sqrt(d)
        full = a @ a.transpose(0, 2, 1) + 0.3 * np.eye(d)
        return full, full
    if kind == "diagonal":
        variances = rng.uniform(0.3, 2, size=(k, d))
        return np.einsum("kd,de->kde", variances, np.eye(d)), variances
    variances = rng.uniform(0.3, 2, size=k) if kind == "isotropic" else np.full(k, 0.7)
    return variances[:, None, None] * np.eye(d), 0.7 if kind == "common" else variances


def mixture(kind, k=K, d=D, dtype=jnp.float64):
    rng = np.random.default_rng(1)
    full, given = covariances(kind, k, d, rng)
    means = rng.normal(size=(k, d)) * 2
    weights = WEIGHTS if k == K else np.full(k, 1 / k)
    return GaussianMixture(*(jnp.asarray(a, dtype) for a in (3 * weights, means, given))), means, full


def log_terms(means, full):
    """ln w_k + ln N(X; mu_k, C_k), by scipy."""
    return [np.log(w) + stats.multivariate_normal.logpdf(X, m, c) for w, m, c in zip(WEIGHTS, means, full, strict=True)]


KINDS = ["full", "diagonal", "isotropic", "common"]
X = jnp.array([0.3, -1.0, 0.8, 2.0])


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_sum_of_its_components(kind):
    found, means, full = mixture(kind)
    terms = [
        np.log(w) + stats.multivariate_normal.logpdf(X, m, c) for w, m, c in zip(WEIGHTS, means, full, strict=True)
    ]
    np.testing.assert_allclose(found.log_prob(X), special.logsumexp(terms), rtol=1e-12)
    np.testing.assert_allclose(found.component_posterior(X), special.softmax(terms), rtol=1e-10)


LARGE = [pytest.param("diagonal", 1024, marks=pytest.mark.slow), pytest.param("full", 64, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("kind", "d"), [*((kind, D) for kind in KINDS), *LARGE])
def test_score_and_curvature_are_derivatives(kind, d):
    """float64 to 1e-10 of the largest entry, against autodiff; finite differences of the score agree to 1e-6."""
    found, means, _ = mixture(kind, d=d)
    x = jnp.asarray(means[0] + np.random.default_rng(2).normal(size=d))
    v = jnp.asarray(np.random.default_rng(3).normal(size=d))
    close = {"rtol": 1e-10, "atol": 1e-10 * d}
    gradient = jax.grad(found.log_prob)

    @jax.jit
    def derivatives(x):
        wanted = jax.jvp(gradient, (x,), (v,))
        return (found.score(x), found.hessian_vector(x, v)), wanted

    (score, product), (want, want_product) = derivatives(x)
    np.testing.assert_allclose(score, want, **close)
    np.testing.assert_allclose(product, want_product, **close)
    above, below = (derivatives(x + step * v)[0][0] for step in (1e-5, -1e-5))
    np.testing.assert_allclose((above - below) / 2e-5, product, rtol=1e-5, atol=1e-5)
    if d < 100:
        laplacian, hessian = jax.jit(lambda x: (found.laplacian(x), jax.hessian(found.log_prob)(x)))(x)
        np.testing.assert_allclose(laplacian, np.trace(hessian), **close)


@pytest.mark.parametrize("d", [16, pytest.param(1024, marks=pytest.mark.slow)])
def test_single_precision_keeps_five_digits(d):
    """Score, relative to its length, against float64; near a mean and between two."""
    double, means, _ = mixture("diagonal", d=d)
    single, _, _ = mixture("diagonal", d=d, dtype=jnp.float32)
    for x in (means[0] + np.random.default_rng(4).normal(size=d), (means[0] + means[1]) / 2):
        want = np.asarray(double.score(jnp.asarray(x)))
        got = np.asarray(single.score(jnp.asarray(x, jnp.float32)))
        assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)


def test_a_component_without_weight_changes_nothing_and_gradients_stay_finite():
    means = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    one = GaussianMixture(jnp.array([1.0]), means[:1], 0.5)
    found = GaussianMixture(jnp.array([1.0, 0.0]), means, 0.5)
    x = jnp.array([0.2, -0.4])
    np.testing.assert_allclose(found.score(x), one.score(x), rtol=1e-14)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: m.log_prob(x)))(found)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_samples_has_the_law_of_the_noised_mixture(kind):
    """Means and covariances of a x + s z, from samples, within 5 standard errors of the noised mixture's."""
    found, means, full = mixture(kind)
    drawn = jax.jit(lambda key: found.sample(key, (40_000,)))(jax.random.key(0))
    x, component = drawn.x, drawn.latent
    np.testing.assert_allclose(np.bincount(component) / 40_000, WEIGHTS, atol=5 * 0.5 / 200)
    noised = found.noised(0.6, 0.8)
    for k in range(K):
        of_k = 0.6 * x[component == k]
        np.testing.assert_allclose(of_k.mean(0), noised.means[k], atol=5 / np.sqrt(len(of_k)))
        np.testing.assert_allclose(np.cov(of_k.T), 0.36 * full[k], atol=5 * 2 / np.sqrt(len(of_k)))
    want = log_terms(0.6 * means, 0.36 * full + 0.64 * np.eye(D))
    np.testing.assert_allclose(noised.log_prob(X), special.logsumexp(want), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_moments_are_those_of_tweedie(kind):
    """(x + s^2 g) / a and (s^4 H + s^2) / a^2, with score and Hessian of the noised mixture by autodiff."""
    found, _, _ = mixture(kind)
    a, s = 0.6, 0.8
    log_prob = found.noised(a, s).log_prob
    mean, covariance = jax.jit(lambda x: (found.posterior_mean(x, a, s), found.posterior_covariance(x, a, s)))(X)
    slope, curvature = jax.jit(lambda x: (jax.grad(log_prob)(x), jax.hessian(log_prob)(x)))(X)
    np.testing.assert_allclose(mean, (X + s**2 * slope) / a, rtol=1e-10)
    np.testing.assert_allclose(covariance, (s**4 * curvature + s**2 * jnp.eye(D)) / a**2, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["full", "isotropic"])
def test_posterior_draws_have_the_posterior_moments(kind):
    found, _, _ = mixture(kind)
    draw = jax.jit(jax.vmap(lambda key: found.posterior_sample(key, X, 0.6, 0.8)))
    draws = np.asarray(draw(jax.random.split(jax.random.key(1), 40_000)))
    covariance = np.asarray(found.posterior_covariance(X, 0.6, 0.8))
    np.testing.assert_allclose(
        draws.mean(0), found.posterior_mean(X, 0.6, 0.8), atol=5 * np.sqrt(covariance.max() / 40_000)
    )
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=5 * 3 * covariance.max() / 200)


@pytest.mark.parametrize("kind", ["full", pytest.param("diagonal", marks=pytest.mark.slow)])
def test_posterior_draws_take_batches_lists_and_old_keys(kind):
    """Each datum's draws have its own posterior mean, at a noise level of its own."""
    found, _, _ = mixture(kind)
    x_t, alphas = np.stack([X, -X, X + 1]), np.array([0.9, 0.6, 0.3])
    many = np.tile(x_t, (4000, 1, 1)).transpose(1, 0, 2)  # (3, 4000, d)
    draws = np.asarray(eqx.filter_jit(found.posterior_sample)(jax.random.PRNGKey(5), many, alphas, 0.8))
    for x, alpha, drawn in zip(x_t, alphas, draws, strict=True):
        want, spread = found.posterior_mean(x, alpha, 0.8), found.posterior_covariance(x, alpha, 0.8)
        np.testing.assert_allclose(drawn.mean(0), want, atol=5 * float(jnp.max(spread) / 4000) ** 0.5)
    one = found.posterior_sample(jax.random.key(5), X.tolist(), 0.6, 0.8)
    np.testing.assert_array_equal(one, found.posterior_sample(jax.random.PRNGKey(5), X, np.float64(0.6), 0.8))
    with pytest.raises(ValueError, match=r"alpha has shape \(2,\), the batch \(3,\): give one, or one per datum"):
        found.posterior_sample(jax.random.key(5), x_t, [0.1, 0.2], 0.8)
    with pytest.raises(ValueError, match=r"x has shape \(3,\): the last axis of this law is d = 4"):
        found.posterior_sample(jax.random.key(5), X[:3], 0.6, 0.8)


def test_a_mixture_is_noised_by_one_number():
    with pytest.raises(ValueError, match=r"alpha has shape \(2,\): give one number, or vmap over several"):
        mixture("full")[0].noised([0.5, 0.6], 0.1)


@pytest.mark.parametrize("shared", [False, True])
def test_a_tree_of_means_has_the_distances_of_its_paths(shared):
    offsets, branching = (5.0, 2.0, 0.5), (2, 3, 2)
    tree = tree_mixture(jax.random.key(2), 40, offsets, branching=branching, shared=shared)
    means, paths = np.asarray(tree.mixture.means), [tree.ancestors(level) for level in range(4)]
    assert means.shape == (12, 40) and [len(set(path)) for path in paths] == [1, 2, 6, 12]
    for i in range(12):
        for j in range(12):
            steps = [(path[i] % b, path[j] % b) for path, b in zip(paths[1:], branching, strict=True)]
            parted = [paths[level][i] != paths[level][j] for level in range(3)]
            squares = 0.0  # ultrametric where not shared: larger the earlier paths part
            for level, (m, b) in enumerate(zip(offsets, branching, strict=True)):
                if parted[level] and not shared:
                    squares += 2 * m**2
                elif steps[level][0] != steps[level][1]:
                    squares += 2 * b / (b - 1) * m**2
            np.testing.assert_allclose(np.sum((means[i] - means[j]) ** 2), squares, atol=1e-10)


def test_posteriors_of_nodes_are_sums_over_what_is_below():
    tree = tree_mixture(jax.random.key(3), 8, (2.0, 1.0))
    r = jnp.array([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(tree.node_posterior(r, 1), [[0.3, 0.7], [1, 0]])
    np.testing.assert_allclose(tree.node_posterior(r, 0), [[1], [1]])
    np.testing.assert_allclose(tree.node_posterior([[1, 0, 0, 0]], 1), [[1, 0]])


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic"])
def test_a_fit_finds_the_mixture_that_made_the_data(kind):
    """Well separated components: means within 5 standard errors, up to their order."""
    truth = GaussianMixture(jnp.asarray(WEIGHTS), jnp.array([[-6.0, 0.0], [0.0, 6.0], [6.0, -3.0]]), 0.5)
    x = truth.sample(jax.random.key(4), (3000,)).x
    found = fit_mixture(x, 3, kind=kind, seed=0)
    order = jnp.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.means[order], truth.means, atol=5 * np.sqrt(0.5 / 600))
    np.testing.assert_allclose(found.weights[order], WEIGHTS, atol=5 * 0.5 / np.sqrt(3000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.ones(2), jnp.zeros((3, 2)), 1.0), r"weights \(2,\), means \(3, 2\)"),
        ((jnp.ones(3), jnp.zeros((3, 2)), jnp.ones((3, 3))), r"covariances \(3, 3\): give \(K,\), \(K, d\) and one of"),
        (
            (jnp.ones((2, 2)), jnp.zeros((2, 2)), 1.0),
            r"weights \(2, 2\), means \(2, 2\), covariances \(\): give \(K,\)",
        ),
        ((1.0, jnp.zeros((2, 2)), 1.0), r"weights \(\), means \(2, 2\), covariances \(\): give \(K,\)"),
        ((jnp.array([1.0, jnp.inf]), jnp.zeros((2, 2)), 1.0), "give finite numbers that are not negative"),
        ((jnp.zeros(2), jnp.zeros((2, 2)), 1.0), "give finite numbers that are not negative, one at least positive"),
        ((jnp.array([1.0, -1.0]), jnp.zeros((2, 2)), 1.0), "give finite numbers that are not negative"),
        ((jnp.ones(1), jnp.zeros((1, 2)), -1.0), "a variance is -1: variances must not be negative"),
        ((jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[[1.0, 0.5], [0.0, 1.0]]])), "differs from its transpose by 0.5"),
        ((jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[[1.0, 2.0], [2.0, 1.0]]])), "a variance is -1"),
    ],
)
def test_invalid_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_a_tree_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"std = -1\.0: must be positive"):
        two_clusters(jax.random.key(0), 4, -1.0)
    with pytest.raises(ValueError, match="needs 7 orthogonal directions, dimension = 6: raise it, or share them"):
        tree_mixture(jax.random.key(0), 6, (3.0, 2.0, 1.0))
    with pytest.raises(ValueError, match="give one offset and 2 children or more for each level"):
        tree_mixture(jax.random.key(0), 6, (3.0, 2.0), branching=(2,))
    with pytest.raises(ValueError, match=r"offset 2\.0 below 1\.0: siblings would be as far apart as cousins"):
        tree_mixture(jax.random.key(0), 6, (1.0, 2.0))
