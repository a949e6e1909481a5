"""Arrays in a folder, written whole or not at all, with a checksum of every file.

    FOLDER/
      arrays/          the arrays, by Orbax
      *.json           what else is kept with them
      checksums.json   SHA-256 of every other file

Everything is written under a temporary name and the folder is renamed last. Orbax's storage does not notice every
flipped bit, so each file is compared with its checksum before an array is read.
"""

import contextlib
import errno
import gc
import hashlib
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .run_folder import FolderError

ARRAYS = "arrays"
CHECKSUMS = "checksums.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OWN = 2**20  # bytes that Orbax's own files stay below


class WriteError(OSError):
    """A folder that cannot be written: the system's number of the error or None, the reason, the folder."""

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}"


def write_arrays(folder: pathlib.Path, arrays: PyTree, documents: Mapping[str, str] | None = None) -> None:
    """Make `folder`, an absolute path, of `arrays` and of `documents`, texts by the name of their file.

    Raises:
      WriteError: if it cannot be written, in one line; nothing is left behind.
    """
    part = folder.with_name(f".{folder.name}.part")
    with _silent_threads():
        try:
            shutil.rmtree(part, ignore_errors=True)  # what a kill left
            part.mkdir(parents=True)
            check_room(part, sum(array.nbytes for array in jax.tree.leaves(arrays)) + _OWN)
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                checkpointer.save(part / ARRAYS, args=ocp.args.StandardSave(arrays))
            for name, text in (documents or {}).items():
                (part / name).write_text(text)
            (part / CHECKSUMS).write_text(json.dumps(_checksums(part), indent=1) + "\n")
            part.rename(folder)
        except BaseException as error:
            error.with_traceback(None)  # its frames hold tasks of Orbax, which would report their errors later
            _discard(part)
            if not isinstance(error, Exception):
                raise
            # full disks reach us as errors of Orbax and of its storage layer, of many types
            number = error.errno if isinstance(error, OSError) else None
            raise WriteError(number, _reason(error), str(folder)) from error


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


def check_room(folder: pathlib.Path, room: int) -> None:
    """Take so many bytes in `folder`, and give them back.

    A full disk, quota or limit is one error here; later it would cost the work, and Orbax raises one error and prints
    hundreds of its threads.

    Raises:
      OSError: if they are not there, or nothing can be written.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, room)
            else:
                file.write(bytes(room))
        except OSError as error:
            if error.errno in FULL:
                raise
            # else the file system has no such call: what it lacks shows in writing


def _discard(part: pathlib.Path) -> None:
    """Delete `part` until it stays away.

    After one write has failed, threads of Orbax's storage layer go on with others for a while, measured up to 23 ms on
    busy cores, and make the folder again; nothing tells when they end.
    """
    quiet = 0
    for _ in range(100):
        shutil.rmtree(part, ignore_errors=True)
        quiet = 0 if part.exists() else quiet + 1
        if quiet > 10:
            break
        time.sleep(0.02)
    gc.collect()  # of tasks that failed, which are logged where they are collected: here nobody hears


@contextlib.contextmanager
def _silent_threads() -> Iterator[None]:
    """Keep Orbax from printing the tracebacks of errors that it also raises: its threads log them, or end in them."""
    hook = sys.unraisablehook
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda error: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
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
