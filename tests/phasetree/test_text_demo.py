"""Text: a bound that is exact where it must be, changed words marked, and runs that survive a kill."""

import dataclasses
import shutil

import numpy as np
import pytest
import xarray as xr

from diffusion import FolderError, TrainConfig
from phasetree.experiments import text_demo
from phasetree.recipes.language import (
    fraction_of_words_changed,
    mark_changes,
    marked_words,
    model,
)
from phasetree.runner.run import execute


def test_changed_words_are_marked():
    old = "In the beginning God created the heaven, and the earth."
    new = "In the end God had created the heaven; and the_sea *earth."
    assert mark_changes(old, new) == r"In the **end** God **had** created the **heaven;** and **the\_sea \*earth.**"
    assert mark_changes(old, old) == old
    assert marked_words("f(**kw) a", r"f(**kw) \b c") == [("f(**kw)", False), (r"\b c", True)]
    # of 10 words, "beginning" and "the" are gone; the semicolon is no word
    assert fraction_of_words_changed(old, new) == pytest.approx(2 / 10)
    assert fraction_of_words_changed(old, "") == 1
    assert fraction_of_words_changed("...", "!") == 0


TINY = text_demo.Config(
    vocabulary=1024,  # more than such a short text is given
    window=16,
    width=16,
    layers=1,
    heads=2,
    train=TrainConfig(steps=40, batch_size=8, learning_rate=1e-2, steps_per_chunk=10, steps_per_checkpoint=10),
    noise_levels=(0.3, 0.8),
    strata=2,
    num_data=6,
    num_trajectories=2,
    tokens_per_step=4,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small file of verses with some characters of several bytes, and a config for it."""
    rng = np.random.default_rng(0)
    words = np.array(
        [
            "der",
            "Käfer",
            "fliegt",
            "über",
            "das",
            "grüne",
            "Feld",
            "und",
            "ruht",
            "—",
            "nicht",
            "lange",
            ",",
            "dann",
            "weiter",
            ".",
        ]
    )
    file = tmp_path_factory.mktemp("text") / "käfer.txt"
    file.write_text(" ".join(rng.choice(words, 2500)), encoding="utf-8")
    return dataclasses.replace(TINY, file=file)


def finished(config, path):
    return execute("text-demo", text_demo, config, path)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run."""
    return finished(tiny, tmp_path_factory.mktemp("runs") / "whole")


def test_results_and_report(whole):
    dataset, report = whole.dataset, whole.report.markdown()
    assert float(dataset.bound) > 0 and float(dataset.bound_stderr) > 0
    assert dataset.words_changed.dims == ("t", "datum", "trajectory")
    assert f"{dataset.vocabulary} byte-pair tokens instead of 1024" in report
    assert "trigram" in report and "t = 0.8: " in report and "**" in report
    assert whole.report.closing.endswith("of the words.")
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())


@pytest.mark.slow
def test_killed_run_finishes_with_the_same_file(tiny, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model, "train", stopped_after(model.train, 20))
        with pytest.raises(KeyboardInterrupt):
            finished(tiny, tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(text_demo.stages, "regenerate", stopped_at_second_call(text_demo.stages.regenerate))
        with pytest.raises(KeyboardInterrupt):
            finished(tiny, tmp_path / "killed")
    monkeypatch.setattr(
        text_demo.stages, "regenerate", stopped_at_second_call(text_demo.stages.regenerate)
    )  # one level is left
    monkeypatch.setattr(text_demo.stages, "masked_costs", None)  # that stage is done
    again = finished(tiny, tmp_path / "killed")
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings
    assert (again.folder / "data.nc").read_bytes() == (whole.folder / "data.nc").read_bytes()


def stopped_after(train, last: int):
    def stopped(*arguments, report, **options):
        def stop(step, loss):
            report(step, loss)
            if step > last:
                raise KeyboardInterrupt

        return train(*arguments, report=stop, **options)

    return stopped


def stopped_at_second_call(function):
    calls = []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return function(*arguments)

    return stopped


def test_held_out_characters_are_those_of_the_windows(tiny):
    data = text_demo.stages.prepare(tiny)
    lengths = data.corpus.tokenizer.token_characters[data.windows.held_out].sum(1)
    assert [len(text) for text in data.window_texts] == lengths.tolist()
    for block in np.unique(data.windows.held_out_block):
        texts = [data.window_texts[i] for i in np.flatnonzero(data.windows.held_out_block == block)]
        assert data.split.held_out[block].startswith("".join(texts))


def test_shortest_text_has_windows(tiny, tmp_path):
    file = tmp_path / "short.txt"
    file.write_text(tiny.file.read_text(encoding="utf-8")[:2000], encoding="utf-8")
    data = text_demo.stages.prepare(dataclasses.replace(tiny, file=file, window=64))
    assert 1 < data.windows.train.shape[1] < 64
    assert data.block.max() >= 1  # errors need two blocks


def test_bad_input_is_named(tiny, tmp_path):
    (tmp_path / "latin1.txt").write_bytes("Käfer ".encode("latin-1") * 1000)
    for name, error, message in [
        ("latin1.txt", ValueError, "is not UTF-8"),
        ("nowhere.txt", FileNotFoundError, "no file .*nowhere.txt"),
    ]:
        config = dataclasses.replace(tiny, file=tmp_path / name)
        with pytest.raises(error, match=message):
            finished(config, tmp_path / f"out-{name}")
        assert not (tmp_path / f"out-{name}").exists()
    with pytest.raises(ValueError, match=r"noise_levels = \(0\.0,\): give masked fractions in \(0, 1\]"):
        dataclasses.replace(tiny, noise_levels=(0.0,))
    with pytest.raises(ValueError, match="num_data = 1: an error bar needs at least 2"):
        dataclasses.replace(tiny, num_data=1)
    with pytest.raises(ValueError, match="strata = 0: must be at least 1"):
        dataclasses.replace(tiny, strata=0)


def test_changed_file_is_refused(tiny, whole):
    characters = tiny.file.read_text(encoding="utf-8")
    tiny.file.write_text("x" + characters[1:], encoding="utf-8")
    with pytest.raises(FolderError, match=r'another run \(file = "sha256 .* there, "sha256 .* here\)'):
        finished(tiny, whole.folder)
    tiny.file.write_text(characters, encoding="utf-8")


def test_a_moved_file_and_a_moved_folder_are_the_same_run(tiny, whole, tmp_path, monkeypatch):
    """Nothing is computed again: no stage can be."""
    (tmp_path / "moved").mkdir()
    file = tmp_path / "moved" / "other name.txt"
    file.write_bytes(tiny.file.read_bytes())
    folder = shutil.copytree(whole.folder, tmp_path / "folder")
    monkeypatch.setattr(text_demo.stages, "prepare", None)
    again = finished(dataclasses.replace(tiny, file=file), folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
