"""The experiment `collapse`: a whole small run beside exact finite-size curves, resumed, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from phasetree.experiments import collapse as experiment
from phasetree.experiments.collapse import analysis
from phasetree.runner.run import execute
from theory.gaussian.collapse import isotropic_collapse_time
from theory.gaussian.seed_weight import isotropic_seed_weight

SETS = ((20, 148), (28, 1097))  # (d, n) with ln n = d / 4

TINY = experiment.Config(
    dimensions=(6, 10), alpha=0.5, times=(0.5, 1.0, 1.5), num_sets=400, num_data=4, num_trajectories=2, sampler_steps=24
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("collapse", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_weights_entropies_and_returns_are_those_of_finite_size(whole):
    """18 points, within 4.5 standard errors; weights cross where the exact curves do."""
    for d in TINY.dimensions:
        for name in ("weight", "entropy", "returned"):
            assert whole.findings["deviation", name, d].value < 4.5
    found, exact = (whole.findings["crossing", kind, "6-10"] for kind in ("measured", "exact"))
    assert abs(found.value - exact.value) < 5 * found.stderr
    assert [row[:2] for row in whole.report.parts[0].rows] == [(6, 20), (10, 148)]
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "returns are within" in whole.report.closing and "at all 12 points" in whole.report.closing


def test_weights_that_begin_at_one_cross_where_they_part_for_good():
    """At small times both are 1 but for 1e-6 of noise; near t_C the larger dimension falls below the smaller."""
    times = np.arange(1, 17) / 10
    rng, falls = np.random.default_rng(0), np.exp(-np.exp(np.outer((8.0, 16.0), times - 0.95)))
    weight = falls[:, :, None] + 1e-6 * rng.normal(size=(2, 16, 64))
    coordinates = {"dimension": [20, 28], "t": times}
    parts = {"weight": (("dimension", "t", "set"), weight)}
    found = analysis.crossing(xr.Dataset(parts, coordinates), 20, 28)
    assert abs(found.value - 0.95) < 0.01
    exact = [[isotropic_seed_weight(n, d, t * isotropic_collapse_time(n, d))[0] for t in times[7:11]] for d, n in SETS]
    constants = {"points": [n for _, n in SETS], "collapse_time": [isotropic_collapse_time(n, d) for d, n in SETS]}
    dataset = xr.Dataset(
        {"exact_weight": (("dimension", "t"), exact)} | {k: ("dimension", v) for k, v in constants.items()},
        {"dimension": [20, 28], "t": times[7:11]},
        {"config": '{"std": 1.0}'},
    )
    assert abs(analysis.exact_crossing(dataset, 20, 28) - 0.94919) < 1e-4  # a root of curves summed another way


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    (whole.folder / "stages" / "dimension-6.nc").unlink()
    again = execute("collapse", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": (10, 6)}, r"dimensions = \(10, 6\): give increasing numbers"),
        ({"alpha": 0.0}, r"alpha = 0\.0: must be positive and finite"),
        ({"alpha": float("inf")}, "alpha = inf: must be positive and finite"),
        ({"dimensions": (6, 4000)}, r"a set of e\^2000 points holds more than 1e\+09 numbers"),
        ({"times": (0.9, float("nan"), 1.0)}, "give at least 3 finite numbers, above 0"),
        ({"num_data": 30}, r"n = e\^\(alpha d\) = 20 points in d = 6, num_data = 30, num_trajectories = 2"),
        ({"num_trajectories": 5}, "no more trajectories than data"),
        ({"times": (0.5, 0.8, 1.1)}, "the collapse time itself, 1, must be among them"),
        ({"times": (0.5, 0.6, 0.8)}, "increasing and evenly spaced"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
