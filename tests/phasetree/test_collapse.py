"""The experiment `collapse`: a whole small run beside exact finite-size curves, resumed, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from phasetree.experiments import collapse as experiment
from phasetree.experiments.collapse import figure
from tests.experiments import finish
from theory.gaussian.collapse import isotropic_collapse_time
from theory.gaussian.seed_weight import isotropic_seed_weight

SETS = ((20, 148), (28, 1097))  # (d, n) with ln n = d / 4

TINY = experiment.CollapseConfig(
    dimensions=(6, 10), alpha=0.5, times=(0.5, 1.0, 1.5), sets=400, seeds=4, turns=2, sampler_steps=24
)


def finished(path):
    return finish("collapse", experiment, TINY, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, finished(path)


def test_weights_entropies_and_returns_are_those_of_finite_size(whole):
    """18 points, within 4.5 standard errors; weights cross where the exact curves do."""
    path, dataset = whole
    for d in TINY.dimensions:
        for name, exact in (("weight", "exact_weight"), ("entropy", "exact_entropy"), ("returned", "exact_weight")):
            assert figure.deviation(dataset, name, exact, d) < 4.5
    found = figure.crossing(dataset, 6, 10)
    assert abs(found.value - figure.exact_crossing(dataset, 6, 10)) < 5 * found.stderr
    report = (path / "report.md").read_text()
    assert "| 6 | 20 | " in report and "| 10 | 148 | " in report
    assert "returns are within" in report and "at all 12 points" in report


def test_weights_that_begin_at_one_cross_where_they_part_for_good(whole):
    """At small times both are 1 but for 1e-6 of noise; near t_C the larger dimension falls below the smaller."""
    times = np.arange(1, 17) / 10
    rng, falls = np.random.default_rng(0), np.exp(-np.exp(np.outer((8.0, 16.0), times - 0.95)))
    weight = falls[:, :, None] + 1e-6 * rng.normal(size=(2, 16, 64))
    coordinates = {"dimension": [20, 28], "time": times}
    parts = {"weight": (("dimension", "time", "set"), weight)}
    found = figure.crossing(xr.Dataset(parts, coordinates), 20, 28)
    assert abs(found.value - 0.95) < 0.01
    exact = [[isotropic_seed_weight(n, d, t * isotropic_collapse_time(n, d))[0] for t in times[7:11]] for d, n in SETS]
    constants = {"points": [n for _, n in SETS], "collapse_time": [isotropic_collapse_time(n, d) for d, n in SETS]}
    dataset = xr.Dataset(
        {"exact_weight": (("dimension", "time"), exact)} | {k: ("dimension", v) for k, v in constants.items()},
        {"dimension": [20, 28], "time": times[7:11]},
        {"std": 1.0},
    )
    assert abs(figure.exact_crossing(dataset, 20, 28) - 0.94919) < 1e-4  # a root of curves summed another way


def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    path, dataset = whole
    (path / "stages" / "dimension-6.nc").unlink()
    xr.testing.assert_identical(finished(path), dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": (10, 6)}, r"dimensions = \(10, 6\): give increasing numbers"),
        ({"alpha": 0.0}, r"alpha = 0\.0: must be positive and finite"),
        ({"alpha": float("inf")}, "alpha = inf: must be positive and finite"),
        ({"dimensions": (6, 4000)}, r"a set of e\^2000 points holds more than 1e\+09 numbers"),
        ({"times": (0.9, float("nan"), 1.0)}, "give at least 3 finite numbers, above 0"),
        ({"seeds": 30}, r"n = e\^\(alpha d\) = 20 points in d = 6, seeds = 30, turns = 2"),
        ({"turns": 5}, "no more turns than seeds"),
        ({"times": (0.5, 0.8, 1.1)}, "the collapse time itself, 1, must be among them"),
        ({"times": (0.5, 0.6, 0.8)}, "increasing and evenly spaced"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
