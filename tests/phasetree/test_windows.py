"""The experiment `windows`: a whole small run beside theory, resumed, and what it refuses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.measure import Estimate
from phasetree.drawing.style import with_error
from phasetree.experiments import windows as experiment
from phasetree.experiments.windows import figure
from tests.experiments import finish
from theory.gaussian.speciation import clone_probability, signal

TINY = experiment.WindowsConfig(
    level_offsets=(8.0, 2.0),
    dimension=4,
    offsets=(-0.2, 0.0, 0.2),
    trajectories=4000,
    sampler_steps=48,
    width=16,
    train=TrainConfig(steps=20, batch_size=32, steps_per_chunk=10, steps_per_checkpoint=10),
)


def finished(path):
    return finish("windows", experiment, TINY, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, finished(path)


def test_exact_levels_are_kept_as_theory_says(whole):
    """Given its parent, each level with probability phi(S_l): 4.5 binomial standard errors at 6 points; crossings at
    t_l within 5 of their own errors, interpolation between three points included (.003 at most, by theory's curve)."""
    path, dataset = whole
    for level, offset in zip((1, 2), TINY.level_offsets, strict=True):
        times = dataset.time.sel(window=level).values
        want = np.array([clone_probability(float(s)) for s in signal(offset**2, 1.0, times)])
        rows = figure.conditional(dataset, "exact", level, level)
        errors = np.array([(p * (1 - p) / len(row)) ** 0.5 for p, row in zip(want, rows, strict=True)])
        assert (np.abs([row.mean() for row in rows] - want) < 4.5 * errors).all()
        found = figure.crossing(dataset, "exact", level)
        assert abs(found.value - figure.predicted(dataset, level)) < 5 * found.stderr + 0.003
    report = (path / "report.md").read_text()
    assert "Levels are decided at t = 2.079, 0.693, predicted; exact denoiser" in report
    assert report.count("| exact |") == report.count("| trained |") == 2


def test_a_tree_of_one_level_has_its_page_and_an_error_that_is_not_known_is_a_question_mark(whole):
    _, dataset = whole
    one = dataset.sel(level=[1], window=[1]).assign_attrs(level_offsets=8.0)  # as a file of one level is read
    assert "predicted; exact denoiser" in figure.report(one)
    figure.plot(one)
    assert with_error(Estimate(jnp.asarray(1.25), jnp.asarray(jnp.nan))) == "1.2500 +- ?"


def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    path, dataset = whole
    (path / "stages" / "exact-level-2.nc").unlink()
    xr.testing.assert_identical(finished(path), dataset)


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
        ({"trajectories": 1}, "trajectories = 1: must be at least 16"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
