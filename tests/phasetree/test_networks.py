"""Networks that runs have trained: read from their folders, sampled from on the command line, trained further."""

import contextlib
import errno
import os
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

import phasetree
from diffusion import FolderError, LinearVAE, from_vae, generate, save
from phasetree.cli import main
from phasetree.runner.folder import RunFolder
from tests.phasetree import own_training as own

TRAININGS = ["train-0", "train-1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return phasetree.run(own, out=tmp_path_factory.mktemp("own") / "run").folder


def test_networks_are_read_by_the_names_of_their_stages(finished):
    assert phasetree.network_names(finished) == TRAININGS
    first, second = (phasetree.open_network(finished, name) for name in TRAININGS)
    assert first.shape == (2,) and first.trained_up_to is not None
    one, other = (np.asarray(jax.tree.leaves(network.params)[0]) for network in (first, second))
    assert not np.array_equal(one, other)


def test_a_network_is_chosen_where_there_are_several(finished, tmp_path):
    with pytest.raises(ValueError, match="holds several networks: choose one of train-0, train-1"):
        phasetree.open_network(finished)
    with pytest.raises(ValueError, match=r"network = 'train': .* holds train-0, train-1"):
        phasetree.open_network(finished, "train")
    with pytest.raises(FolderError, match="holds no trained network"):
        phasetree.open_network(tmp_path)


def test_sample_writes_what_the_network_generates(finished, tmp_path, capsys):
    command = ["sample", str(finished), "--network", "train-1", "--count", "3", "--out", str(tmp_path / "new.npz")]
    assert main(command) == 0
    assert "3 arrays of shape (2,), generated with seed 0." in capsys.readouterr().out
    with np.load(tmp_path / "new.npz") as file, jax.enable_x64(True):
        key = jax.random.split(jax.random.key(0), 1)[0]
        np.testing.assert_array_equal(file["data"], generate(key, phasetree.open_network(finished, "train-1"), 3))
    assert main(command) == 2
    assert "new.npz exists already: choose another file" in capsys.readouterr().err


def test_sample_reads_a_saved_denoiser(finished, tmp_path):
    save(phasetree.open_network(finished, "train-0"), tmp_path / "saved")
    assert main(["sample", str(tmp_path / "saved"), "-n", "3", "--out", str(tmp_path / "new.npz")]) == 0
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["new.npz"]


def test_sample_refuses_an_autoencoder(tmp_path, capsys):
    save(from_vae(LinearVAE(3, 2, rngs=nnx.Rngs(0)), tau=1), tmp_path / "saved")
    assert main(["sample", str(tmp_path / "saved"), "-n", "3", "--out", str(tmp_path / "new.npz")]) == 2
    assert "holds an autoencoder: give the folder of a denoiser" in capsys.readouterr().err


def no_room(file, offset, length):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file/new.npz", "Not a directory"),
        ("file/deeper/new.npz", "Not a directory"),
        ("new.npz", "No space left on device"),
    ],
)
def test_sample_names_a_file_that_cannot_be_written_before_it_generates(
    finished, tmp_path, monkeypatch, capsys, out, reason
):
    monkeypatch.setattr("phasetree.command.sample.generate", None)
    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    (tmp_path / "file").touch()
    assert main(["sample", str(finished), "--network", "train-1", "--out", str(tmp_path / out)]) == 1
    message = f"cannot write to {tmp_path / out}: {reason}; choose another file with --out"
    assert capsys.readouterr().err == f"phasetree sample: {message}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_sample_names_a_file_that_cannot_be_written_after_all(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("phasetree.command.sample.write_whole", lambda file, content: no_room(file, 0, 0))
    assert main(["sample", str(finished), "--network", "train-1", "-n", "3", "--out", str(tmp_path / "new.npz")]) == 1
    message = f"cannot write to {tmp_path / 'new.npz'}: No space left on device; choose another file with --out"
    assert capsys.readouterr().err.endswith(f"phasetree sample: {message}\n") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, message",
    [
        (["{run}"], "holds several networks"),
        (["{run}", "--network", "train-0", "--count", "0"], "--count 0 --seed 0: give a count of 1 or more"),
        (["{run}", "--network", "train-0", "--count", str(10**15)], "PiB of memory"),
        (["{run}", "--network", "train-0", "--out", "new.txt"], "give a name that ends in .npz"),
        (["nowhere"], "no folder 'nowhere'"),
        ([], "PATH"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(finished, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *(word.format(run=finished) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_damaged_network_is_written_again_by_the_same_command(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    kept = {name: np.asarray(jax.tree.leaves(phasetree.open_network(run, name).params)[0]) for name in TRAININGS}
    largest = max((run / "networks" / "train-1").rglob("*"), key=lambda file: file.stat().st_size * file.is_file())
    largest.write_bytes(bytes(byte ^ 4 for byte in largest.read_bytes()))
    (run / "networks" / "train-0" / "denoiser.json").unlink()
    for name in TRAININGS:
        with pytest.raises(FolderError, match="is damaged: run the same command again, which writes it anew"):
            phasetree.open_network(run, name)
    findings = phasetree.run(own, out=run).findings
    said = capsys.readouterr().err
    assert findings == phasetree.open_result(finished)[1]
    for name in TRAININGS:
        assert f"networks/{name} is damaged: it is written again from its checkpoint" in said
        np.testing.assert_array_equal(kept[name], jax.tree.leaves(phasetree.open_network(run, name).params)[0])
    phasetree.run(own, out=run)
    assert "damaged" not in capsys.readouterr().err


def test_a_damaged_network_without_checkpoints_is_named(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    phasetree.run(own, out=run)
    (run / "networks" / "train-0" / "denoiser.json").write_text("{}")
    message = (
        r"networks/train-0/denoiser\.json is damaged: delete .*train-0 to do without, or .*stages/train-0\.nc, and"
    )
    with pytest.raises(FolderError, match=message):
        phasetree.run(own, out=run)
    shutil.rmtree(run / "networks" / "train-0")
    phasetree.run(own, out=run)
    assert phasetree.network_names(run) == ["train-1"]


def test_a_full_disk_is_the_reason_why_a_network_is_not_kept(finished, tmp_path, monkeypatch):
    network = phasetree.open_network(finished, "train-0")
    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    message = r"cannot write to .*networks/train-0: No space left on device; choose another folder"
    with contextlib.closing(RunFolder(tmp_path, {})) as folder, pytest.raises(FolderError, match=message):
        folder.write_network("train-0", network)


def test_a_run_goes_on_from_another_and_is_the_longer_run(finished, tmp_path):
    further = phasetree.run(own, steps=40, start=finished, out=tmp_path / "further")
    whole = phasetree.run(own, steps=40, out=tmp_path / "whole")
    assert further.findings == whole.findings
    np.testing.assert_array_equal(further.dataset.loss, whole.dataset.loss)
    assert (tmp_path / "further" / "data.nc").read_bytes() == (tmp_path / "whole" / "data.nc").read_bytes()


def test_a_run_that_cannot_go_on_is_refused(finished, tmp_path):
    with pytest.raises(FolderError, match=r"final_rate = 1\.0 there, 0\.0 here"):
        phasetree.run(own, steps=40, final_rate=0.0, start=finished, out=tmp_path / "falling")
    with pytest.raises(FolderError, match="holds no checkpoints: give the folder of a run that trained"):
        phasetree.run(own, steps=40, start=tmp_path, out=tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
