"""The runner, by an experiment of one's own: kept, resumed, locked, checked, and what it refuses."""

import dataclasses
import io
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import phasetree
from diffusion import FolderError
from phasetree.experiment import Stage
from phasetree.progress import Progress
from phasetree.runner.choose import configure, experiment_names, find_experiment
from phasetree.runner.folder import RunFolder
from phasetree.runner.identity import run_identity
from phasetree.runner.local import run_stages, to_bytes
from tests.phasetree import own_experiment as own


@pytest.fixture
def calls():
    own.CALLS.clear()
    return own.CALLS


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return phasetree.run(own, out=tmp_path_factory.mktemp("own") / "run")


def copied(finished, tmp_path):
    target = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished.folder, target], check=True)
    return target


def test_an_experiment_of_ones_own_runs_from_its_module(finished):
    assert finished.findings["expected"].value == 1.0
    assert {"heads", "expected"} == {finding.name for finding in finished.findings}
    assert f"{finished.findings['heads'].value:.3f} of 2." in finished.report.closing


def test_its_folder_holds_what_was_returned(finished):
    dataset, findings = phasetree.open_result(finished.folder)
    xr.testing.assert_identical(dataset, finished.dataset)
    assert findings == finished.findings
    assert (finished.folder / "report.md").read_text() == finished.report.markdown()
    for name in ("figure.png", "figure.pdf", "provenance.json", "config.json"):
        assert (finished.folder / name).stat().st_size > 0
    assert not list(finished.folder.rglob(".*")) and not (finished.folder / "lock").exists()


def test_checksums_are_those_of_sha256sum(finished):
    command = "cat $(find checksums -type f) | sha256sum -c --quiet"
    subprocess.run(["bash", "-c", command], cwd=finished.folder, check=True)


def test_finished_stages_are_read_and_lost_ones_computed(finished, tmp_path, calls):
    folder = copied(finished, tmp_path)
    assert phasetree.run(own, out=folder).findings == finished.findings and not calls
    (folder / "stages" / "side-1.nc").unlink()
    again = phasetree.run(own, out=folder)
    assert again.findings == finished.findings and calls == ["side-1"]
    xr.testing.assert_identical(again.dataset, finished.dataset)


def test_no_file_but_the_provenance_depends_on_when_it_was_written(finished, tmp_path):
    again = phasetree.run(own, out=tmp_path / "again").folder
    for file in finished.folder.rglob("*"):
        if file.is_file() and "provenance" not in file.name:
            assert file.read_bytes() == (again / file.relative_to(finished.folder)).read_bytes(), file


def test_every_flipped_byte_is_noticed(finished, tmp_path):
    """Of a stage: refused by name. Of what a run only writes: the run writes it anew, and reading refuses it."""
    folder, rng = copied(finished, tmp_path), np.random.default_rng(0)
    for name in ("stages/sum.nc", "checksums/stages/sum.nc.sha256", "config.json", "data.nc", "findings.json"):
        whole = (folder / name).read_bytes()
        for place in rng.integers(0, len(whole), 6):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(broken)
            with pytest.raises(FolderError, match=r"is damaged|of a stage with other|holds another run"):
                if name in ("data.nc", "findings.json"):
                    phasetree.open_result(folder)
                else:
                    phasetree.run(own, out=folder)
        (folder / name).write_bytes(whole)
    assert phasetree.run(own, out=folder).findings == finished.findings


@pytest.mark.parametrize("damage", [b"", b"garbage", b"[" * 100_000, b'{"experiment": "\x1b[2J"}', b"\xff\xfe"])
def test_a_damaged_config_is_one_sentence(finished, tmp_path, damage):
    folder = copied(finished, tmp_path)
    (folder / "config.json").write_bytes(damage)
    with pytest.raises(FolderError, match=r"config\.json is damaged: delete .* to start again") as refused:
        phasetree.run(own, out=folder)
    assert str(refused.value).isprintable()


def test_a_folder_of_another_run_is_refused(finished, tmp_path):
    with pytest.raises(FolderError, match=r"holds another run \(seed = 0 there, 1 here\): choose another folder"):
        phasetree.run(own, out=finished.folder, seed=1)
    (tmp_path / "letter.txt").write_text("not a run")
    with pytest.raises(FolderError, match="is not empty and holds no run of this program"):
        phasetree.run(own, out=tmp_path)


