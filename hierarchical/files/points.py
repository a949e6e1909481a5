"""Points of a user's own, rows of numbers: `.npy`, `.npz` and text files (`.csv`, `.tsv`, `.txt`)."""

import pathlib
import warnings

import numpy as np
from jaxtyping import Float64

from .arrays import is_archive, open_arrays
from .printable import printable

NAMES = ("points", "data", "X", "x", "x_train", "images")


def load_points(source: str | pathlib.Path) -> Float64[np.ndarray, "n d"]:
    """The rows of a file as points of d numbers; what a row has more axes of is laid flat.

    Args:
      source: a `.npy` file; an `.npz` file with one array, or with one of the names `points`, `data`, `X`, `x`,
        `x_train`, `images`; or a text file, numbers with commas, tabs or spaces between, and perhaps a line of names.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, or its rows are not numbers, of one length, finite.
    """
    path = pathlib.Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}: give a .npy, .npz, .csv, .tsv or .txt file of numbers")
    points = _from_arrays(path) if path.suffix.lower() in (".npy", ".npz") else _from_text(path)
    if points.dtype.kind not in "fiub" or points.ndim < 2 or not points.size:
        raise ValueError(f"{str(path)!r} holds {points.dtype} of shape {points.shape}: give rows of numbers, (n, ...)")
    rows = points.reshape(len(points), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        place = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"{str(path)!r}: row {place[0]}, number {place[1]} is {rows[tuple(place)]}: remove that row")
    return rows


def _from_arrays(path: pathlib.Path) -> np.ndarray:
    file = open_arrays(path)
    name = "" if not is_archive(path) else next(iter(file.headers)) if len(file.headers) == 1 else file.only(NAMES)
    if name is None:
        names = printable(", ".join(file.headers)) or "no arrays"
        raise ValueError(f"{str(path)!r} has {names}: give the points the name {NAMES[0]}")
    return file.read(name, copies=9)


def _from_text(path: pathlib.Path) -> np.ndarray:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    delimiter = next((mark for mark in (",", ";", "\t") if lines and mark in lines[0]), None)
    titled = bool(lines) and not _is_number(lines[0].split(delimiter)[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.loadtxt(lines[titled:], delimiter=delimiter, ndmin=2)
    except (ValueError, UserWarning) as error:
        raise ValueError(f"{str(path)!r} is no table of numbers ({printable(str(error))})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
