"""The experiment `memorisation-time`: a whole small run, its measures on denoisers that are known, resumed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import FolderError, ProbabilityFlow
from phasetree.experiments import memorisation_time as experiment
from phasetree.experiments.memorisation_time import analysis, stages
from phasetree.experiments.memorisation_time.config import TRAINING
from phasetree.runner.run import execute
from theory.exact.empirical import EmpiricalDenoiser

TINY = experiment.Config(
    points=(8, 16),
    num_repeats=2,
    dimension=4,
    width=16,
    steps_per_point=10,
    observations=5,
    num_data=32,
    sampler_steps=8,
    train=dataclasses.replace(TRAINING, batch_size=16, steps_per_chunk=5, steps_per_checkpoint=80),
)


def finished(path):
    return execute("memorisation-time", experiment, TINY, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_reports_times_and_exponents(whole):
    dataset = whole.dataset
    assert dataset.train_loss.dims[:2] == ("repeat", "points") and int(dataset.step.max()) == 160
    assert (dataset.empirical_loss < dataset.bayes_loss).all()  # no score fits the set better than its own
    assert [row[0] for row in whole.report.parts[0].rows] == ["8", "16"]
    assert "From n = 8 to 16 the time to memorise grows as n to the power" in whole.report.closing
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())


def test_the_set_s_own_score_has_memorised_and_the_exact_one_has_not():
    """By both measures: the losses between which memory is counted are theirs, and what they generate."""
    case = stages._case(TINY, jax.random.key(TINY.seed), 16, 0)
    own = EmpiricalDenoiser(data=case.data, process=case.exact.process)
    (own_loss, _, _), (exact_loss, exact_test, nothing) = stages._losses(own, case), stages._losses(case.exact, case)
    part = xr.Dataset(
        {"bayes_loss": exact_loss, "empirical_loss": own_loss, "train_loss": ("look", [own_loss, exact_loss])}
    )
    np.testing.assert_allclose(analysis.memorised(part), [1, 0])
    assert nothing == 0 and abs(exact_test - exact_loss) < 0.3
    copies = [float(stages._copies(denoiser, case, ProbabilityFlow(48))) for denoiser in (own, case.exact)]
    assert copies[0] > 0.95 and copies[1] < 0.2


def test_times_are_where_curves_first_rise_through_a_threshold():
    steps = np.array([1.0, 10.0, 100.0, np.nan])
    np.testing.assert_allclose(analysis.first_time(steps, np.array([0.0, 0.4, 0.6, np.nan]), 0.5), 10**1.5)
    assert np.isnan(analysis.first_time(steps, np.array([0.0, 0.1, 0.2, 0.9]), 0.5))  # a look that was none
    assert np.isnan(analysis.first_time(steps[:3], np.array([0.7, 0.8, 0.9]), 0.5))  # there from the start


def test_exponents_of_power_laws_are_recovered():
    """Curves that rise through 1/2 at 3 n^1.2 and, for generalisation, at 7."""
    points, looks = np.array([10, 20, 40]), np.geomspace(1, 1e4, 400)

    def rising(at):
        return np.clip(0.5 + 0.2 * np.log(looks[None] / np.reshape(at, (-1, 1))), 0, 1)

    dims, one = ("repeat", "points", "look"), np.ones((1, 3))
    dataset = xr.Dataset(
        {
            "step": (dims, np.broadcast_to(looks, (1, 3, 400))),
            "train_loss": (dims, 1 - rising(3 * points**1.2)[None]),
            "excess": (dims, 1 - rising(7 + 0 * points)[None]),
            "copies": (dims, np.zeros((1, 3, 400))),
            "initial_excess": (dims[:2], one),
            "bayes_loss": (dims[:2], one),
            "empirical_loss": (dims[:2], 0 * one),
        },
        {"points": points},
    )
    for what, want in (("memorisation", 1.2), ("generalisation", 0.0)):
        np.testing.assert_allclose(analysis.exponent(dataset, what, 0.5).value, want, atol=1e-6)
    assert jnp.isnan(analysis.exponent(dataset, "copies", 0.5).value)


@pytest.mark.slow
def test_a_stage_that_was_lost_is_made_again_from_what_was_measured(whole):
    (whole.folder / "stages" / "points-8-1.nc").unlink()
    again = finished(whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings


def test_a_look_that_was_lost_needs_its_training_once_more(whole):
    stages_folder = whole.folder / "stages"
    (stages_folder / "points-8-1.nc").unlink()
    (stages_folder / "points-8-1" / "step-80.nc").unlink()
    with pytest.raises(FolderError, match=r"of 8 points, repeat 1, is lost in part: delete .*checkpoints/points-8-1"):
        finished(whole.folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": (16, 8)}, r"points = \(16, 8\): give at least 2 increasing sizes"),
        ({"std": 0.0}, r"std = 0\.0: must be positive"),
        (
            {"points": (3, 16), "steps_per_point": 1},
            "3 points x steps_per_point = 1 are fewer steps than 4 chunks of 5",
        ),
        ({"train": dataclasses.replace(TRAINING, steps=7)}, r"train\.steps = 7: .* set steps_per_point"),
        ({"observations": 2}, "observations = 2: must be at least 4"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
