"""Leading eigenpairs of Jacobians of denoisers, against exact covariances, closed forms and dense algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    GaussianProcess,
    Masking,
    OneHotDenoiser,
    PredictMean,
    TreeUNet,
    VarianceExploding,
    VectorMLP,
    VectorProcess,
    from_flax,
    from_host,
)
from diffusion.measure import TreeGeometry, leading_pairs, subtree_level, subtree_shares
from diffusion.measure.field.eigenpairs import lanczos, ritz_pairs
from diffusion.noise.gaussian import time_of_noise
from hierarchical import GaussianMixture, TreeGaussian
from tests.grammars import enumerated
from theory import posterior_covariance
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, LawDenoiser, MixtureDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again


def noised_strings(name="zipf", count=3, t=0.4):
    """A grammar's denoiser and noised strings of it."""
    rhm, _ = enumerated(name)
    process = GaussianProcess(rhm.num_symbols)
    x_t = process.corrupt(jax.random.key(1), rhm.sample(jax.random.key(0), (count,)).x, t)
    return rhm, GrammarDenoiser(rhm, process), x_t.astype(float), t


def covariance_of_strings(rhm, process, x_t, t):
    """C alpha / sigma^2 by belief propagation, (leaves v, leaves v)."""
    matrix = (
        posterior_covariance(rhm, process.log_likelihood(x_t, t)) * process.path.alpha(t) / process.path.sigma(t) ** 2
    )
    return np.asarray(matrix).reshape(len(x_t), x_t[0].size, x_t[0].size)


@pytest.mark.parametrize("steps", [8, pytest.param(3, marks=pytest.mark.slow)])
def test_pairs_of_a_grammar_are_those_of_the_exact_posterior_covariance(steps):
    """The top value to 1e-10 from d products; a search of 9 finds a value as near to an eigenvalue as it says."""
    rhm, denoiser, x_t, t = noised_strings()
    matrix = covariance_of_strings(rhm, denoiser.process, x_t, t)
    want = np.linalg.eigvalsh(matrix)[:, ::-1]
    found = leading_pairs(KEY, denoiser, x_t, t, num_steps=steps)
    assert found.vectors.shape == (3, 1, 4, 4)
    vectors = np.asarray(found.vectors).reshape(3, -1)
    rest = np.einsum("nij,nj->ni", matrix, vectors) - found.values * vectors
    np.testing.assert_allclose(np.linalg.norm(rest, axis=1), found.residuals[:, 0], atol=1e-12)
    np.testing.assert_allclose(found.asymmetry, 0, atol=1e-12)
    assert (abs(found.values - want).min(1) <= found.residuals[:, 0] + 1e-12).all()
    if steps == 8:
        np.testing.assert_allclose(found.values[:, 0], want[:, 0], rtol=1e-10)


def test_symbols_that_no_string_has_at_a_site_do_not_vary():
    """Posteriors of exactly 0, whose logarithm is -inf: derivatives are 0, not NaN."""
    rhm, exact, x_t, t = noised_strings()
    strings = np.unique(np.asarray(rhm.sample(jax.random.key(2), (4,)).x), axis=0)
    empirical = EmpiricalDenoiser(strings, exact.process)
    weights = np.exp(empirical.log_weights(x_t, t))
    hot = np.eye(4)[strings].reshape(len(strings), -1)
    mean = weights @ hot
    matrix = np.einsum("nk,ki,kj->nij", weights, hot, hot) - mean[:, :, None] * mean[:, None]
    path = exact.process.path
    want = np.linalg.eigvalsh(matrix * float(path.alpha(t) / path.sigma(t) ** 2))[:, -1]
    np.testing.assert_allclose(leading_pairs(KEY, empirical, x_t, t).values[:, 0], want, rtol=1e-9)


@pytest.mark.slow
def test_probabilities_below_single_precision_do_not_vary():
    _, denoiser, x_t, t = noised_strings(t=0.001)
    found = leading_pairs(KEY, denoiser, x_t.astype(jnp.float32), t)
    assert (denoiser(x_t.astype(jnp.float32), t) == -jnp.inf).any()
    assert np.isfinite(found.values).all() and np.isfinite(found.residuals).all()


