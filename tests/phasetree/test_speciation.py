"""The experiment `speciation`: a whole small run beside theory, resumed, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.measure import locate_transition
from phasetree.experiments import speciation as experiment
from phasetree.experiments.speciation import analysis
from phasetree.runner.run import execute
from theory.gaussian.speciation import signal

TINY = experiment.Config(
    dimensions=(8, 16),
    trained=(8,),
    offsets=(-0.5, 0.0, 0.5),
    num_trajectories=2000,
    sampler_steps=32,
    width=16,
    train=TrainConfig(steps=20, batch_size=32, steps_per_chunk=10, steps_per_checkpoint=20),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    config = dataclasses.replace(TINY, dimensions=(8,))
    return execute("speciation", experiment, config, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return execute("speciation", experiment, TINY, tmp_path_factory.mktemp("runs") / "two")


def check_curves(result, dimensions):
    """Within 4.5 binomial standard errors everywhere (9 points each), and the crossing at S = 1 within 5 of its own."""
    dataset, key = result.dataset, jax.random.key(0)
    for d in dimensions:
        for curve in ("U-turn", "clones", "flow"):
            assert result.findings["deviation", "exact", curve, d].value < 4.5
            found, times = result.findings["crossing", "exact", curve, d], dataset.t.sel(dimension=d).values
            predicted = [analysis.PREDICTIONS[curve](float(s)) for s in signal(float(d), TINY.std**2, times)]
            # theory's curve through the same locator: three points are interpolated alike
            want = locate_transition(key, jnp.asarray(times), jnp.asarray([predicted]), analysis.THRESHOLD)
            assert abs(found.value - want.value) < 5 * found.stderr


def test_exact_curves_are_those_of_theory(whole):
    assert analysis.cases(whole.dataset) == [("exact", 8), ("trained", 8)]
    check_curves(whole, (8,))


@pytest.mark.slow
def test_each_dimension_has_its_curves_and_rows(two):
    assert analysis.cases(two.dataset) == [("exact", 8), ("exact", 16), ("trained", 8)]
    check_curves(two, (8, 16))
    check_report(two, (("exact", 8), ("exact", 16), ("trained", 8)))


def check_report(result, cases):
    [table] = result.report.parts
    assert [row[:3] for row in table.rows] == [
        (kind, d, curve) for kind, d in cases for curve in ("U-turn", "clones", "flow")
    ]
    assert all(cell == result.findings[cell.name] for cell in result.report.findings())


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    check_report(whole, (("exact", 8), ("trained", 8)))
    assert "Speciation in d = 8, trained denoiser: predicted at t = 1.0782 (S = 1)" in whole.report.closing


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(two):
    """The lost stage needs the network, which comes back from its checkpoints."""
    (two.folder / "stages" / "trained-8.nc").unlink()
    again = execute("speciation", experiment, TINY, two.folder)
    xr.testing.assert_identical(again.dataset, two.dataset)
    assert again.findings == two.findings


def test_without_training_only_the_exact_denoiser_is_measured():
    config = dataclasses.replace(TINY, no_train=True)
    assert [stage.name for stage in experiment.plan(config)] == ["exact-8", "exact-16"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": ()}, r"dimensions = \(\): give different numbers"),
        ({"trained": (4,)}, r"trained = \(4,\) is not among dimensions = \(8, 16\)"),
        ({"std": 1.0}, r"std = 1\.0: must be positive, and at most a third of \|m\| = sqrt\(d\) = 2\.83"),
        ({"offsets": (0.0, 0.1, 0.3)}, "increasing and evenly spaced"),
        ({"num_trajectories": 1}, "num_trajectories = 1: must be at least 16"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


def test_times_before_the_start_are_refused():
    config = dataclasses.replace(TINY, dimensions=(2,), trained=(), std=0.3, offsets=(-1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"in d = 2 dimensions, speciation at 0\.\d+, that is before t = 0\.1"):
        experiment.plan(config)
