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

from diffusion import AbstractNetworkDenoiser, Autoencoder, FolderError, load
from diffusion.folders.stored import verify
from phasetree.findings import Findings
from phasetree.report import Report
from phasetree.runner.folder import NETWORKS, read_checked

AGAIN = "run the same command again, which writes it anew"


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
    path = pathlib.Path(folder).expanduser()
    data, findings = (read_checked(path, name, AGAIN) for name in ("data.nc", "findings.json"))
    return xr.load_dataset(io.BytesIO(data), engine="h5netcdf"), Findings.from_json(findings.decode())


def network_names(folder: str | os.PathLike) -> list[str]:
    """The training stages of a run whose denoisers `open_network` reads."""
    networks = pathlib.Path(folder).expanduser() / NETWORKS
    return sorted(path.name for path in networks.glob("[!.]*"))  # hidden: what a killed run left


def open_network(folder: str | os.PathLike, name: str | None = None) -> AbstractNetworkDenoiser | Autoencoder:
    """A trained denoiser or autoencoder of a run.

    Args:
      folder: of the run.
      name: of the training stage, one of `network_names`; not needed if there is one only.

    Raises:
      ValueError: if there are several and no name, or none of this name.
      FolderError: if the run has kept none, or it is damaged.
    """
    path, names = pathlib.Path(folder).expanduser(), network_names(folder)
    if not names:
        raise FolderError(f"{path} holds no trained network: give the folder of a run that trained one to the end")
    if name is None and len(names) > 1:
        raise ValueError(f"{path} holds several networks: choose one of {', '.join(names)}")
    if name not in (None, *names):
        raise ValueError(f"network = {name!r}: {path} holds {', '.join(names)}")
    network = path / NETWORKS / (name or names[0])
    verify(network, AGAIN)
    return load(network)


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
