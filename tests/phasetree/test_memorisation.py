"""The experiment `memorisation`: a whole small run, its landscape against quadrature, resumed, and what it refuses."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from phasetree.experiments import memorisation as experiment
from phasetree.experiments.memorisation.stages import planted_images
from phasetree.runner.run import execute

TINY = experiment.Config(
    num_train=24,
    num_planted=12,  # as many as others of the training set: one program asks both
    copies=3,
    noises=(0.2, 0.4),
    shares=(0.0, 1.0),
    num_pairs=4,
    num_repeats=2,
    modes_steps=20,
    width=16,
    train=TrainConfig(steps=20, batch_size=16, steps_per_chunk=10, steps_per_checkpoint=20),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("memorisation", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_the_landscape_is_that_of_the_paper(whole):
    """Mode 1, midpoint -.372317, centroid -.688768 by quadrature; the exact flux within 5 of its errors."""
    for place, value in (("mode", 1.0), ("midpoint", -0.372317), ("centroid", -0.688768)):
        assert abs(whole.findings["flux", place].value - value) < 2e-6
        found = whole.findings["flux-difference", "exact", place]
        assert abs(found.value) < 5 * found.stderr + 1e-5


def test_a_training_set_s_own_score_is_told_from_the_law_s(whole):
    assert whole.findings["share-auc", "FLIPD", 1.0, 0.1].value == 1
    assert abs(whole.findings["share-auc", "FLIPD", 0.0, 0.1].value - 0.5) < 0.15  # 100 against 100, two repeats


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "Images are told from images not seen: seen once by" in whole.report.closing
    assert whole.findings["best", "planted"].note.endswith("the largest of 10")


def test_images_seen_and_not_seen_differ(whole):
    data = planted_images(TINY, jax.random.key(0))
    assert data.members.shape == data.planted.shape == (12, 64) and data.others.shape == (24, 64)
    assert len(data.training) == 12 + 3 * 12
    rows = np.concatenate([data.members, data.planted, data.others])
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.slow
def test_a_run_that_lost_a_stage_comes_back_the_same(whole):
    (whole.folder / "stages" / "images.nc").unlink()
    again = execute("memorisation", experiment, TINY, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_planted": 24}, "num_planted = 24 of num_train = 24: plant fewer"),
        ({"shares": (0.0, 1.5)}, "give numbers from 0 to 1"),
        ({"noises": (0.1, -1.0)}, "must be positive"),
        ({"copies": 1}, "copies = 1: must be at least 2"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


def test_rows_of_ones_own_stand_in_the_place_of_images(tmp_path, whole):
    rows = np.random.default_rng(0).normal(3.0, 2.0, (60, 5))
    np.savetxt(tmp_path / "mine.csv", np.concatenate([rows, rows[:9]]), delimiter=",")
    config = dataclasses.replace(TINY, file=tmp_path / "mine.csv")
    data = planted_images(config, jax.random.key(0))
    assert data.members.shape == (12, 5) and config.label == "default-mine.csv"
    made = whole.dataset.assign_attrs(
        config=whole.dataset.attrs["config"].replace('"file": null', '"file": "mine.csv"')
    )
    report = experiment.tell(made, whole.findings)
    assert "Rows: mine.csv, 24 seen" in report.title and "Rows are told from rows not seen" in report.closing
    with pytest.raises(ValueError, match=r"mine.csv' has 60 different rows, num_train = 40"):
        planted_images(dataclasses.replace(config, num_train=40), jax.random.key(0))


def test_too_few_images_say_how_many_there_are_and_leave_no_folder(tmp_path):
    many = dataclasses.replace(TINY, num_train=5000, num_planted=4, images=pathlib.Path("digits"))
    with pytest.raises(ValueError, match="lower num_train to"):
        execute("memorisation", experiment, many, tmp_path / "run")
    assert not (tmp_path / "run").exists()
