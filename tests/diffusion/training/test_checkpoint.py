"""A killed run goes on where it was, bit for bit, and a folder that cannot be used is refused with the way out."""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from diffusion import FolderError
from tests import tiny_run

ROOT = pathlib.Path(__file__).parents[2]


class Interrupted(Exception):
    pass


def interrupt_at(last):
    def report(step, loss):
        if step == last:
            raise Interrupted

    return report


@pytest.fixture(scope="module")
def uninterrupted():
    return tiny_run.run()


@pytest.fixture
def half_done(tmp_path):
    """A run that stopped after step 70, its checkpoints of steps 40 and 60 in the folder."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        tiny_run.run(folder, report=interrupt_at(70))
    assert steps(folder) == [40, 60]
    return folder


def steps(folder):
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves((a.losses, a.denoiser)), jax.tree.leaves((b.losses, b.denoiser)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_interrupted_run_resumes_to_the_same_bits(half_done, uninterrupted):
    told = []
    resumed = tiny_run.run(half_done, report=lambda step, loss: told.append(step))
    assert told == [70, 80, 90, 100]
    assert_same_bits(resumed, uninterrupted)


def test_a_run_killed_at_a_random_moment_resumes_to_the_same_bits(tmp_path, uninterrupted):
    """SIGKILL, at a moment not fixed by a seed: while a step runs, while a file is written, or in between."""
    folder = tmp_path / "run"
    delay = random.SystemRandom().uniform(0, 1)
    command = [sys.executable, "-m", "tests.tiny_run", str(folder), "0.05"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "10\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL, f"ended by itself within {delay} s"
    assert_same_bits(tiny_run.run(folder), uninterrupted)


def test_a_finished_run_is_read_back_without_a_step(tmp_path, uninterrupted):
    tiny_run.run(tmp_path / "run")
    assert_same_bits(tiny_run.run(tmp_path / "run", report=interrupt_at(100)), uninterrupted)


def test_what_a_kill_leaves_of_an_unfinished_save_does_no_harm(half_done, uninterrupted):
    unfinished = half_done / "80.orbax-checkpoint-tmp-1"
    shutil.copytree(half_done / "60", unfinished)
    next(file for file in unfinished.rglob("*") if file.is_file()).unlink()
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


def test_a_kill_before_the_first_byte_of_the_description_does_no_harm(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.part").write_text("{")
    tiny_run.run(folder, config=dataclasses.replace(tiny_run.CONFIG, steps=10))
    assert steps(folder) == [10] and not (folder / "run.part").exists()


OTHERS = {
    "batch_size = 16 there, 8 here": dict(config=dataclasses.replace(tiny_run.CONFIG, batch_size=8)),
    r"key = \[0, 1\] there, \[0, 2\] here": dict(seed=2),
    r"parameters = \d+ there, \d+ here": dict(width=16),
    "grammar = None there, other here": dict(fingerprint={"grammar": "other"}),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_the_folder_of_another_run_is_refused_and_left_as_it_was(difference, half_done):
    before = sorted(half_done.rglob("*"))
    with pytest.raises(FolderError, match=rf"another run \({difference}\): choose another folder, or delete it"):
        tiny_run.run(half_done, **OTHERS[difference])
    assert sorted(half_done.rglob("*")) == before


def test_the_folder_of_an_older_program_is_refused(half_done, monkeypatch):
    monkeypatch.setattr("diffusion.training.run_folder.GENERATION", 10**6)
    with pytest.raises(FolderError, match=r"another run \(generation = \d+ there, 1000000 here\)"):
        tiny_run.run(half_done)


def test_a_damaged_checkpoint_is_told_and_the_advice_helps(half_done, uninterrupted):
    for file in (half_done / "60").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(FolderError, match=r"60 cannot be read .* damaged. Delete that folder to continue from the"):
        tiny_run.run(half_done)
    shutil.rmtree(half_done / "60")
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_description_is_told(text, half_done):
    (half_done / "run.json").write_text(text)
    with pytest.raises(FolderError, match=r"run.json is damaged: delete .* to start again"):
        tiny_run.run(half_done)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FolderError, match="not empty and holds no run of this program: choose another folder"):
        tiny_run.run(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    """Below a regular file nobody can make a folder, not even root."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"cannot write to .*file/run: Not a directory"):
        tiny_run.run(tmp_path / "file" / "run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FolderError, match=r"cannot write to .*: Permission denied"):
        tiny_run.run(tmp_path / "run")


def test_the_description_is_readable(half_done):
    description = json.loads((half_done / "run.json").read_text())
    assert description["steps"] == 100 and description["batch_size"] == 16
