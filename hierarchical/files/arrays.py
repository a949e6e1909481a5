"""Arrays in `.npy` and `.npz` files, whose headers are read and checked before their numbers.

A header gives shape and type of an array in some hundred bytes. What is too large for the memory, holds Python objects
(reading them would run the code of whoever wrote them) or does not fit the length of its file is refused without
reading on. An `.npz` file is a zip archive of `.npy` files.
"""

import contextlib
import dataclasses
import io
import math
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from .memory import check_memory
from .printable import printable

# what NumPy and zipfile raise
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


class Header(NamedTuple):
    """What an array is, without its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class ArrayFile:
    """The headers of a `.npz` file, by the names of its arrays, or that of a `.npy` file, whose name is empty."""

    path: pathlib.Path
    headers: Mapping[str, Header]

    def only(self, names: Sequence[str]) -> str | None:
        """The one of these names that the file has; None if it has none of them.

        Raises:
          ValueError: if it has several.
        """
        present = [name for name in names if name in self.headers]
        if len(present) > 1:
            raise ValueError(f"{str(self.path)!r} has {' and '.join(present)}: keep the array that is meant")
        return present[0] if present else None

    def read(self, name: str, copies: int = 1) -> np.ndarray:
        """The array of this name.

        Args:
          copies: bytes that the caller needs for each byte of the array, itself included.

        Raises:
          ValueError: if it holds Python objects, needs more memory than there is, or is damaged.
        """
        shape, dtype = self.headers[name]
        what = f"the array {name!r} of {str(self.path)!r}" if name else repr(str(self.path))
        if dtype.hasobject:
            raise ValueError(f"{what} holds Python objects: write an array of numbers, or of text")
        check_memory(math.prod(shape) * dtype.itemsize * copies, f"reading {what}")
        with _errors_named(self.path), _opened(self.path, name) as (file, _):
            return np.lib.format.read_array(file, allow_pickle=False)


def open_arrays(path: pathlib.Path) -> ArrayFile:
    """Read the headers of an `.npz` file (by its suffix) or a `.npy` file.

    Raises:
      ValueError: if the file is not of this kind, or an array and its header do not fit each other.
    """
    headers = {}
    with _errors_named(path):
        for name in _array_names(path):
            with _opened(path, name) as (file, size):
                headers[name] = _header(file, size)
    return ArrayFile(path, headers)


def is_archive(path: pathlib.Path) -> bool:
    """Whether the suffix is `.npz`."""
    return path.suffix.lower() == ".npz"


def _array_names(path: pathlib.Path) -> list[str]:
    if not is_archive(path):
        return [""]
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextlib.contextmanager
def _opened(path: pathlib.Path, name: str) -> Iterator[tuple[io.BufferedIOBase, int]]:
    """A `.npy` file, or the one of that name in an archive, and its bytes."""
    with contextlib.ExitStack() as stack:
        if is_archive(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            member = name + ".npy" if name + ".npy" in archive.namelist() else name
            file = cast(io.BufferedIOBase, stack.enter_context(archive.open(member)))
            yield file, archive.getinfo(member).file_size
        else:
            yield stack.enter_context(path.open("rb")), path.stat().st_size


def _header(file: io.BufferedIOBase, size: int) -> Header:
    """By versions 1.0 and 2.0 of the format; later ones only name columns in other alphabets."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    promised, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or not (dtype.hasobject or promised == held):
        raise ValueError(f"its header gives {dtype} of shape {shape}, {promised} bytes, and {held} bytes follow")
    return Header(shape, dtype)


@contextlib.contextmanager
def _errors_named(path: pathlib.Path) -> Iterator[None]:
    """Errors of the readers of NumPy and of zip archives, with the file's name and what to do."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except _BROKEN as error:
        kind, writer = (".npz", "numpy.savez") if is_archive(path) else (".npy", "numpy.save")
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{str(path)!r} is not a whole {kind} file ({printable(reason)}): write it with {writer}"
        ) from error
