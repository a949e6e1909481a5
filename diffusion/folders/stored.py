"""Arrays in a folder, written whole or not at all, with a checksum of every file.

    FOLDER/
      arrays/          the arrays, by Orbax
      *.json           what else is kept with them
      checksums.json   SHA-256 of every other file

Everything is written under a temporary name and the folder is renamed last. Orbax's storage does not notice every
flipped bit, so each file is compared with its checksum before an array is read.
"""

import contextlib
import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .run_folder import FolderError

ARRAYS = "arrays"
CHECKSUMS = "checksums.json"


def write_arrays(folder: pathlib.Path, arrays: PyTree, documents: Mapping[str, str] | None = None) -> None:
    """Make `folder`, an absolute path, of `arrays` and of `documents`, texts by the name of their file.

    Raises:
      OSError: if it cannot be written, in one line; nothing is left behind.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # what a kill left
        part.mkdir(parents=True)
        with _silent_threads(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(part / ARRAYS, args=ocp.args.StandardSave(arrays))
        for name, text in (documents or {}).items():
            (part / name).write_text(text)
        (part / CHECKSUMS).write_text(json.dumps(_checksums(part), indent=1) + "\n")
        part.rename(folder)
    except Exception as error:  # full disks reach us as errors of Orbax and of its storage layer, of many types
        raise OSError(f"cannot write {folder}: {_reason(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def verify(folder: pathlib.Path, advice: str) -> None:
    """Compare every file of `folder` with its checksum.

    Raises:
      FolderError: if a file is missing, new or changed; its message ends in `advice`.
    """
    try:
        expected = dict(json.loads((folder / CHECKSUMS).read_text()))
        actual = _checksums(folder)
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise FolderError(f"{folder / CHECKSUMS} is damaged or missing: {advice}") from error
    for name in sorted({*expected, *actual}):
        if expected.get(name) != actual.get(name):
            raise FolderError(f"{folder / name} is damaged: {advice}")


def read_arrays(folder: pathlib.Path, like: PyTree, advice: str) -> PyTree:
    """The arrays of a folder that has been verified, with the structure, dtypes and sharding of `like`.

    Raises:
      FolderError: if they cannot be read as such; its message ends in `advice`.
    """
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            return checkpointer.restore(folder / ARRAYS, args=ocp.args.StandardRestore(like))
    except Exception as error:  # Orbax and its storage layer raise many types
        raise FolderError(f"{folder} cannot be read ({type(error).__name__}): {advice}") from error


@contextlib.contextmanager
def _silent_threads() -> Iterator[None]:
    """Keep the threads of Orbax from printing the traceback of an error that they also raise."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _checksums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file but the one that holds them, by its path."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if name != CHECKSUMS}


def _reason(error: Exception) -> str:
    """The operating system's words if there are any, else the first line of the message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