def test_symmetric_mixture_has_its_closed_form_at_the_origin():
    """s0^2/(s0^2+s^2) + s^2 mu^2/(s0^2+s^2)^2 along the means, s0^2/(s0^2+s^2) across, on the exploding path."""
    mu, within, s, d = 1.5, 0.3, 0.8, 6
    unit = jnp.asarray(np.full(d, d**-0.5))
    law = GaussianMixture([1, 1], jnp.stack([mu * unit, -mu * unit]), within)
    denoiser = MixtureDenoiser(law, VectorProcess(VarianceExploding()))
    found = leading_pairs(KEY, denoiser, jnp.zeros(d), time_of_noise(s), num_pairs=2)
    across = within / (within + s**2)
    np.testing.assert_allclose(found.values, [across + s**2 * mu**2 / (within + s**2) ** 2, across], rtol=1e-10)
    np.testing.assert_allclose(abs(jnp.vdot(found.vectors[0], unit)), 1, rtol=1e-10)


def test_gaussians_on_a_tree_have_subtrees_as_leading_vectors():
    """J = alpha C / (alpha^2 C + sigma^2) whatever x_t: the root's vector first, then those of level 1."""
    law, t = TreeGaussian(2, (0.5, 0.5, 2.0, 1.0)), 0.3
    denoiser = MixtureDenoiser(GaussianMixture([1.0], jnp.zeros((1, 8)), law.covariance[None]))
    alpha, sigma = denoiser.process.path.alpha(t), denoiser.process.path.sigma(t)
    x_t = jax.random.normal(jax.random.key(3), (2, 8))
    found = leading_pairs(KEY, denoiser, x_t, t, num_pairs=3)
    want = jnp.sort(jnp.linalg.eigvalsh(law.covariance))[::-1][:3]
    np.testing.assert_allclose(found.values[1], alpha * want / (alpha**2 * want + sigma**2), rtol=1e-9)
    shares = subtree_shares(TreeGeometry((2, 2, 2)), found.vectors**2)
    np.testing.assert_allclose(shares[:, :2], np.broadcast_to([1, 1 / 2, 1 / 4, 1 / 8], (2, 2, 4)), atol=1e-9)


def test_search_finds_equal_and_separate_values_of_a_matrix():
    """Three equal values, and what is left of the space when blocks lead nowhere new."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]
    values = np.concatenate([[3.0, 3.0, 3.0, 2.0], np.linspace(1, 0, 56)])
    for spectrum, blocks in ((values, 8), (np.where(values > 1.5, values, 0), 11)):
        matrix = jnp.asarray((axes * spectrum) @ axes.T)
        start = jax.random.normal(jax.random.key(4), (60, 5))
        basis, image = jax.jit(lambda start, m=matrix, n=blocks: lanczos(lambda v: m @ v, start, n))(start)
        np.testing.assert_allclose(basis.T @ basis, np.eye(5 * blocks), atol=1e-12)
        found = ritz_pairs(basis, image, 4)
        np.testing.assert_allclose(found.values, values[:4], atol=1e-9)
        np.testing.assert_allclose(jnp.linalg.norm(matrix @ found.vectors - found.vectors * found.values[None], axis=0),
                                   found.residuals, atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("kind", ["arrays", pytest.param("strings", marks=pytest.mark.slow)])
def test_networks_report_the_part_that_is_not_symmetric(kind):
    if kind == "arrays":
        denoiser = from_flax(VectorMLP(3, 16, rngs=nnx.Rngs(0)), VectorProcess(), (3,))
        as_vectors = denoiser
    else:
        process = GaussianProcess(3)
        network = TreeUNet(process, (2, 2), 8, rngs=nnx.Rngs(0))
        denoiser = from_flax(network, process, 4, blind=True)
        as_vectors = OneHotDenoiser(denoiser)
    x_t, t = jax.random.normal(jax.random.key(5), (2, *as_vectors.shape), jnp.float32), jnp.array([0.5, 1.0])
    found = leading_pairs(KEY, denoiser, x_t, t)
    for n in range(2):
        matrix = jax.jacfwd(lambda x, n=n: as_vectors(x.reshape(as_vectors.shape), t[n]).ravel())(x_t[n].ravel())
        np.testing.assert_allclose(found.values[n, 0], jnp.linalg.eigvalsh((matrix + matrix.T) / 2)[-1], rtol=1e-4)
        vector = found.vectors[n, 0].ravel()
        np.testing.assert_allclose(found.asymmetry[n, 0], jnp.linalg.norm((matrix - matrix.T) @ vector) / 2, rtol=1e-2)


def test_strings_are_arrays_of_one_hot_vectors():
    """The mean is the posterior, the score Tweedie's."""
    _, denoiser, x_t, t = noised_strings()
    vectors = OneHotDenoiser(denoiser)
    np.testing.assert_allclose(vectors.mean(x_t, t), jnp.exp(denoiser(x_t, t)), atol=1e-14)
    path = denoiser.process.path
    want = (path.alpha(t) * vectors.mean(x_t, t) - x_t) / path.sigma(t) ** 2
    np.testing.assert_allclose(vectors.score(x_t, t), want, atol=1e-12)
    assert vectors.shape == (4, 4) and vectors.max_time == denoiser.max_time and vectors.min_time == 0


