"""The experiment `susceptibility`: its curves are the measures', exact where they can be, and a run resumes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from diffusion import Masking, TrainConfig
from diffusion.measure import TreeGeometry, change_sums, correlation_length, susceptibility
from hierarchical import RandomHierarchyModel, sample_strings
from phasetree.experiments import susceptibility as experiment
from phasetree.runner.run import execute
from theory import pair_correlation
from theory.exact import GrammarDenoiser

TINY = experiment.Config(
    num_symbols=3,
    num_synonyms=2,
    depth=2,
    num_times=3,
    num_data=16,
    num_trajectories=8,
    width=8,
    train=TrainConfig(steps=40, batch_size=8, warmup_steps=5, steps_per_chunk=20, steps_per_checkpoint=20),
)
EPSILON = dataclasses.replace(TINY, process="epsilon", num_symbols=8, num_synonyms=3, controls=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("susceptibility", experiment, TINY, tmp_path_factory.mktemp("susceptibility") / "tiny")


def test_curves_are_functions_of_the_kept_sums(whole):
    assert set(whole.dataset.denoiser.values) == {"exact", "trained", "chain", "mixture"}
    for name in whole.dataset.denoiser.values:
        part = whole.dataset.sums.sel(denoiser=name).isel(grammar=0)
        sums = jnp.asarray(part.transpose("datum", "t", "distance").values.mean(0))
        chi, xi = (whole.findings.curve(what, name) for what in ("chi", "xi"))
        np.testing.assert_allclose(chi.value, susceptibility(sums), rtol=1e-12)
        np.testing.assert_allclose(xi.value, correlation_length(sums, TreeGeometry((2, 2))), rtol=1e-12)
        assert (chi.stderr > 0).all()
    assert whole.dataset.tree_changed.shape == (3, 7)


def test_the_report_compares_names_the_controls_and_prints_findings(whole):
    report = whole.report.markdown()
    assert "Control, Markov chain (of the first grammar): chi is largest at t = " in report
    assert "Gaussian random field" in report and "above Bayes" in report
    assert "the largest difference of trained from exact" in whole.report.closing
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())


@pytest.mark.slow
def test_a_run_that_lost_some_stages_comes_back_the_same(whole):
    before = (whole.folder / "data.nc").read_bytes()
    for stage in ("trained-0.nc", "chain.nc"):
        (whole.folder / "stages" / stage).unlink()
    again = execute("susceptibility", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings and (whole.folder / "data.nc").read_bytes() == before


@pytest.mark.slow
def test_the_epsilon_process_is_exact_beside_mean_field(tmp_path):
    result = execute("susceptibility", experiment, EPSILON, tmp_path / "epsilon")
    times = jnp.asarray(result.dataset.t.values, float)
    predicted = susceptibility(pair_correlation.mean_field_sums(times, 2, 8, 3, 2))
    np.testing.assert_allclose(result.findings.curve("chi/mean-field").value, predicted, rtol=1e-6)
    assert "the largest difference of exact from mean field" in result.report.closing
    assert list(result.dataset.denoiser.values) == ["exact"]


def test_errors_of_several_grammars_are_taken_over_grammars(tmp_path):
    """The error is that of the bootstrap over three means, not over 48 data."""
    config = dataclasses.replace(TINY, num_grammars=3, no_train=True, controls=False)
    result = execute("susceptibility", experiment, config, tmp_path / "several")
    assert result.dataset.sizes["grammar"] == 3 and list(result.dataset.denoiser.values) == ["exact"]
    rows = jnp.asarray(
        result.dataset.sums.sel(denoiser="exact").mean("datum").transpose("grammar", "t", "distance").values
    )
    assert experiment.analysis.sums_of(result.dataset, "exact").shape == rows.shape
    np.testing.assert_allclose(result.findings.curve("chi/exact").value, susceptibility(rows.mean(0)), rtol=1e-12)
    changed = result.dataset.fraction.sel(denoiser="exact").mean("datum").transpose("grammar", "t").values.astype(float)
    error = changed.std(0, ddof=1) / 3**0.5 * stats.t.ppf(stats.norm.cdf(1), 2)  # Student's
    np.testing.assert_allclose(result.findings.curve("changed/exact").stderr, error, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_trajectories": 1}, "num_trajectories = 1 is too small: at least 2"),
        ({"first_time": 0.9, "last_time": 0.2}, "first_time = 0.9, last_time = 0.2"),
        ({"num_synonyms": 9}, "num_synonyms"),
        ({"width": 0}, "width = 0: must be at least 1"),
        ({"seed": -1}, "seed = -1"),
        ({"process": "epsilon", "controls": False, "depths": (2,)}, r"depths = \(2,\) are of random grammars"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


@pytest.mark.slow
def test_masking_at_the_published_size_has_the_tabulated_curve():
    """(32, 8, 2), L = 9: the peak at t = .25 - .35, 3.0 +- .3; the table is of 10 grammars x 96 trajectories."""
    table = {0.05: 1.35, 0.1: 1.63, 0.15: 1.86, 0.2: 2.23, 0.25: 2.77, 0.3: 3.07, 0.35: 2.68, 0.4: 2.23, 0.5: 1.70}
    rows = []
    for number in range(8):
        rhm = RandomHierarchyModel(32, 8, 2, 9, key=jax.random.key(number))
        x0, denoiser = sample_strings(jax.random.key(100 + number), rhm, 16), GrammarDenoiser(rhm, Masking(32))
        sums = [
            change_sums(
                jax.random.key(1000 + number),
                denoiser,
                x0,
                jnp.float32(t),
                TreeGeometry(rhm.branching),
                num_trajectories=128,
            ).sums.mean(0)
            for t in table
        ]
        rows.append(np.stack(sums))
    chi = dict(zip(table, np.asarray(susceptibility(jnp.asarray(np.mean(rows, 0)))), strict=True))
    top = max(chi, key=lambda t: chi[t])
    assert 0.25 <= top <= 0.35 and abs(chi[top] - 3.0) < 0.3, chi
    for t, value in table.items():
        assert abs(chi[t] - value) < 0.1 * value, (t, chi[t], value)


def test_xi_of_trained_minus_exact_is_paired_and_the_site_itself_left_out(whole):
    kept = whole.dataset.sums.isel(grammar=0).transpose("denoiser", "datum", "t", "distance")
    sums = [jnp.asarray(kept.sel(denoiser=name).values) for name in ("trained", "exact")]
    sites, difference = TreeGeometry((2, 2)), whole.findings.curve("xi-difference")
    xi = [correlation_length(part.mean(0), sites) for part in sums]
    np.testing.assert_allclose(difference.value, xi[0] - xi[1], rtol=1e-10)
    chi = susceptibility(sums[1].mean(0))
    np.testing.assert_allclose(whole.findings.curve("others/exact").value, xi[1] * chi / (chi - 1), rtol=1e-10)


@pytest.mark.slow
def test_a_depth_is_what_a_run_of_that_depth_measures(tmp_path):
    config = dataclasses.replace(TINY, no_train=True, controls=False, depths=(1, 2))
    result = execute("susceptibility", experiment, config, tmp_path / "depths")
    chi, same = (result.findings.curve(*name) for name in (("chi/exact",), ("chi-at-depth", 2)))
    np.testing.assert_allclose(same.value, chi.value, rtol=1e-6)
    peak = result.findings["peak-at-depth", 1]
    assert peak.value == np.nanmax(result.findings.curve("chi-at-depth", 1).value)
    assert "| L | chi at its peak | where |" in result.report.markdown()
