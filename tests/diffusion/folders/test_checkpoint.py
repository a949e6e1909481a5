"""A killed run goes on where it was, bit for bit, and a folder that cannot be used is refused with the way out."""

import dataclasses
import errno
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion import Checkpoints, CosineSchedule, Finite, FolderError, Fresh
from diffusion.folders import stored
from diffusion.training.descent import GENERATION
from tests import tiny_run
from tests.grammars import enumerated

ROOT = pathlib.Path(__file__).parents[3]


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


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Interrupted):
        tiny_run.run(folder, report=interrupt_at(70))
    assert steps(folder) == [40, 60]
    return folder


@pytest.fixture
def half_done(interrupted, tmp_path):
    """A copy of the folder of a run that stopped after step 70, its checkpoints of steps 40 and 60 in it."""
    return pathlib.Path(shutil.copytree(interrupted, tmp_path / "run"))


def steps(folder):
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves((a.losses, a.denoiser)), jax.tree.leaves((b.losses, b.denoiser)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_interrupted_run_resumes_to_the_same_bits(half_done, uninterrupted):
    steps = []
    resumed = tiny_run.run(half_done, report=lambda step, loss: steps.append(step))
    assert steps == [70, 80, 90, 100]
    assert_same_bits(resumed, uninterrupted)


@pytest.mark.slow
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
    shutil.copytree(half_done / "60" / "arrays", half_done / ".80.part" / "arrays")
    (half_done / "lock").write_text("{")
    assert_same_bits(tiny_run.run(half_done), uninterrupted)
    assert sorted(entry.name for entry in half_done.iterdir()) == ["100", "80", "run.json"]


def test_a_kill_before_the_first_byte_of_the_description_does_no_harm(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.part").write_text("{")
    tiny_run.run(folder)
    assert steps(folder) == [80, 100] and not (folder / "run.part").exists()


OTHERS = {
    "batch_size = 16 there, 8 here": dict(config=dataclasses.replace(tiny_run.CONFIG, batch_size=8)),
    r"key = \[0, 1\] there, \[0, 2\] here": dict(seed=2),
    r"parameters = \d+ there, \d+ here": dict(width=16),
    r"optimiser = None there, [0-9a-f]{16} here": dict(optimiser=optax.sgd(1e-3)),
    r"schedule = [0-9a-f]{16} there, [0-9a-f]{16} here": dict(schedule=CosineSchedule()),
    r"data = [0-9a-f]{16} there, [0-9a-f]{16} here": dict(data=Fresh(enumerated("uniform", 1)[0])),
    r"denoiser = [0-9a-f]{16} there, [0-9a-f]{16} here": dict(weights=1),
    r"initial = [0-9a-f]{16} there, [0-9a-f]{16} here": dict(frozen=lambda name: name.startswith("up")),
    "steps = 100 of a falling rate there, 200 of a falling rate here": dict(
        config=dataclasses.replace(tiny_run.CONFIG, steps=200)
    ),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_the_folder_of_another_run_is_refused_and_left_as_it_was(difference, half_done):
    before = sorted(half_done.rglob("*"))
    with pytest.raises(FolderError, match=rf"another run \(.*{difference}.*\): choose another folder, or delete it"):
        tiny_run.run(half_done, **OTHERS[difference])
    assert sorted(half_done.rglob("*")) == before


def test_the_folder_of_an_older_program_is_refused(half_done, monkeypatch):
    monkeypatch.setattr("diffusion.training.descent.GENERATION", 10**6)
    with pytest.raises(FolderError, match=r"another run \(generation = \d+ there, 1000000 here\)"):
        tiny_run.run(half_done)


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_noticed_and_the_advice_helps(half_done, uninterrupted):
    files = [file for file in (half_done / "60").rglob("*") if file.is_file()]
    assert len(files) > 5
    checkpoints = Checkpoints(half_done, json.loads((half_done / "run.json").read_text()), GENERATION)
    advice = "damaged.*: delete .*60 to continue from the checkpoint before it, or .*run to start again"
    for file in files:
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 2} & set(range(len(content))):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(FolderError, match=advice):
                checkpoints.latest(lambda step: None)
        file.write_bytes(content)
    checkpoints.close()
    files[0].unlink()
    with pytest.raises(FolderError, match=advice):
        tiny_run.run(half_done)
    shutil.rmtree(half_done / "60")
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


def test_the_only_checkpoint_damaged_means_to_start_again(half_done):
    shutil.rmtree(half_done / "40")
    (half_done / "60" / "checksums.json").write_text("")
    with pytest.raises(FolderError, match=r"checksums.json is damaged or missing: delete .*run to start again"):
        tiny_run.run(half_done)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_damaged_description_is_refused(text, half_done):
    (half_done / "run.json").write_text(text)
    with pytest.raises(FolderError, match=r"run.json is damaged: delete .* to start again"):
        tiny_run.run(half_done)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FolderError, match="not empty and holds no run of this program: choose another folder"):
        tiny_run.run(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    """Below a regular file nobody can make a folder, not even root."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"cannot write to .*file/run: Not a directory"):
        tiny_run.run(tmp_path / "file" / "run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FolderError, match=r"cannot write to .*: Permission denied"):
        tiny_run.run(tmp_path / "run")


def test_the_description_is_readable(half_done):
    description = json.loads((half_done / "run.json").read_text())
    assert description["steps"] == "100 of a falling rate" and description["batch_size"] == 16


def test_two_trainings_in_one_folder_at_once_are_refused(tmp_path):
    refused = []

    def second(step, loss):
        with pytest.raises(FolderError) as error:
            tiny_run.run(tmp_path / "run")
        refused.append(str(error.value))

    tiny_run.run(tmp_path / "run", report=second)
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    message = f"{tmp_path / 'run'} is in use by {holder}: wait until it ends, or choose another folder"
    assert refused == 10 * [message]


@pytest.mark.slow
def test_a_training_in_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.tiny_run", str(folder), "100"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "10\n"
        with pytest.raises(FolderError, match=f"in use by process {child.pid} on "):
            tiny_run.run(folder)
        child.kill()
    assert (folder / "lock").exists()
    tiny_run.run(folder)
    assert not (folder / "lock").exists()


def end_on_a_full_disk(folder):
    """Train until the checkpoint of step 80, which meets a limit on the size of a file; the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(step, loss):
        if step == 80:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    try:
        with pytest.raises(OSError, match=f"cannot write {folder}/80: ") as error:
            tiny_run.run(folder, report=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(entry.name for entry in folder.iterdir()) == ["40", "60", "run.json"]
    return error.value


def test_a_full_disk_is_an_error_of_the_system_and_keeps_the_checkpoint_before(half_done, uninterrupted):
    error = end_on_a_full_disk(half_done)
    assert str(error) == f"cannot write {half_done}/80: File too large" and error.errno == errno.EFBIG
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


def test_a_disk_that_fills_while_orbax_writes_is_one_line_and_keeps_the_checkpoint_before(
    half_done, uninterrupted, monkeypatch
):
    """Its threads fail one after the other, and those that do not fail write on after the error."""
    monkeypatch.setattr(stored, "check_room", lambda part, room: None)
    message = str(end_on_a_full_disk(half_done))
    assert "File too large" in message and "\n" not in message
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


def test_a_file_system_without_room_to_take_is_written_to(half_done, uninterrupted, monkeypatch):
    def unknown(file, offset, length):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    assert_same_bits(tiny_run.run(half_done), uninterrupted)


def test_what_changes_no_number_may_differ(half_done, uninterrupted):
    config = dataclasses.replace(tiny_run.CONFIG, steps_per_chunk=5, steps_per_checkpoint=50)
    assert_same_bits(tiny_run.run(half_done, config=config), uninterrupted)


CONSTANT = dataclasses.replace(tiny_run.CONFIG, final_rate=1.0)
MORE = {"constant rate": dict(config=CONSTANT), "own optimiser": dict(config=tiny_run.CONFIG, optimiser=optax.sgd(0.1))}


@pytest.mark.slow  # by default `tests/phasetree/test_networks.py` continues a run
@pytest.mark.parametrize("how", MORE)
def test_a_finished_run_of_a_constant_rate_continues_to_more_steps_bit_for_bit(how, tmp_path):
    short = MORE[how] | {"config": dataclasses.replace(MORE[how]["config"], steps=40)}
    tiny_run.run(tmp_path / "run", **short)
    steps = []
    longer = tiny_run.run(tmp_path / "run", report=lambda step, loss: steps.append(step), **MORE[how])
    assert steps == [50, 60, 70, 80, 90, 100]
    assert_same_bits(longer, tiny_run.run(**MORE[how]))
    with pytest.raises(FolderError, match="holds 100 steps, steps = 40 is less: ask for 100 or more"):
        tiny_run.run(tmp_path / "run", **short)


def test_other_data_are_refused_and_the_same_from_elsewhere_are_not(tmp_path):
    """Only the content of a training set counts."""
    config = dataclasses.replace(tiny_run.CONFIG, steps=10)
    data = np.arange(8).reshape(2, 4) % 3
    first = tiny_run.run(tmp_path / "run", config=config, data=Finite(jnp.asarray(data)))
    np.save(tmp_path / "moved.npy", data)
    moved = Finite(jnp.asarray(np.load(tmp_path / "moved.npy")))
    assert_same_bits(tiny_run.run(tmp_path / "run", config=config, data=moved), first)
    with pytest.raises(FolderError, match=r"another run \(data = [0-9a-f]{16} there, [0-9a-f]{16} here\)"):
        tiny_run.run(tmp_path / "run", config=config, data=Finite(jnp.asarray(data[::-1])))


def test_control_characters_of_a_strangers_file_are_not_printed(half_done):
    record = json.loads((half_done / "run.json").read_text()) | {"\x1b[2Jkey": "\x1b[31m" + "x" * 1000}
    (half_done / "run.json").write_text(json.dumps(record))
    with pytest.raises(FolderError, match="another run") as error:
        tiny_run.run(half_done)
    assert str(error.value).isprintable() and len(str(error.value)) < 400
