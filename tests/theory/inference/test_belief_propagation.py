"""Belief propagation with evidence of any contrast, and at the edges of float32; `test_laws` has what always holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hierarchical import RandomHierarchyModel
from tests.grammars import enumerated
from tests.references import enumeration
from theory import (
    cavity_marginals,
    log_evidence,
    marginals,
    posterior_sample,
)

BATCH = 6
EXTREME = (3, 4)  # the rows of `soft_and_hard_evidence` with contrasts of e^-500


sample = jax.jit(lambda rhm, key: rhm.sample(key))


def soft_and_hard_evidence(rhm, seed, dtype=np.float64):
    """Gaussian log-likelihoods; masked sites; possible hard zeros; contrasts of e^-500; contradictions; tiny values."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(BATCH, rhm.num_leaves, rhm.num_symbols))
    datum = np.asarray(sample(rhm, jax.random.key(seed)).x)
    known = np.eye(rhm.num_symbols, dtype=bool)[datum]
    evidence[1, rng.random(rhm.num_leaves) < 0.5] = 0.0
    evidence[2] = np.where(known | (rng.random(known.shape) < 0.5), evidence[2], -np.inf)
    evidence[3] = np.where(known, 0.0, -500 * rng.random(known.shape))
    evidence[4] = np.where(np.roll(known, 1, -1), 0.0, -500.0)  # every leaf insists on a wrong symbol
    evidence[5] = -1e4 + evidence[5]
    return evidence.astype(dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("zipf", np.float32, 1e-5),
        ("per-level", np.float64, 1e-10),
        ("filtered-2", np.float64, 1e-10),
        pytest.param("zipf", np.float64, 1e-10, marks=pytest.mark.slow),
        pytest.param("per-level", np.float32, 1e-5, marks=pytest.mark.slow),
        pytest.param("filtered-2", np.float32, 1e-5, marks=pytest.mark.slow),
    ],
)
def test_marginals_and_log_evidence_match_enumeration(name, dtype, tolerance):
    rhm, data = enumerated(name)
    evidence = soft_and_hard_evidence(rhm, 0, dtype)
    tables, logs = marginals(rhm, jnp.asarray(evidence)), log_evidence(rhm, jnp.asarray(evidence))
    assert logs.dtype == dtype and all(table.dtype == dtype for table in tables)
    for i, one in enumerate(evidence.astype(np.float64)):
        # a logarithm of some hundreds has an absolute rounding error of some hundred units in the last place of 1
        allowed = max(tolerance, 2000 * np.finfo(dtype).eps) if i in EXTREME else tolerance
        log_p, weights = enumeration.posterior(data, one)
        np.testing.assert_allclose(logs[i], log_p, rtol=tolerance, atol=tolerance)
        for got, want in zip(tables, enumeration.marginals(data, weights, rhm.vocabulary), strict=True):
            np.testing.assert_allclose(got[i], want, atol=allowed)


