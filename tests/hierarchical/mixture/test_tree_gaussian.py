"""Trees of Gaussians: the spectrum against the definition, draws in standard errors, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import TreeGaussian

LAW = TreeGaussian(3, (0.5, 0.3, 0.2, 0.1))


def ancestors(leaf, branching, depth):
    """Of a leaf itself and the nodes above it, by walking up."""
    nodes = [(0, leaf)]
    while nodes[-1][0] < depth:
        height, node = nodes[-1]
        nodes.append((height + 1, node // branching))
    return set(nodes)


def covariance(branching, variances):
    """Of sums over shared ancestors, pair by pair."""
    depth = len(variances) - 1
    above = [ancestors(leaf, branching, depth) for leaf in range(branching**depth)]
    return np.array([[sum(variances[height] for height, _ in a & b) for b in above] for a in above])


def test_eigenvalues_of_three_levels_of_three():
    """5.9 once, 3.2 twice, 1.4 six times and .5 eighteen times."""
    np.testing.assert_allclose(LAW.eigenvalues, [0.5, 1.4, 3.2, 5.9])
    assert LAW.multiplicities.tolist() == [18, 6, 2, 1]
    assert LAW.heights.tolist() == [3] + [2] * 2 + [1] * 6 + [0] * 18
    assert (LAW.depth, LAW.num_leaves) == (3, 27)


@pytest.mark.parametrize(("branching", "variances"), [(3, (0.5, 0.3, 0.2, 0.1)), (2, (1.0, 0.0, 0.7)), (5, (0.0, 0.4))])
def test_spectrum_is_that_of_the_covariance_of_the_definition(branching, variances):
    law = TreeGaussian(branching, variances)
    want = covariance(branching, variances)
    np.testing.assert_allclose(law.covariance, want, atol=1e-12)
    np.testing.assert_allclose(law.spectrum, np.linalg.eigvalsh(want)[::-1], atol=1e-12)
    assert law.multiplicities.sum() == law.num_leaves


def test_draws_have_the_covariance():
    """Errors of products over 20,000 draws, all 36 pairs of two levels of two at once."""
    law = TreeGaussian(2, (0.5, 0.3, 0.2))
    x = np.asarray(law.sample(jax.random.key(0), 20_000).x)
    products = x[:, :, None] * x[:, None]
    apart = products.mean(0) - law.covariance
    assert (abs(apart) < 5 * products.std(0) / np.sqrt(len(x))).all()
    assert (abs(x.mean(0)) < 5 * x.std(0) / np.sqrt(len(x))).all()


def test_leaves_are_sums_of_the_nodes_above_them():
    drawn = LAW.sample(jax.random.key(1), (2, 5))
    assert [g.shape for g in drawn.latent] == [(2, 5, 1), (2, 5, 3), (2, 5, 9), (2, 5, 27)]
    for leaf in (0, 8, 26):
        above = sum(drawn.latent[level][..., leaf // 3 ** (3 - level)] for level in range(4))
        np.testing.assert_allclose(drawn.x[..., leaf], above)


def test_score_and_noised_law_are_those_of_the_covariance():
    """score = -(alpha^2 C + sigma^2)^-1 x."""
    x = np.random.default_rng(0).normal(size=27)
    total = 0.64 * np.asarray(LAW.covariance) + 0.36 * np.eye(27)
    np.testing.assert_allclose(LAW.gaussian.noised(0.8, 0.6).score(x), -np.linalg.solve(total, x), rtol=1e-9)


def test_variances_may_be_traced_and_of_any_float():
    slope = jax.jit(jax.grad(lambda variances: TreeGaussian(3, variances).eigenvalues[-1]))(jnp.ones(3))
    np.testing.assert_allclose(slope, [1, 3, 9])
    single = TreeGaussian(2, np.ones(3, np.float32))
    assert {single.covariance.dtype, single.spectrum.dtype, single.sample(jax.random.key(0)).x.dtype} == {
        jnp.dtype("float32")
    }


@pytest.mark.parametrize(
    ("branching", "variances", "message"),
    [
        (1, (1.0, 1.0), "branching = 1: give a whole number, 2 or above"),
        (2, (1.0,), r"variances have shape \(1,\): give one for each height"),
        (2, 1.0, r"variances have shape \(\): give one for each height"),
        (2, (1.0, -1.0), "variances hold -1: give finite numbers that are not negative"),
        (2, (1.0, np.nan), "variances hold nan: give finite numbers"),
        (2, [1.0] * 60, r"a tree with branching = 2, depth = 59 needs .* of memory"),
    ],
)
def test_arguments_outside_their_domain_are_named(branching, variances, message):
    with pytest.raises(ValueError, match=message):
        TreeGaussian(branching, variances)


def test_a_covariance_beyond_memory_is_named():
    with pytest.raises(ValueError, match=r"the covariance of 1048576 leaves needs .* of memory"):
        TreeGaussian(2, np.ones(21)).covariance  # noqa: B018
