"""The experiment `dimension`: a whole small run, exact counts, resumed, one's own data, and what it refuses."""

import dataclasses
import pathlib

import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from phasetree.experiments import dimension as experiment
from phasetree.runner.run import execute

TINY = experiment.Config(
    sets=("sphere-3",),
    num_data=6,
    num_points=60,
    num_draws=8,
    width=16,
    train=TrainConfig(steps=20, batch_size=32, steps_per_chunk=10, steps_per_checkpoint=20),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("dimension", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_the_exact_denoiser_gives_the_dimension(whole):
    for estimator in ("normal bundle", "ritz"):
        assert whole.findings["dimension", "sphere-3", "3", "exact", estimator].value == 3
        assert whole.findings["error", "sphere-3", "3", "exact", estimator].value == 0
    assert abs(whole.findings["error", "sphere-3", "3", "exact", "flipd"].value) < 0.02
    trace = whole.findings["error", "sphere-3", "3", "exact", "trace"]
    assert abs(trace.value) < 5 * (2 * 3 / (8 * 6)) ** 0.5  # draws and data


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    table = whole.report.parts[0]
    assert [row[:3] for row in table.rows] == [
        ("sphere-3", "3", "exact"),
        ("sphere-3", "3", "trained"),
    ]
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "Dimensions by ritz: sphere-3 (3) exact 3.0000; sphere-3 (3) trained" in whole.report.closing


def test_sets_without_a_closed_form_have_no_exact_stage():
    sets = "squares-2", "line", "union"
    stages = [stage.name for stage in experiment.plan(dataclasses.replace(TINY, sets=sets, no_train=True))]
    assert stages == ["data-squares-2", "data-line", "exact-line", "data-union", "exact-union"]


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    (whole.folder / "stages" / "exact-sphere-3.nc").unlink()
    again = execute("dimension", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset.drop_vars("seconds"), whole.dataset.drop_vars("seconds"))
    assert again.findings == whole.findings


ROWS = np.random.default_rng(0).normal(size=(200, 2)) @ np.ones((2, 4))


def test_data_of_ones_own_need_no_truth_and_no_network(tmp_path):
    np.savetxt(tmp_path / "own.csv", ROWS, delimiter=",")
    alone = dataclasses.replace(TINY, file=tmp_path / "own.csv", no_train=True)
    result = execute("dimension", experiment, alone, tmp_path / "run")
    assert "From data alone: own" in result.report.closing
    found = result.findings["alone", "own", "from data"]
    assert abs(found.value - 1) < 0.3
    few = dataclasses.replace(TINY, file=tmp_path / "few.csv", no_train=True)
    np.savetxt(tmp_path / "few.csv", ROWS[:20], delimiter=",")
    with pytest.raises(ValueError, match="holds 20 data: give at least 50"):
        execute("dimension", experiment, few, tmp_path / "few")


@pytest.mark.slow
def test_a_network_is_trained_on_a_single_column(tmp_path):
    np.savetxt(tmp_path / "single.csv", ROWS[:, :1], delimiter=",")
    single = dataclasses.replace(TINY, file=tmp_path / "single.csv")
    result = execute("dimension", experiment, single, tmp_path / "single")
    assert abs(result.findings["alone", "own", "from data"].value - 1) < 0.3
    assert not result.findings["dimension", "own", "unknown", "trained", "normal bundle"].resolved
    assert 0.5 < result.findings["dimension", "own", "unknown", "trained", "ritz"].value <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ("cube-3",)}, "sets = cube-3: give sphere-K"),
        ({"sets": ("sphere-100",)}, "K below 100"),
        ({"sets": ()}, "give at least one"),
        ({"sets": ("line", "line")}, "each once"),
        ({"num_data": 1}, "num_data = 1: must be at least 4"),
        ({"file": pathlib.Path("a.csv"), "images": pathlib.Path("digits")}, "give one of them"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
