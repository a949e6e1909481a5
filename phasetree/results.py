"""One run, one folder: data, configuration, figure and provenance, each written whole or not at all.

    RESULTS/
      config.json       the configuration and seed: the identity of the run
      stages/NAME.nc    what each finished stage of the run found; a repeated run reads these instead of computing
      checkpoints/      of the training stages
      data.nc           the result: named dimensions, opened by anything that reads netCDF
      figure.png, figure.pdf
      report.md         table and closing sentence, as printed
      provenance.json   versions, device, dtype, commit, wall time

Files are written under a temporary name and renamed. `data.nc` depends on the configuration alone, not on when or in
how many pieces it was computed; what does depend on that is in `provenance.json`.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import xarray as xr
from matplotlib.figure import Figure

from diffusion import FolderError, claim_folder
from phasetree.findings import Findings
from phasetree.report import Report
from phasetree.runner.folder import read_checked


@dataclass(frozen=True)
class Result:
    """What a run ends with."""

    dataset: xr.Dataset
    findings: Findings
    figure: Figure
    report: Report
    folder: pathlib.Path | None
    """Where it is kept; None if the run was asked to keep nothing."""


def open_result(folder: str | os.PathLike) -> tuple[xr.Dataset, Findings]:
    """Data and findings of a run that has finished.

    Raises:
      FolderError: if they are not there, or damaged.
    """
    path, advice = pathlib.Path(folder).expanduser(), "run the same command again, which writes it anew"
    data, findings = (read_checked(path, name, advice) for name in ("data.nc", "findings.json"))
    return xr.load_dataset(io.BytesIO(data), engine="h5netcdf"), Findings.from_json(findings.decode())


class ResultFolder:
    """The folder of one run; making it checks that it is writable and not another run's."""

    def __init__(self, folder: str | os.PathLike, experiment: str, config: Any):
        """Open or create `folder` for `config`, a dataclass.

        Raises:
          FolderError: if it cannot be written, or holds a run of another configuration.
        """
        self.started = time.time()
        identity = {"experiment": experiment, **dataclasses.asdict(config)}
        path = pathlib.Path(folder)
        self._made = [parent for parent in path.parents if not parent.exists()]  # innermost first
        self.path = claim_folder(folder, "config.json", identity, "choose another folder with --out")
        (self.path / "stages").mkdir(exist_ok=True)

    @contextlib.contextmanager
    def given_back_if_unused(self) -> Iterator[None]:
        """Remove the folder if what runs inside fails before a stage or a checkpoint is kept: the run was no run."""
        try:
            yield
        except BaseException:
            files = {file.name for file in self.path.rglob("*") if file.is_file()}
            if files <= {"config.json", "run.json"}:  # the identities of the run and of its training
                shutil.rmtree(self.path)
                with contextlib.suppress(OSError):  # another run may live there by now
                    for parent in self._made:
                        parent.rmdir()
            raise

    def write(self, name: str, write: Callable[[pathlib.Path], Any]) -> pathlib.Path:
        """Let `write` fill a temporary file, then give it its name."""
        target = self.path / name
        part = target.with_name(f".{os.getpid()}.{target.name}")
        try:
            write(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def stage(self, name: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
        """The result of a stage: read if an earlier run finished it, else computed and kept.

        Raises:
          FolderError: if the stage's file is damaged.
        """
        file = self.path / "stages" / f"{name}.nc"
        if not file.exists():
            dataset = compute()
            self.write(f"stages/{name}.nc", lambda part: _save(dataset, part))
        try:
            return xr.load_dataset(file, engine="h5netcdf")
        except (OSError, ValueError) as error:
            raise FolderError(f"{file} is damaged: delete it, and the next run computes that stage again") from error

    @property
    def config(self) -> str:
        """The configuration as JSON, to go with a result: `dataset.assign_attrs(config=folder.config)`."""
        return (self.path / "config.json").read_text()

    def finish(self, dataset: xr.Dataset, figure: Figure, report: str) -> None:
        """Write the result of the whole run."""
        self.write("data.nc", lambda part: _save(dataset, part))
        self.write("figure.png", lambda part: figure.savefig(part, format="png", dpi=200))
        self.write("figure.pdf", lambda part: figure.savefig(part, format="pdf"))
        self.write("report.md", lambda part: part.write_text(report + "\n"))
        details = json.dumps(provenance(time.time() - self.started), indent=1)
        self.write("provenance.json", lambda part: part.write_text(details + "\n"))


def provenance(wall_seconds: float) -> dict[str, Any]:
    """Where and with what a result was computed. `wall_seconds` covers the last, possibly resumed, run only."""
    packages = ("phasetree", "jax", "jaxlib", "numpy", "flax", "optax", "equinox", "orbax-checkpoint")
    return {
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "dtype": "float64 for theory, float32 for networks"
        if jax.dtypes.canonicalize_dtype(float) == "float64"
        else "float32",
        "commit": _commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": round(wall_seconds, 1),
    }


def _save(dataset: xr.Dataset, file: pathlib.Path) -> None:
    dataset.to_netcdf(file, engine="h5netcdf")


def _commit() -> str | None:
    root = pathlib.Path(__file__).parent.parent
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