@pytest.mark.parametrize("name", ["zipf", "per-level", "filtered-2"])
def test_cavity_is_the_marginal_with_the_evidence_below_erased(name):
    rhm, data = enumerated(name)
    evidence = soft_and_hard_evidence(rhm, 1)
    cavities = cavity_marginals(rhm, jnp.asarray(evidence))
    for level, nodes in enumerate(rhm.num_nodes):
        for node in range(nodes):
            below = slice(node * rhm.num_leaves // nodes, (node + 1) * rhm.num_leaves // nodes)
            for i, one in enumerate(evidence):
                erased = one.copy()
                erased[below] = 0.0
                _, weights = enumeration.posterior(data, erased)
                want = enumeration.marginals(data, weights, rhm.vocabulary)[level][node]
                np.testing.assert_allclose(cavities[level][i, node], want, atol=1e-10)


def test_gradients_of_hard_zeros_are_finite():
    rhm, _ = enumerated("uniform")
    evidence = jnp.asarray(soft_and_hard_evidence(rhm, 4)[2:3])
    gradient = np.asarray(jax.jit(jax.grad(lambda e: log_evidence(rhm, e).sum()))(evidence))
    assert np.isfinite(gradient).all() and (gradient[np.asarray(evidence) == -np.inf] == 0).all()


@pytest.mark.parametrize(
    "name",
    ["zipf", "filtered-2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("uniform", "per-level", "filtered-1"))],
)
def test_posterior_samples_follow_the_enumerated_posterior(name):
    rhm, data = enumerated(name)
    one = soft_and_hard_evidence(rhm, 5)[1]
    draws = 20_000
    repeated = jnp.broadcast_to(jnp.asarray(one), (draws, *one.shape))
    sample = posterior_sample(jax.random.key(6), rhm, repeated)
    _, weights = enumeration.posterior(data, one)
    law = {}
    for weight, (_, levels) in zip(weights, data, strict=True):
        law[sum(levels, ())] = law.get(sum(levels, ()), 0.0) + weight
    index = {row: i for i, row in enumerate(law)}
    rows = np.concatenate([np.asarray(level) for level in sample.levels], 1)
    counts = np.bincount([index[tuple(row)] for row in rows.tolist()], minlength=len(index))
    expected = draws * np.array(list(law.values()))
    few = expected < 5
    observed, expected = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    keep = expected > 0
    assert (observed[~keep] == 0).all()
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3
    assert all(level.all() for level in sample.valid)


def test_one_datum_is_a_batch_of_one():
    rhm, _ = enumerated("per-level")
    evidence = jnp.asarray(soft_and_hard_evidence(rhm, 7))
    for function in (marginals, cavity_marginals):
        for one, many in zip(function(rhm, evidence[2]), function(rhm, evidence), strict=True):
            np.testing.assert_allclose(one, many[2], atol=1e-14)
    assert posterior_sample(jax.random.key(8), rhm, evidence[0]).leaves.shape == (rhm.num_leaves,)


def test_impossible_evidence_is_reported():
    rules = [np.array([[[0, 1]], [[1, 0]]])] * 2
    rhm = RandomHierarchyModel.from_rules(rules)
    evidence = jnp.where(jax.nn.one_hot(jnp.array([0, 0, 1, 0]), 2, dtype=bool), 0.0, -jnp.inf)
    nothing = jnp.full((4, 2), -jnp.inf)
    gradient = jax.jit(jax.grad(lambda e: log_evidence(rhm, e)))
    for bad in (evidence, nothing):
        assert log_evidence(rhm, bad) == -jnp.inf
        assert all((table == 0).all() for table in marginals(rhm, bad))
        assert not any(level.any() for level in posterior_sample(jax.random.key(9), rhm, bad).valid)
        assert jnp.isfinite(gradient(bad)).all()


def test_zero_noise_gives_the_parse():
    rhm = RandomHierarchyModel(6, 3, 2, 5, key=jax.random.key(10))
    datum = sample(rhm, jax.random.key(11))
    evidence = jnp.where(jax.nn.one_hot(datum.x, 6, dtype=bool), 0.0, -jnp.inf)
    for table, level in zip(marginals(rhm, evidence), datum.latent.levels, strict=True):
        np.testing.assert_allclose(table, jax.nn.one_hot(level, 6), atol=1e-12)
    np.testing.assert_allclose(log_evidence(rhm, evidence), -rhm.entropy, rtol=1e-12)


def test_saturated_rules_make_the_leaves_independent():
    rhm = RandomHierarchyModel(3, 3, 2, 3, key=jax.random.key(13))  # m = v^(s-1): every pair is a rule
    evidence = jax.random.normal(jax.random.key(14), (8, 3))
    flat = evidence.at[3].set(0.0)
    np.testing.assert_allclose(marginals(rhm, flat)[-1][3], np.full(3, 1 / 3), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_depth_twenty_does_not_underflow(dtype):
    rhm = RandomHierarchyModel(3, 2, 2, 20, key=jax.random.key(15))
    leaves = sample(rhm, jax.random.key(16)).x
    evidence = jnp.where(jax.nn.one_hot(leaves, 3, dtype=bool), 0.0, -jnp.inf).astype(dtype)
    np.testing.assert_allclose(log_evidence(rhm, evidence), -rhm.entropy, rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_bad_evidence_is_refused(bad):
    rhm, _ = enumerated("uniform")
    evidence = jnp.zeros((4, 3)).at[1, 2].set(bad)
    with pytest.raises(ValueError, match="NaN or \\+inf"):
        marginals(rhm, evidence)
    with pytest.raises(RuntimeError, match="NaN or \\+inf"):  # in a program of the user's it shows when that runs
        jax.block_until_ready(jax.jit(marginals)(rhm, evidence))


def test_evidence_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., 4, 3\), got \(5, 3\)"):
        log_evidence(enumerated("uniform")[0], jnp.zeros((5, 3)))