def test_batches_arrays_and_compiled_calls():
    denoiser, t = MixtureDenoiser(GaussianMixture([1, 2], [[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]], 0.5)), 0.4
    x_t = jax.random.normal(jax.random.key(6), (2, 3))
    whole = leading_pairs(KEY, denoiser, x_t, t)
    compiled = eqx.filter_jit(leading_pairs)(KEY, denoiser, x_t.reshape(1, 2, 3), jnp.full((1, 2), t))
    np.testing.assert_allclose(compiled.values[0], whole.values, rtol=1e-12)
    one = leading_pairs(KEY, denoiser, np.asarray(x_t[1]).tolist(), t)
    np.testing.assert_allclose(one.values, whole.values[1], rtol=1e-10)
    mapped = jax.vmap(lambda x: leading_pairs(KEY, denoiser, x, t).values)(x_t)
    np.testing.assert_allclose(mapped, whole.values, rtol=1e-10)


def test_subtrees_hold_what_lies_below_them():
    geometry = TreeGeometry((2, 3))
    shares = subtree_shares(geometry, [[0, 0, 0, 1, 0, 3], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(shares[:2], [[1, 1, 0.75], [1, 1 / 2, 1 / 6]])
    assert np.isnan(shares[2]).all()
    assert subtree_level(shares[:2]).tolist() == [1, 0]
    assert subtree_level([1, 1, 0.95]) == 2 and subtree_level(shares[0], 0.75) == 2


def test_what_is_refused():
    rhm, denoiser, x_t, t = noised_strings(count=1)
    host = from_host(lambda x, t: x / 2, VectorProcess(), (3,), parametrisation=PredictMean())
    law = LawDenoiser(GaussianMixture([1.0], [[0.0, 0.0]], 1.0), 2)
    for refused, message in (
        (
            lambda: leading_pairs(KEY, GrammarDenoiser(rhm, Masking(4)), np.zeros((1, 4), int), t),
            "GrammarDenoiser of Mask",
        ),
        (lambda: leading_pairs(KEY, host, jnp.zeros((1, 3)), t), "has no derivative, which is needed here"),
        (lambda: leading_pairs(KEY, denoiser, x_t, 0.0), "t = 0"),
        (lambda: leading_pairs(KEY, denoiser, x_t[..., :3], t), "x_t has shape"),
        (lambda: leading_pairs(KEY, law, jnp.zeros(2), t, num_pairs=3), "num_pairs = 3: a datum of 2 numbers has 2"),
        (lambda: subtree_shares(TreeGeometry((2, 2)), np.ones(5)), "has 4 sites, the field 5"),
        (lambda: subtree_level([1.0, 0.6], 0.5), "least = 0.5: give a share above 1/2"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
