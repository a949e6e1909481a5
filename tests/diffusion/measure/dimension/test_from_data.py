"""The dimension of data alone: laws of known dimension, the published manifolds, and scikit-learn's contract."""

import jax
import numpy as np
import pytest

from diffusion import VarianceExploding, VectorProcess
from diffusion.measure import dimension
from diffusion.measure.dimension.from_data import _log_moments
from hierarchical import LinearSubspace, Sphere
from theory.exact import EmpiricalDenoiser, LawDenoiser

KEY = np.array([0, 0], np.uint32)


def normal(n, k, d=20, seed=0):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(n, k)) @ np.linalg.qr(draws.normal(size=(d, k)))[0].T


@pytest.mark.parametrize("k", [1, 4, 15])
def test_normal_data_have_their_dimension(k):
    """Of other draws than the calibration's, and at a dimension that is not one of its."""
    found = dimension.from_data(KEY, normal(1000, k, seed=k))
    assert abs(found.value - k) < 4 * found.stderr and 0 < found.stderr < 0.08 * k
    assert not found.flags["duplicates"]


def test_moments_are_flipd_of_the_denoiser_of_all_other_data():
    rows = normal(200, 3, 5)
    moments, _ = _log_moments(rows, rows[:4])
    for number in range(4):
        others = np.delete(rows, number, 0)
        squares = ((rows[number] - others) ** 2).sum(1)
        # the noise whose weights are of three data, by bisection on the definition
        low, high = 1e-3, 10.0
        for _ in range(60):
            s = np.sqrt(low * high)
            weights = np.exp(-(squares - squares.min()) / (2 * s**2))
            low, high = (s, high) if weights.sum() ** 2 < 3 * (weights**2).sum() else (low, s)
        process = VectorProcess(VarianceExploding())
        found = dimension.flipd(KEY, EmpiricalDenoiser(others, process), rows[number][None], np.log1p(s**2) / 2)
        np.testing.assert_allclose(found.value[0], np.exp(moments[number]), rtol=1e-5)


def test_scale_place_and_order_do_not_matter():
    rows = normal(400, 3)
    found = dimension.from_data(KEY, rows)
    moved = dimension.from_data(KEY, 1e6 * rows[::-1].reshape(400, 4, 5) + 3e5)
    np.testing.assert_allclose(moved.value, found.value, rtol=1e-6)


def test_two_parts_have_two_dimensions():
    """A 1-sphere and a 6-sphere far from each other, by averages over neighbours."""
    circle, ball = (np.asarray(Sphere(KEY, k, 10).sample(jax.random.key(k), 500).x) for k in (1, 6))
    found = dimension.from_data(KEY, np.concatenate([circle, 10 + ball]), neighbours=100)
    assert found.value.shape == (1000,) and (found.value[:500] < 2).all() and (found.value[500:] > 3.5).all()
    assert abs(float(found.value[500:].mean()) - 6) < 0.9


def test_repeated_data_count_once_and_are_flagged():
    rows = normal(300, 3)
    twice = np.concatenate([rows, rows[:5]])
    found = dimension.from_data(KEY, twice)
    assert found.flags["duplicates"] and found.value == dimension.from_data(KEY, rows).value
    each = dimension.from_data(KEY, twice, neighbours=20)
    assert each.flags["duplicates"].sum() == 10 and each.flags["duplicates"][:5].all()


def test_wrong_input_is_refused_by_name():
    rows = normal(30, 3)
    for data, message in (
        (np.ones((30, 3)), "30 data, 1 of them different: give at least 10"),
        (rows[:9], "9 data, 9 of them different"),
        (np.tile(rows[:4], (8, 1)), "32 data, 4 of them different"),
        (np.where(rows > 1, np.nan, rows), "finite numbers"),
        (rows[:, 0], r"data of shape \(30,\)"),
        (rows + 1j, "data are of complex128: give real numbers"),
        ([["a", "b"]] * 20, "give real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            dimension.from_data(KEY, data)
    with pytest.raises(ValueError, match="neighbours = 30 of 30 different data"):
        dimension.from_data(KEY, rows, neighbours=30)


def test_scikit_learn_accepts_the_estimator():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    found = checks.check_estimator(dimension.DiffusionDimension(num_points=50), on_fail=None, on_skip=None)
    assert len(found) > 30
    assert not [(check["check_name"], check["exception"]) for check in found if check["status"] == "failed"]


def test_three_lines_give_the_dimension_of_an_array():
    rows = normal(500, 4)
    found = dimension.DiffusionDimension(random_state=0, neighbours=50).fit(rows)
    assert abs(found.dimension_ - 4) < 4 * found.stderr_ and found.dimension_pw_.shape == (500,)
    again = dimension.DiffusionDimension(random_state=0).fit(rows)
    assert again.dimension_ == found.dimension_ and again.flags_ == {"duplicates": 0}
    law = LinearSubspace(KEY, 4, 12)
    exact = LawDenoiser(law, 12, VectorProcess(VarianceExploding()))
    x = np.asarray(law.sample(jax.random.key(1), 100).x)
    asked = dimension.DiffusionDimension(exact, num_points=16, random_state=0).fit(x)
    assert abs(asked.dimension_ - 4) < 5 * asked.stderr_ and "plateau" in asked.reason_


@pytest.mark.slow
def test_published_manifolds():
    """Mean relative error over the 24 manifolds at n = 2500, three seeds: below TwoNN's of the same run, and .118."""
    skdim = pytest.importorskip("skdim")
    ours, theirs = [], []
    for seed in range(3):
        benchmark = skdim.datasets.BenchmarkManifolds(random_state=seed)
        for name, rows in benchmark.generate(n=2500).items():
            k = benchmark.truth.loc[name, "Intrinsic Dimension"]
            ours.append(abs(float(dimension.from_data(jax.random.key(seed), rows).value) / k - 1))
            theirs.append(abs(skdim.id.TwoNN().fit(rows).dimension_ / k - 1))
    assert np.mean(ours) < 0.118 and np.mean(ours) < np.mean(theirs)
