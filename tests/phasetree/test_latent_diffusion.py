"""The experiment `latent-diffusion`: a whole small run, what its numbers are, its sentence, refusals."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.denoise.loss import posterior_loss, site_weights
from phasetree.experiments import latent_diffusion as experiment
from phasetree.experiments.latent_diffusion.analysis import first_below
from phasetree.experiments.latent_diffusion.learning import level_of
from phasetree.runner.run import execute
from theory.exact import GrammarDenoiser

TINY = experiment.Config(
    num_symbols=4, num_synonyms=2, depth=2, num_grammars=2, samples=(4, 400), num_data=64, num_generated=32, width=8,
    num_points=64, student_steps=20,
    train=TrainConfig(steps=20, batch_size=8, warmup_steps=2, learning_rate=1e-2, steps_per_chunk=10),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("latent-diffusion", experiment, TINY, tmp_path_factory.mktemp("latent") / "tiny")


def test_what_is_learned_is_the_excess_in_units_of_what_the_topmost_rules_tell(whole):
    for kind, level in (("data", 1), ("data", 2), ("teacher", 2)):
        part = whole.dataset.sel(kind=kind, level=level)
        want = (1 - part.best / part.top).mean("grammar")
        np.testing.assert_allclose(whole.findings.curve("learned", kind, level).value, want, rtol=1e-6)
    assert np.isnan(whole.dataset.best.sel(kind="teacher", level=1)).all()
    assert (whole.dataset.top.sel(kind="data") > 0).all()
    assert ((whole.dataset.valid.sel(kind="data") >= 0) & (whole.dataset.valid.sel(kind="data") <= 1)).all()
    assert whole.findings["strings/predicted", 2].value == 4 * 2**2
    assert whole.findings["saved/predicted", 1].value == 2 and whole.findings["saved/predicted", 2].value == 1


def test_exact_losses_are_those_of_the_exact_denoiser_and_of_halves():
    """loss_0 by the denoiser of the level's grammar; at level 1 halves are sites, which know their own evidence."""
    at = level_of(TINY, jax.random.key(0), 0, 1)
    exact = GrammarDenoiser(at.upper, at.process)(at.x_t, at.t)
    got = posterior_loss(exact, at.x0, site_weights(at.process, at.x_t))
    np.testing.assert_allclose(got, at.exact, rtol=1e-5, atol=1e-6)
    symbols = np.asarray(at.upper.transitions[0]).mean(1)  # (site, v): the law of each site by itself
    alone = -np.log(symbols[np.arange(2)[None], np.asarray(at.x0)])
    hidden = np.asarray(at.x_t) == 4
    want = (alone * hidden).sum(1) / np.maximum(hidden.sum(1), 1)
    np.testing.assert_allclose(at.by_part, want, rtol=1e-5, atol=1e-6)


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "Half of what the topmost rules tell is learned from" in whole.report.closing
    assert (whole.folder / "figure.png").stat().st_size > 10_000
    assert whole.findings["inside-all"].value > 0.9


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ((0.1, 0.01), "fewer than 4 (level 1)"),
        ((2.0, 1.0), "more than 400 (level 1)"),
        ((1.0, 0.0), "40.0000 (level 1)"),
    ],
)
def test_the_sentence_gives_the_crossing_or_its_bound(whole, best, words):
    """What the topmost rules tell is put to 1: learned is 1 - best, and ln P is read halfway."""
    row = xr.DataArray(list(best), dims="samples", coords={"samples": list(TINY.samples)})
    made = whole.dataset.assign(top=xr.ones_like(whole.dataset.top), best=0 * whole.dataset.best.fillna(0) + row)
    findings = experiment.analyse(made)
    experiment.draw(made, findings)
    assert words in experiment.tell(made, findings).closing


def test_steps_to_a_loss_are_the_first_that_reach_it():
    steps, excess = np.array([10, 20, 30]), np.array([0.5, 0.2, 0.3])
    assert first_below(steps, excess, 0.2) == 20 and np.isnan(first_below(steps, excess, 0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": (10,)}, "samples = .*: give at least two increasing whole numbers"),
        ({"samples": (10, 5)}, "samples = .*: give at least two increasing whole numbers"),
        ({"num_synonyms": 10}, "10 synonyms"),
        ({"student_steps": 0}, "student_steps = 0: must be at least 1"),
        ({"num_data": 7}, "num_data = 7: must be at least 8"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