def test_a_raised_generation_is_another_run(finished, monkeypatch):
    monkeypatch.setattr(own, "GENERATION", 2)
    with pytest.raises(FolderError, match="generation = 1 there, 2 here"):
        phasetree.run(own, out=finished.folder)


def test_a_stage_with_other_options_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    for side, refused in ((0, False), (1, True)):
        stages = [Stage("throw", own.thrown, options={"side": side})]
        with Progress(1, "own") as progress:
            if refused:
                with pytest.raises(FolderError, match=r"throw\.nc is of a stage with other options or inputs: delete"):
                    run_stages(stages, own.Config(), folder, progress)
            else:
                run_stages(stages, own.Config(), folder, progress)
    folder.close()


def test_two_runs_in_one_folder_at_once_are_refused(tmp_path):
    first = RunFolder(tmp_path / "run", {})
    with pytest.raises(FolderError, match=rf"run is in use by process {os.getpid()} on .*: wait until it ends"):
        RunFolder(tmp_path / "run", {})
    first.close()
    RunFolder(tmp_path / "run", {}).close()


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    """Its lock, its hidden files and a hidden folder of a checkpoint; it kills itself while it holds the folder."""
    child = (
        "import os, signal, sys; from phasetree.runner.folder import RunFolder; folder = RunFolder(sys.argv[1], {});"
        "(folder.path / 'stages').mkdir(); (folder.path / 'stages' / '.a.nc.part').write_bytes(b'half');"
        "part = folder.path / 'checkpoints' / 'train' / '.110.part'; part.mkdir(parents=True);"
        "(part / '.inner.part').mkdir(); (part / 'a').write_bytes(b'half');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", child, tmp_path / "run"])
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "run" / "lock").exists()
    folder = RunFolder(tmp_path / "run", {})
    assert not list(folder.path.rglob(".*"))
    folder.close()
    assert not (tmp_path / "run" / "lock").exists()


def test_a_run_that_was_killed_has_the_findings_of_one_that_was_not(finished, tmp_path, calls):
    """SIGKILL in the last stage: the two before it are kept, and the findings are the same bits."""
    child = (
        "import os, signal, sys, phasetree, tests.conftest; from tests.phasetree import own_experiment as own;"
        "own.inside = lambda: os.kill(os.getpid(), signal.SIGKILL); phasetree.run(own, out=sys.argv[1])"
    )
    root = pathlib.Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", child, tmp_path / "run"], cwd=root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = phasetree.run(own, out=tmp_path / "run")
    assert calls == ["sum"] and again.findings == finished.findings
    assert (again.folder / "findings.json").read_bytes() == (finished.folder / "findings.json").read_bytes()


