"""Covariances of the leaves' symbols given evidence, against the enumerated posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking
from tests.grammars import enumerated
from tests.references import enumeration
from theory import marginals, posterior_covariance, posterior_covariance_times
from theory.inference.evidence import NoisedStrings, hard_evidence


def enumerated_covariance(data, evidence):
    """E 1 1' - E 1 E 1' of the indicators of all leaves and symbols, over all strings."""
    _, weights = enumeration.posterior(data, evidence)
    strings = np.array([levels[-1] for _, levels in data])
    indicators = np.eye(evidence.shape[1])[strings].reshape(len(data), -1)
    mean = weights @ indicators
    matrix = np.einsum("n,ni,nj->ij", weights, indicators, indicators) - np.outer(mean, mean)
    return matrix.reshape(*evidence.shape, *evidence.shape)


def soft_masked_and_hard(rhm, seed):
    """Gaussian log-likelihoods, two of them with missing sites, the last with a leaf that is known."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(2, 2, rhm.num_leaves, rhm.num_symbols))
    evidence[1, :, 1] = 0.0
    known = np.asarray(rhm.sample(jax.random.key(seed)).x)[0]
    evidence[1, 1, 0] = np.where(np.arange(rhm.num_symbols) == known, 0.0, -np.inf)
    return evidence


@pytest.mark.parametrize(
    "name", ["zipf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("uniform", "per-level", "filtered-2"))]
)
def test_covariances_match_enumeration(name):
    rhm, data = enumerated(name)
    evidence = soft_masked_and_hard(rhm, 0)
    found = posterior_covariance(rhm, evidence)
    want = [[enumerated_covariance(data, one) for one in row] for row in evidence]
    np.testing.assert_allclose(found, want, atol=1e-10)


def test_products_are_those_of_the_matrix():
    rhm, _ = enumerated("zipf")
    evidence = soft_masked_and_hard(rhm, 1)
    vectors = np.random.default_rng(2).normal(size=evidence.shape)
    matrix = posterior_covariance(rhm, evidence)
    want = np.einsum("abixjy,abjy->abix", matrix, vectors)
    np.testing.assert_allclose(posterior_covariance_times(rhm, evidence, vectors), want, atol=1e-12)
    mapped = jax.jit(jax.vmap(lambda one, w: posterior_covariance_times(rhm, one, w)))
    np.testing.assert_allclose(mapped(evidence[1], vectors[1]), want[1], atol=1e-12)
    same = posterior_covariance_times(rhm, evidence, vectors[0, 0])
    np.testing.assert_allclose(same[1, 1], np.einsum("ixjy,jy->ix", matrix[1, 1], vectors[0, 0]), atol=1e-12)


def test_evidence_of_inner_levels_conditions_the_leaves():
    """With all parents of leaves known, leaves of different parents are independent."""
    rhm, data = enumerated("uniform")
    parents = data[0][1][1]
    known = np.where(np.eye(rhm.vocabulary[1])[list(parents)] > 0, 0.0, -np.inf)
    matrix = np.asarray(posterior_covariance(rhm, {1: known}))
    assert abs(matrix[:2, :, 2:]).max() < 1e-14 < 0.1 < abs(matrix[:2, :, :2]).max()


@pytest.mark.slow
def test_known_strings_do_not_vary_and_masked_ones_vary_as_the_prior():
    rhm, data = enumerated("uniform")
    masked = NoisedStrings(Masking(3), np.array([[3, 3, 3, 3], data[0][1][2]]), 0.5)
    free, known = posterior_covariance(rhm, masked)
    np.testing.assert_allclose(free, enumerated_covariance(data, np.zeros((4, 3))), atol=1e-12)
    np.testing.assert_array_equal(known, 0)
    p = marginals(rhm, masked)[-1][0]
    np.testing.assert_allclose(jnp.einsum("ixiy->ixy", free), jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None])


def test_impossible_evidence_has_no_covariance_and_wrong_input_is_refused():
    rhm, _ = enumerated("uniform")
    np.testing.assert_array_equal(posterior_covariance(rhm, np.full((4, 3), -np.inf)), 0)
    with pytest.raises(ValueError, match="NaN or \\+inf"):
        posterior_covariance(rhm, np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match=r"vectors have shape \(3, 4\), the evidence \(4, 3\)"):
        posterior_covariance_times(rhm, hard_evidence([0, 0, -1, -1], 3), np.zeros((3, 4)))
