"""The experiment `susceptibility`: its curves are the measures', exact where they can be, and a run resumes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import Masking, TrainConfig
from diffusion.measure import TreeGeometry, change_sums, correlation_length, susceptibility
from hierarchical import RandomHierarchyModel, sample_strings
from phasetree.experiments import susceptibility as experiment
from tests.experiments import finish
from theory import pair_correlation
from theory.exact import GrammarDenoiser

TINY = experiment.SusceptibilityConfig(
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


def finished(config, path):
    return finish("susceptibility", experiment, config, path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("susceptibility") / "tiny"
    return path, finished(TINY, path)


def test_curves_are_functions_of_the_kept_sums(tiny):
    _, dataset = tiny
    assert set(dataset.curve.values) == {"exact", "trained", "chain", "mixture"}
    for name in dataset.curve.values:
        part = dataset.sel(curve=name)
        sums = jnp.asarray(part.sums.transpose("row", "time", "distance").values.mean(0))
        np.testing.assert_allclose(part.chi, susceptibility(sums), rtol=1e-12)
        np.testing.assert_allclose(part.xi, correlation_length(sums, TreeGeometry((2, 2))), rtol=1e-12)
    assert (dataset.chi_stderr > 0).all() and dataset.tree_changed.shape == (3, 7)


def test_the_report_compares_and_names_the_controls(tiny):
    report = (tiny[0] / "report.md").read_text()
    assert (
        "Control, Markov chain (of the first grammar): chi is largest at t = " in report
        and "Gaussian random field" in report
    )
    assert "the largest difference of trained from exact" in report and "above Bayes" in report
    assert (tiny[0] / "figure.png").stat().st_size > 0


def test_a_run_that_lost_some_stages_comes_back_the_same(tiny, tmp_path):
    path, dataset = tiny
    before = (path / "data.nc").read_bytes()
    for stage in ("trained-0.nc", "chain-0.nc"):
        (path / "stages" / stage).unlink()
    xr.testing.assert_identical(finished(TINY, path), dataset)
    assert (path / "data.nc").read_bytes() == before


def test_the_epsilon_process_is_exact_beside_mean_field(tmp_path):
    dataset = finished(EPSILON, tmp_path / "epsilon")
    assert set(dataset.curve.values) == {"exact", "mean field"}
    predicted = susceptibility(pair_correlation.mean_field_sums(jnp.asarray(dataset.time.values, float), 2, 8, 3, 2))
    np.testing.assert_allclose(dataset.chi.sel(curve="mean field"), predicted, rtol=1e-6)
    assert "the largest difference of exact from mean field" in (tmp_path / "epsilon" / "report.md").read_text()


def test_errors_of_several_grammars_are_taken_over_grammars(tmp_path):
    config = dataclasses.replace(TINY, num_grammars=3, width=0, controls=False)
    dataset = finished(config, tmp_path / "several")
    assert dataset.sizes["row"] == 3 and list(dataset.curve.values) == ["exact"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_trajectories": 1}, "num_trajectories = 1 is too small: at least 2"),
        ({"first_time": 0.9, "last_time": 0.2}, "first_time = 0.9, last_time = 0.2"),
        ({"num_synonyms": 9}, "num_synonyms"),
        ({"width": -1}, "width = -1"),
        ({"seed": -1}, "seed = -1"),
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
