"""The experiment `text`: what it counts as a pair across words, a whole small run, and its control."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.measure import susceptibility
from phasetree.experiments import text as experiment
from phasetree.recipes.language import model
from phasetree.runner.run import execute

TINY = experiment.Config(
    window=16,
    width=16,
    layers=1,
    heads=2,
    train=TrainConfig(steps=20, batch_size=8, learning_rate=1e-2, steps_per_chunk=10, steps_per_checkpoint=20),
    noise_levels=(0.2, 0.6, 1.0),
    num_data=6,
    num_trajectories=4,
    tokens_per_step=8,
    control_steps=20,  # as many as of the text itself: one program trains both
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    words = "der Käfer fliegt über das grüne Feld <und> ruht nicht lange , dann weiter ."
    file = tmp_path_factory.mktemp("text") / "käfer.txt"
    file.write_text(" ".join(np.random.default_rng(0).choice(words.split(), 2500)), encoding="utf-8")
    return dataclasses.replace(TINY, file=file)


def finished(config, path):
    return execute("text", experiment, config, path)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return finished(tiny, tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_has_both_texts_and_reports_both(whole):
    dataset, report = whole.dataset, whole.report.markdown()
    assert dataset.sums.dims == dataset.within.dims == ("text", "t", "datum", "distance")
    assert list(dataset.text.values) == ["real", "shuffled"] and dataset.sizes["t"] == 3
    assert np.isfinite(dataset.sums).all() and dataset.attrs["source"] == "käfer.txt"
    assert "shuffled tokens: chi is largest at masked fraction" in report and "**" in report
    assert "standard errors" in whole.report.closing and whole.report.closing.endswith(".")
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    page = (whole.folder / "passages.html").read_text()
    assert page.count("<h2>") == 3 and "<b>" in page and "&lt;und&gt;" in page


def test_pairs_within_words_are_left_out_of_chi(whole):
    parts = (whole.dataset[name].sel(text="real").mean("datum").values for name in ("sums", "within"))
    sums, within = parts
    across = 1 + (sums[:, 1:] - within[:, 1:]).sum(1) / sums[:, 0]
    np.testing.assert_allclose(whole.findings.curve("chi/real").value, across, rtol=1e-5)
    every = susceptibility(jnp.asarray(sums))
    np.testing.assert_allclose(whole.findings.curve("chi-all/real").value, every, rtol=1e-5)
    assert abs(within[:, 1:]).max() > 0  # some words are longer than a token


def test_shuffling_keeps_every_token(tiny):
    data = model.prepare(tiny)
    shuffled = experiment.stages.shuffled(jax.random.key(0), data)
    for name in ("train", "held_out"):
        old, new = (np.concatenate(getattr(corpus, name)) for corpus in (data.corpus, shuffled.corpus))
        np.testing.assert_array_equal(np.sort(old), np.sort(new))
        assert (old != new).any()
    assert shuffled.windows.train.shape == data.windows.train.shape


def test_a_text_without_enough_windows_is_refused_before_training(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 3000)
    config = dataclasses.replace(TINY, file=tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"a\.txt leaves \d+ held-out windows of \d tokens"):
        finished(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_lost_stages_comes_back_the_same(tiny, whole):
    before = (whole.folder / "data.nc").read_bytes()
    for stage in ("real-0.6.nc", "shuffled-1.nc"):
        (whole.folder / "stages" / stage).unlink()
    again = finished(tiny, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings and (whole.folder / "data.nc").read_bytes() == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise_levels": (0.5, 0.2, 0.9)}, "at least 3 increasing masked fractions"),
        ({"noise_levels": (0.5, 0.9)}, "at least 3 increasing"),
        ({"noise_levels": (0.1, 0.5, 0.50000001)}, "at least 3 increasing"),
        ({"window": 3}, "window = 3: must be at least 4"),
        ({"num_trajectories": 1}, "num_trajectories = 1: must be at least 2"),
        ({"heads": 3}, "width = 16 is not a multiple of heads = 3"),
        ({"file": pathlib.Path("text"), "sequences": pathlib.Path("steps.npz")}, "give one of them"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


@pytest.mark.slow
def test_sequences_take_the_place_of_a_text(tmp_path):
    """Rows of a Markov chain: windows are rows, every tenth is held out, tokens are words."""
    rng, rows = np.random.default_rng(0), [np.zeros(80, int)]
    for _ in range(15):
        rows.append((rows[-1] + rng.integers(0, 2, 80)) % 5)
    np.savez(tmp_path / "steps.npz", tokens=np.stack(rows, 1), num_symbols=6)
    config = dataclasses.replace(TINY, sequences=tmp_path / "steps.npz", control=False)
    result = finished(config, tmp_path / "run")
    assert result.dataset.sizes["datum"] == 6 and result.dataset.sizes["distance"] == 16
    np.testing.assert_array_equal(result.dataset.within.sel(text="real")[..., 1:], 0)
    assert "80 sequences of 16 tokens, file steps.npz; 6 symbols, windows of 16" in result.report.title
    assert set(str(result.dataset.original.values[0]).split()) <= set("012345")
