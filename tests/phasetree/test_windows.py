"""The experiment `windows`: a whole small run beside theory, resumed, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from phasetree.experiments import windows as experiment
from phasetree.experiments.windows import analysis
from phasetree.runner.run import execute
from theory.gaussian.speciation import clone_probability, signal

TINY = experiment.Config(
    level_offsets=(8.0, 2.0),
    dimension=4,
    offsets=(-0.2, 0.0, 0.2),
    num_trajectories=4000,
    sampler_steps=48,
    width=16,
    train=TrainConfig(steps=20, batch_size=32, steps_per_chunk=10, steps_per_checkpoint=20),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("windows", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_exact_levels_are_kept_as_theory_says(whole):
    """Given its parent, each level with probability phi(S_l): 4.5 binomial standard errors at 6 points; crossings at
    t_l within 5 of their own errors, interpolation between three points included (.003 at most, by theory's curve)."""
    for level, offset in zip((1, 2), TINY.level_offsets, strict=True):
        times = whole.dataset.t.sel(window=level).values
        want = np.array([clone_probability(float(s)) for s in signal(offset**2, 1.0, times)])
        rows = analysis.conditional(whole.dataset, "exact", level, level)
        errors = np.array([(p * (1 - p) / len(row)) ** 0.5 for p, row in zip(want, rows, strict=True)])
        assert (np.abs(whole.findings.curve("kept", "exact", level).value - want) < 4.5 * errors).all()
        assert (
            abs(whole.findings["delay", "exact", level].value)
            < 5 * whole.findings["decided", "exact", level].stderr + 0.003
        )


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    [table] = whole.report.parts
    assert [row[:2] for row in table.rows] == [("exact", 1), ("exact", 2), ("trained", 1), ("trained", 2)]
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "Levels are decided at t = 2.079, 0.693, predicted; exact denoiser" in whole.report.closing


def test_a_tree_of_one_level_has_its_page(whole):
    one = whole.dataset.sel(level=[1], window=[1])
    findings = experiment.analyse(one)
    assert "predicted; exact denoiser" in experiment.tell(one, findings).closing
    experiment.draw(one, findings)


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    (whole.folder / "stages" / "exact-level-2.nc").unlink()
    again = execute("windows", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level_offsets": ()}, r"level_offsets = \(\): must be positive and finite"),
        ({"level_offsets": (16.0, float("nan"))}, "level_offsets = .*: must be positive and finite"),
        ({"level_offsets": (5.0, 4.0)}, "each must be at most half of the one before"),
        ({"std": 1e300}, "std = 1e.300: must be positive and finite"),
        ({"offsets": (-0.3, -0.2, -0.1)}, "the predicted time, must lie inside"),
        ({"offsets": (-0.1, float("nan"), 0.1)}, "give at least 3 finite numbers"),
        ({"offsets": (0.0, 0.1, 0.3)}, "increasing and evenly spaced"),
        ({"offsets": (-0.8, 0.0, 0.8)}, r"the level at 2\.0 would be measured at a time below 0"),
        ({"num_trajectories": 1}, "num_trajectories = 1: must be at least 16"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
