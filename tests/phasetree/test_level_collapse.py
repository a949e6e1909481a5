"""The experiment `level-collapse`: a whole small run beside the closed form, resumed, one program, and refusals."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray as xr
from jax import monitoring

import phasetree
from diffusion.measure import relevance
from phasetree.experiments import level_collapse as experiment
from phasetree.recipes.autoencoders import matched
from phasetree.runner.run import execute

TINY = experiment.Config(
    branching=2, variances=(0.5, 0.5, 0.5), num_data=200, num_taus=1, steps=800, matched=True, dense=True, width=16,
    dense_steps=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("level-collapse", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_networks_of_all_tau_are_one_program(whole, tmp_path):
    """tau is a number that the program is given: another one compiles nothing."""
    programs = []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    monitoring.register_event_duration_secs_listener(listen)
    other = dataclasses.replace(TINY, taus=(0.4, 0.7, 0.9, 2.0))
    execute("level-collapse", experiment, other, tmp_path / "other")
    monitoring.clear_event_listeners()
    assert not programs


def test_latents_collapse_level_by_level(whole):
    """lambda = 1/2, 3/2, 7/2, two, one and one times: 4 -> 2 -> 1 -> 0, between the thresholds and beyond."""
    assert [whole.findings["threshold", level].value for level in (0, 1, 2)] == pytest.approx([3.5, 1.5, 0.5])
    for name in ("linear", "law", "data"):
        assert whole.findings.curve("active", name).value.tolist() == [4, 2, 1, 0]
    assert whole.findings["agreeing", "linear"].value == 4


def test_relevance_and_free_energy_are_those_of_the_closed_form(whole):
    """Data are matched, so law and data agree; the root's relevance is 3.5 / tau - 1."""
    taus = np.array(TINY.grid)
    found = whole.findings.curve("relevance", "linear", 0)
    np.testing.assert_allclose(found.value, np.maximum(3.5 / taus - 1, 0), rtol=2e-3, atol=2e-3)
    assert whole.findings["relative-error/linear"].value < 2e-3
    energies = [whole.findings.curve("free-energy", name).value for name in ("linear", "law", "data")]
    np.testing.assert_allclose(energies[0], energies[1], rtol=1e-5)
    np.testing.assert_allclose(energies[2], energies[1], rtol=1e-5)
    worst = whole.findings.curve("free-energy", "dense")
    assert (worst.value > energies[1] - 5 * worst.stderr).all()  # no autoencoder of Gaussian data is better


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    counts = whole.report.parts[1]
    assert [row[1:5] for row in counts.rows][:2] == [(4, 4, 4, counts.rows[0][4]), (2, 2, 2, counts.rows[1][4])]
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "predicts 4 -> 2 -> 1 -> 0 active latents, falling at tau = 0.5, 1.5, 3.5" in whole.report.closing
    assert "at 4 of 4 tau" in whole.report.closing


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    stage = whole.folder / "stages" / f"linear-{TINY.grid[1]:g}.nc"
    stage.unlink()
    again = execute("level-collapse", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings


def test_a_run_keeps_its_autoencoders(whole):
    """Relevance again, from the saved network and the data of the run."""
    name = f"linear-{TINY.grid[1]:g}"
    network = phasetree.open_network(whole.folder, name)
    x = xr.load_dataset(whole.folder / "stages" / "data.nc").x.values
    found = np.sort(relevance.snr(network, x).value)[::-1]
    np.testing.assert_allclose(found, whole.dataset.relevance.sel(network="linear").values[1], rtol=1e-5)


def test_leaves_that_add_nothing_have_no_threshold(whole):
    """Their eigenvalue is 0; beyond the last latent no level is shown."""
    fewer = whole.dataset.assign({name: whole.dataset[name] * [1, 1, 0, 0] for name in ("law", "data")})
    findings = experiment.analyse(fewer.isel(latent=slice(2)))
    assert findings.curve("active", "law").value.tolist() == [2, 2, 1, 0]
    assert not findings.select("threshold", 2)
    assert [findings["threshold", level].value for level in (0, 1)] == pytest.approx([3.5, 1.5])
    for dataset in (fewer, fewer.isel(latent=slice(2))):
        found = experiment.analyse(dataset)
        experiment.draw(dataset, found)
        assert (
            "predicts 2 -> 1 -> 0 active latents, falling at tau = 1.5, 3.5;" in experiment.tell(dataset, found).closing
        )


def test_matched_data_have_the_covariance():
    x = np.random.default_rng(0).normal(size=(20, 4)) @ np.diag([1, 2, 3, 4])
    covariance = np.asarray(TINY.law.covariance, float)
    np.testing.assert_allclose(np.cov(matched(x, covariance), rowvar=False, bias=True), covariance, atol=1e-12)
    singular = np.diag([1.0, 2.0, 0.0, 0.0])
    np.testing.assert_allclose(np.cov(matched(x, singular), rowvar=False, bias=True), singular, atol=1e-12)
    with pytest.raises(ValueError, match="num_data = 3: too few to match 4 eigenvalues"):
        matched(x[:3], covariance)


def test_the_grid_lies_on_the_plateaus():
    """Three on each of five, evenly in the logarithm, between .25, .5, 1.4, 3.2, 5.9 and 11.8."""
    grid = np.array(experiment.Config().grid)
    ends = [0.25, 0.5, 1.4, 3.2, 5.9, 11.8]
    assert np.histogram(grid, ends)[0].tolist() == [3] * 5
    np.testing.assert_allclose(grid[1::3], [np.sqrt(a * b) for a, b in itertools.pairwise(ends)], rtol=1e-3)
    assert dataclasses.replace(TINY, taus=(0.3, 2.0)).grid == (0.3, 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branching": 1}, "branching = 1: give a whole number, 2 or above"),
        ({"variances": (1.0,)}, r"variances have shape \(1,\): give one for each height"),
        ({"variances": (0.0, 0.0)}, r"variances = \(0\.0, 0\.0\): give at least one above 0"),
        ({"variances": (1.0, -1.0)}, "variances hold -1"),
        ({"taus": (1.0, 0.5)}, r"taus = \(1\.0, 0\.5\): give increasing numbers"),
        ({"taus": (-1.0, 0.5)}, r"taus = \(-1\.0, 0\.5\): must be positive"),
        ({"taus": (1.0, 1.0 + 1e-9)}, "give numbers that differ in six digits"),
        ({"num_latents": 5}, "num_latents = 5: give 1 to 4, the number of leaves"),
        ({"num_data": 2}, "num_data = 2: must be at least 8"),
        ({"num_data": 10**13}, r"num_data = 10000000000000, 4 leaves: data and covariance need .* GB"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
