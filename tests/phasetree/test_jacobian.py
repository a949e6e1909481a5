"""The experiment `jacobian`: its values are those of exact covariances, its sentence follows its findings, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import special

from diffusion import TrainConfig
from phasetree.experiments import jacobian as experiment
from phasetree.experiments.jacobian import stages
from phasetree.runner.run import execute
from theory import posterior_covariance

TINY = experiment.Config(
    num_symbols=4, num_synonyms=1, depth=2, num_grammars=4, num_data=4, num_times=3, width=8, no_train=True,
    train=TrainConfig(steps=20, batch_size=8, warmup_steps=5, steps_per_chunk=20, steps_per_checkpoint=20),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("jacobian", experiment, TINY, tmp_path_factory.mktemp("jacobian") / "tiny")


def test_values_are_those_of_the_exact_posterior_covariance(whole):
    """The same strings and noise, by belief propagation and dense algebra: to single precision."""
    t, key = jnp.asarray(whole.dataset.t.values, jnp.float32)[1], jax.random.key(TINY.seed)
    rhm, data = stages._grammar(TINY, key, 2)
    x_t = stages._noised(TINY, jax.random.clone(key), 2, 1, data, t)
    matrix = posterior_covariance(rhm, TINY.noise.log_likelihood(x_t, t)).reshape(4, 16, 16)
    top = np.linalg.eigvalsh(np.asarray(matrix, float))[:, -1] * float(whole.dataset.scale[1])
    kept = whole.dataset.value.sel(denoiser="exact", grammar=2).transpose("t", "datum").values[1]
    np.testing.assert_allclose(kept, top, rtol=1e-4)


def test_curves_are_means_of_the_kept_values(whole):
    mean = whole.dataset.value.sel(denoiser="exact").mean(("grammar", "datum"))
    np.testing.assert_allclose(whole.findings.curve("top", "exact").value, mean, rtol=1e-5)
    found = whole.findings.curve("covariance", "exact").value
    np.testing.assert_allclose(found, mean / whole.dataset.scale, rtol=1e-5)
    assert (whole.dataset.asymmetry < 1e-4).all()
    assert whole.findings["residual"].value < 1e-4  # 16 numbers of a datum: all products are taken
    share = whole.dataset["share"].sel(denoiser="exact")
    np.testing.assert_allclose(share.isel(level=0), 1, rtol=1e-6)
    assert (share.diff("level") < 1e-6).all()


def test_the_report_prints_findings_and_says_what_it_cannot_resolve(whole):
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    never = whole.dataset.assign(belief=xr.ones_like(whole.dataset.belief))
    findings = experiment.analyse(never)
    experiment.draw(never, findings)
    assert "do not resolve where the class is lost" in experiment.tell(never, findings).closing


@pytest.mark.parametrize(
    ("peak", "words"),
    [
        (0.2, "at lower noise than the transition"),
        pytest.param(0.6, "at the transition within errors", marks=pytest.mark.slow),
        pytest.param(0.8, "at higher noise than the transition", marks=pytest.mark.slow),
        (0.9, "which is no significant peak"),
    ],
)
def test_the_sentence_compares_peak_and_transition(whole, peak, words):
    """A class that is lost at .6 on a grid of .1, eigenvalues that are largest at the peak; .9 is the end."""
    times = np.linspace(0.1, 0.9, 9)
    longer = whole.dataset.isel(t=np.zeros(9, int)).assign_coords(t=times)
    belief, value = (xr.DataArray(x, dims="t") for x in (special.expit((0.6 - times) / 0.1), -abs(times - peak)))
    scatter = 1 + 0.001 * longer.grammar
    made = longer.assign(belief=0 * longer.belief + belief, value=0 * longer.value + value + scatter)
    findings = experiment.analyse(made)
    assert abs(findings["transition/class"].value - 0.6) < 1e-4 and findings["peak-time/exact"].value == peak
    np.testing.assert_allclose(findings["peak-minus-transition"].value, peak - 0.6, atol=1e-4)
    assert words in experiment.tell(made, findings).closing


@pytest.mark.slow
def test_a_network_is_asked_about_the_strings_of_the_first_grammar(tmp_path):
    found = execute("jacobian", experiment, dataclasses.replace(TINY, no_train=False), tmp_path / "trained")
    kept = found.dataset.value.transpose("denoiser", "grammar", "datum", "t")
    first = kept[:, 0].mean("datum")
    np.testing.assert_allclose(found.findings.curve("ratio").value, first[1] / first[0], rtol=1e-5)
    assert np.isnan(kept[1, 1:]).all() and (found.findings.curve("asymmetry", "trained").value > 1e-3).all()
    assert "Trained network: largest" in found.report.markdown()


def test_without_training_there_is_no_network():
    names = [stage.name for stage in experiment.plan(TINY)]
    assert names == ["annealed", "exact-0", "exact-1", "exact-2", "exact-3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_grammars": 3}, "num_grammars = 3: must be at least 4"),
        ({"num_times": 2}, "num_times = 2: must be at least 3"),
        ({"num_synonyms": 10}, "10 synonyms"),
        ({"search_steps": 0}, "search_steps = 0: must be at least 1"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
