"""Results: what a run ends with, how a finished one is opened again, and where and with what it was computed."""

import io
import os
import pathlib
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import xarray as xr
from matplotlib.figure import Figure

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


def _commit() -> str | None:
    root = pathlib.Path(__file__).parent.parent
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