def test_a_full_disk_is_one_sentence_and_the_run_resumes(tmp_path, calls):
    """A limit on the size of files stands for the disk: the data do not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FolderError, match=r"cannot write to .*side-0\.nc: File too large; choose another folder"):
            phasetree.run(own, out=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.rglob(".*"))
    phasetree.run(own, out=tmp_path / "run")


def test_a_run_that_fails_at_once_leaves_no_folder(tmp_path, monkeypatch):
    def impossible(config):
        raise ValueError("no such plan")

    monkeypatch.setattr(own, "plan", impossible)
    with pytest.raises(ValueError, match="no such plan"):
        phasetree.run(own, out=tmp_path / "results" / "run")
    assert not (tmp_path / "results").exists()


def test_without_a_folder_nothing_is_kept(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = phasetree.run(own, out=False)
    assert result.folder is None and not list(tmp_path.iterdir()) and result.findings == finished.findings


def test_the_default_folder_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = phasetree.run("tests.phasetree.own_experiment", preset="many", seed=3)
    assert str(result.folder) == "results/own-experiment-many-seed3" and result.folder.is_dir()


def test_files_count_by_their_content(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config:
        file: object

    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / "a.txt", tmp_path / "elsewhere" / "b.txt"]
    for path in paths:
        path.write_text("the same")
    here, there = (run_identity("x", 1, Config(path)) for path in paths)
    assert here == there
    paths[1].write_text("changed")
    assert run_identity("x", 1, Config(paths[1])) != here
    folders = [run_identity("x", 1, Config(path)) for path in (tmp_path, tmp_path / "elsewhere")]
    assert folders[0] != folders[1] and str(tmp_path) not in json.dumps(folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_dat": 3}, r"no option 'num_dat': did you mean num_data\?"),
        ({"preset": "huge"}, "preset = 'huge': choose one of default, many"),
        ({"num_data": 1}, "num_data = 1: must be at least 2"),
        ({"num_data": 3.5}, r"num_data = 3\.5: give a whole number"),
        ({"num_data": "3"}, "num_data = '3': give a whole number"),
        ({"num_data": True}, "num_data = True: give a whole number"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        phasetree.run(own, out=False, **options)


def test_options_are_of_their_declared_types():
    _, transition = find_experiment("transition")
    given = {"seed": np.int64(3), "depths": [2, np.int8(4)], "learning_rate": 1, "no_train": np.bool_(True)}
    config = configure(transition, "quick", given)
    assert (config.seed, config.depths, config.train.learning_rate, config.no_train) == (3, (2, 4), 1.0, True)
    assert all(type(value) is int for value in (config.seed, *config.depths))
    for option, message in {
        "process": "choose one of masking, uniform, gaussian, epsilon",
        "rules": "give a path",
        "no_train": "give True or False",
        "learning_rate": "give a number",
        "depths": "give a tuple",
    }.items():
        with pytest.raises(ValueError, match=f"{option} = 3j: {message}"):
            configure(transition, "quick", {option: 3j})


def test_options_of_the_training_are_set_by_their_own_names():
    _, speciation = find_experiment("speciation")
    config = configure(speciation, "quick", {"steps": 7, "seed": 3, "learning_rate": 0.1})
    assert (config.train.steps, config.train.learning_rate, config.seed) == (7, 0.1, 3)
    assert config.train.batch_size == speciation.PRESETS["quick"].train.batch_size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transitions", "no experiment 'transitions'; there are: .*transition"),
        ("no.such.module", "no module 'no.such.module': no package 'no' can be imported"),
        ("json.decoder", "decoder is no experiment: it has no Config, PRESETS, .* see phasetree.experiment"),
    ],
)
def test_modules_that_are_no_experiment_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find_experiment(name)
    assert "speciation" in experiment_names() and "memorisation-time" in experiment_names()


def test_names_of_joined_files_are_kept_whole():
    short, long = (
        xr.open_dataset(io.BytesIO(to_bytes(xr.Dataset(coords={"layer": [name]})))) for name in ("up", "layer_1")
    )
    joined = xr.concat([short, long], "layer")
    assert xr.open_dataset(io.BytesIO(to_bytes(joined))).layer.values.tolist() == ["up", "layer_1"]


def test_impossible_plans_are_refused(tmp_path):
    def inner(config, key, inputs): ...

    with pytest.raises(ValueError, match="inner is not at the top level of its module"):
        Stage("a", inner)
    with pytest.raises(ValueError, match=r"stage 'a/b': a name is of letters"):
        Stage("a/b", own.added)
    with pytest.raises(ValueError, match="give plain JSON values"):
        Stage("a", own.added, options={"sides": (0, 1)})
    folder = RunFolder(tmp_path / "run", {})
    for stages, message in (
        ([Stage("sum", own.added, inputs=("side-0",))], "needs 'side-0', which does not come before it"),
        ([Stage("sum", own.added)] * 2, "two stages are named 'sum'"),
    ):
        with pytest.raises(ValueError, match=message), Progress(1, "own") as progress:
            run_stages(stages, own.Config(), folder, progress)
    folder.close()


def test_errors_say_in_which_stage(tmp_path):
    with pytest.raises(KeyError) as failed:
        phasetree.run(Broken, out=tmp_path / "run")
    assert failed.value.__notes__ == ["in stage 'sum'"]


def lonely(config, key, inputs):
    return inputs["side-0"]


class Broken:
    """An experiment need not be a module."""

    Config, PRESETS, GENERATION, SUMMARY = own.Config, own.PRESETS, 1, "fails"
    collect, analyse, draw, tell = own.collect, own.analyse, own.draw, own.tell

    @staticmethod
    def plan(config):
        return [Stage("sum", lonely)]


def test_the_bar_counts_what_is_skipped_apart(capsys):
    with Progress(4, "own") as progress:
        progress.stage("read", 2)  # whole, from an earlier run
        progress.stage("computed", 2)
        time.sleep(0)
        progress.advance(5, "loss 1")  # no more than the stage has
        assert progress._bar.n == 4 and progress._bar.initial == 2
    assert "100%" in capsys.readouterr().err
