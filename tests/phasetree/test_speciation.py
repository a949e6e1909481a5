"""The experiment `speciation`: a whole small run beside theory, resumed, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.measure import locate_transition
from phasetree.experiments import speciation as experiment
from phasetree.experiments.speciation import figure
from tests.experiments import finish
from theory.gaussian.speciation import signal

TINY = experiment.SpeciationConfig(
    dimensions=(8, 16),
    trained=(8,),
    offsets=(-0.5, 0.0, 0.5),
    trajectories=2000,
    sampler_steps=32,
    width=16,
    train=TrainConfig(steps=20, batch_size=32, steps_per_chunk=10, steps_per_checkpoint=10),
)


def finished(path):
    return finish("speciation", experiment, TINY, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, finished(path)


def test_exact_curves_are_those_of_theory(whole):
    """Within 4.5 binomial standard errors everywhere (18 points), and the crossing at S = 1 within 5 of its own."""
    (path, dataset), key = whole, jax.random.key(0)
    assert figure.cases(dataset) == [("exact", 8), ("exact", 16), ("trained", 8)]
    for d in (8, 16):
        for curve in ("U-turn", "clones", "flow"):
            assert np.abs(figure.deviations(dataset, "exact", curve, d)).max() < 4.5
            found, times = figure.crossing(dataset, "exact", curve, d), dataset.time.sel(dimension=d).values
            predicted = [figure.PREDICTIONS[curve](float(s)) for s in signal(float(d), TINY.std**2, times)]
            # theory's curve through the same locator: three points are interpolated alike
            want = locate_transition(key, jnp.asarray(times), jnp.asarray([predicted]), figure.THRESHOLD)
            assert abs(found.value - want.value) < 5 * found.stderr
    report = (path / "report.md").read_text()
    assert "Speciation in d = 8, trained denoiser: predicted at t = 1.0782 (S = 1)" in report
    assert report.count("| exact |") == 6 and report.count("| trained |") == 3


def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    path, dataset = whole
    (path / "stages" / "trained-8.nc").unlink()
    xr.testing.assert_identical(finished(path), dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": ()}, r"dimensions = \(\): give different numbers"),
        ({"trained": (4,)}, r"trained = \(4,\) is not among dimensions = \(8, 16\)"),
        ({"std": 1.0}, r"std = 1\.0: must be positive, and at most a third of \|m\| = sqrt\(d\) = 2\.83"),
        ({"offsets": (0.0, 0.1, 0.3)}, "increasing and evenly spaced"),
        ({"trajectories": 1}, "trajectories = 1: must be at least 16"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


def test_times_before_the_start_are_told():
    config = dataclasses.replace(TINY, dimensions=(2,), trained=(), std=0.3, offsets=(-1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"in d = 2 dimensions, speciation at 0\.\d+, that is before t = 0\.1"):
        experiment.stages.noise_times(config, 2)
