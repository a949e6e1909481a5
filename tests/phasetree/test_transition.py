"""The experiment `transition` and its command line, as a user runs it."""

import contextlib
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from phasetree import open_result
from phasetree.cli import main
from phasetree.experiments.transition import analyse, networks
from phasetree.recipes import training

TINY = ["transition", "-v", "3", "-m", "2", "-L", "2", "-n", "64", "--width", "8", "--num-data", "64"]
TINY += ["--num-times", "5", "--close-times", "5", "--close-data", "64", "--ensemble", "2", "--batch-size", "16"]
TINY += ["--steps", "40", "--steps-per-chunk", "10", "--steps-per-checkpoint", "20"]


def phasetree(*arguments):
    """Status, standard output and standard error of the command line, in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose looks are at as many strings as all else: fewer programs to compile."""
    folder = tmp_path_factory.mktemp("run") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "LOOK", 64)
        patch.setattr(training, "EVALUATION", 4096)
        status, printed, complaint = phasetree(*TINY, "--out", folder)
    assert status == 0, complaint
    return folder, printed


def test_a_run_leaves_data_figure_report_configuration_and_provenance(finished):
    folder, printed = finished
    for name in ("data.nc", "figure.png", "figure.pdf", "report.md", "config.json", "provenance.json"):
        assert (folder / name).stat().st_size > 0
    assert "by the exact posterior at" in " ".join(printed.split()) and "seed 0" in printed
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["versions"]["jax"] and provenance["devices"] and provenance["dtype"].startswith("float64")
    assert not [file for file in folder.rglob(".*")], "temporary files were left"


def test_the_result_opens_with_labels(finished):
    dataset = xr.load_dataset(finished[0] / "data.nc", engine="h5netcdf")
    assert set(dataset.retention.dims) == {"denoiser", "grammar", "datum", "t", "level"}
    assert set(dataset.denoiser.values) == {"trained", "exact", "empirical", "predicted"}
    assert np.isfinite(dataset.retention).all() and np.isfinite(dataset.close_retention).all()
    assert np.isfinite(dataset.training_loss).all() and json.loads(dataset.attrs["config"])["seed"] == 0


def test_exact_sampling_agrees_with_the_exact_posterior(finished):
    """E[1(kept)] = E[belief in the truth], level by level: paired over the data, five standard errors."""
    dataset = xr.load_dataset(finished[0] / "data.nc", engine="h5netcdf")
    close = dataset.close_retention.sel(close_denoiser="exact") - dataset.close_retention.sel(
        close_denoiser="predicted"
    )
    wide = dataset.retention.sel(denoiser="exact") - dataset.retention.sel(denoiser="predicted")
    for rows in (wide.isel(grammar=0).mean("t"), close.isel(grammar=0).mean("t_close").rename(close_datum="datum")):
        error = rows.std("datum", ddof=1) / rows.sizes["datum"] ** 0.5
        assert (abs(rows.mean("datum")) < 5 * error).all()


def test_findings_are_those_of_the_dataset(finished):
    """The report's numbers, from the file alone; valid strings and information from their definitions."""
    dataset, findings = open_result(finished[0])
    assert analyse(dataset) == findings
    valid = dataset.close_valid.sel(close_denoiser="trained").values
    np.testing.assert_allclose(findings["validity"].value, valid.mean())
    left = dataset.entropy.isel(level=0, t=2).mean().item()
    known = 1 - left / dataset.prior_entropy.isel(level=0).item()
    np.testing.assert_allclose(findings["information", 0, float(dataset.t[2])].value, known, rtol=1e-6)


def test_looks_fall_on_ends_of_chunks():
    assert networks.look_steps(TrainConfig(steps=10_000)) == [300, 600, 1200, 2500, 5000, 10_000]
    assert networks.look_steps(TrainConfig(steps=120, steps_per_chunk=50)) == [50, 100, 120]


def test_running_again_prints_the_finished_result_and_changes_no_data(finished):
    folder, printed = finished
    before = (folder / "data.nc").read_bytes()
    assert phasetree(*TINY, "--out", folder)[:2] == (0, printed)
    assert (folder / "data.nc").read_bytes() == before


@pytest.mark.slow
def test_killed_three_times_at_random_it_finishes_with_the_same_file(tmp_path):
    """Four processes and a fifth that nothing kills; `test_runner` kills a cheaper experiment at a known place."""
    command = [sys.executable, "-m", "phasetree.cli", *TINY, "--out"]
    for seed in range(3):
        process = subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.DEVNULL)
        time.sleep(random.Random(seed).uniform(2, 12))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for folder in ("killed", "whole"):
        subprocess.run([*command, tmp_path / folder], check=True, stdout=subprocess.DEVNULL, timeout=600)
    assert (tmp_path / "killed" / "data.nc").read_bytes() == (tmp_path / "whole" / "data.nc").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transition", "-v", "4", "-m", "5"], "only 16 of 4 symbols exist"),
        (["transition", "--sed", "3"], "--seed"),
        (["transition", "--preset", "huge"], "choose one of quick, default, paper, paper-trained"),
        (["transitions"], "no experiment 'transitions'"),
        (["transition", "--num-times", "1"], "num_times = 1 is too small"),
        (["transition", "--learning-rate", "-1"], "learning_rate = -1.0: must be positive"),
        (["transition", "--seed", "99999999999999999999"], "outside [0, 2^63)"),
        (["text-demo", "--heads", "3"], "width = 128 is not a multiple of heads = 3"),
        (["text-demo", "--file", "missing.txt"], "missing.txt"),  # found out only when the folder has been made
    ],
)
def test_bad_usage_is_reported_and_writes_nothing(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, printed, complaint = phasetree(*arguments)
    output = " ".join((printed + complaint).replace("│", " ").split())
    assert status != 0 and message in output and "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    status, _, complaint = phasetree(*TINY, "--out", tmp_path / "file" / "below")
    assert status == 1 and "cannot write to" in complaint and "--out" in complaint


def test_the_folder_of_another_run_is_refused(finished):
    status, _, complaint = phasetree(*TINY, "--seed", 1, "--out", finished[0])
    assert status == 1 and "seed = 0 there, 1 here" in complaint


def test_a_damaged_stage_is_named(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "damaged")
    (folder / "stages" / "exact-0.nc").write_bytes(b"garbage")
    status, _, complaint = phasetree(*TINY, "--out", folder)
    assert status == 1 and "exact-0.nc is damaged: delete it" in complaint


def test_help_explains_every_option_and_a_process_of_its_own_refuses_wrong_input(tmp_path):
    shown = phasetree("transition", "--help")[1]
    for option in ("--num-symbols", "-v", "--process", "--learning-rate", "--seed", "--out"):
        assert option in shown
    command = [sys.executable, "-m", "phasetree.cli", "transition"]
    wrong = subprocess.run([*command, "-v", "4", "-m", "5"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert wrong.returncode == 2 and "only 16 of 4 symbols exist" in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
    assert "transition" in phasetree("--help")[1]
