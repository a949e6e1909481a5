"""One folder, one run: who may write where.

A folder is claimed by a record of the run's identity, a flat dictionary (its configuration, seed, sizes), and of the
program's generation, a number that is raised whenever the same identity comes to give other numbers. Another claim with
the same identity continues the run; one with another identity is refused, and so is a folder that holds anything else:
continuing another run, or overwriting it, loses somebody's work. While a process writes, it holds the folder's lock.
"""

import contextlib
import json
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import IO, Any

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

LOCK = "lock"


class FolderError(RuntimeError):
    """A folder that a run cannot use, or a file in it; the message says why and what to do."""


def claim_folder(
    folder: str | os.PathLike,
    record: str,
    identity: dict[str, Any],
    *,
    generation: int,
    elsewhere: str = "choose another folder",
) -> pathlib.Path:
    """Make `folder` that of the run with this identity, which is kept as JSON in its file `record`.

    `elsewhere` is what messages advise where the folder cannot be used.

    Raises:
      FolderError: if the folder cannot be written, is not empty and no run's, or belongs to another run.
    """
    folder = pathlib.Path(folder)
    identity = json.loads(json.dumps({**identity, "generation": generation}, default=str))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / record).exists():
            return _record(folder / record, identity, elsewhere)
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}; {elsewhere}") from error
    try:
        recorded = dict(json.loads((folder / record).read_text()))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise FolderError(f"{folder / record} is damaged: delete {folder} to start again, or {elsewhere}") from error
    differing = [key for key in {**recorded, **identity} if recorded.get(key) != identity.get(key)]
    if differing:
        listed = "; ".join(f"{_shown(k)} = {_shown(recorded.get(k))} there, {identity.get(k)} here" for k in differing)
        raise FolderError(f"{folder} holds another run ({listed}): {elsewhere}, or delete it")
    return folder


@contextlib.contextmanager
def locked(folder: str | os.PathLike, elsewhere: str = "choose another folder") -> Iterator[None]:
    """Keep a folder to oneself; it is made if need be.

    The operating system holds the lock and drops that of a process that has died, so a lock file that a kill has left
    locks nothing. Where the file system or the operating system knows no such locks, nothing is locked.

    Raises:
      FolderError: if another process, or another training in this one, holds the folder, or it cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open_locked(folder / LOCK)
    except BlockingIOError as error:
        raise FolderError(
            f"{folder} is in use by {_holder(folder / LOCK)}: wait until it ends, or {elsewhere}"
        ) from error
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}; {elsewhere}") from error
    with handle:
        handle.truncate(0)
        handle.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        handle.flush()
        try:
            yield
        finally:
            if _is_open_as(handle, folder / LOCK):  # the folder may have been removed, and made anew by another run
                (folder / LOCK).unlink()


def _open_locked(file: pathlib.Path) -> IO[str]:
    """The lock file, opened and locked. One that its last holder deletes between the two is made anew."""
    while True:
        handle = open(file, "a+")  # noqa: SIM115 (its holder closes it)
        try:
            _lock(handle)
            if _is_open_as(handle, file):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()


def _is_open_as(handle: IO[str], file: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except FileNotFoundError:
        return False


def _lock(handle: IO[str]) -> None:
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # this file system has no locks
        pass


def _holder(file: pathlib.Path) -> str:
    try:
        holder = json.loads(file.read_text())
        return f"process {int(holder['pid'])} on {_shown(holder['host'])}"
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return "another process"


def _shown(value: Any) -> str:
    """The value in a file without the control characters that it may hold, at most 80 characters."""
    return "".join(character for character in str(value) if character.isprintable())[:80]


def _record(file: pathlib.Path, identity: dict[str, Any], elsewhere: str) -> pathlib.Path:
    part = file.with_suffix(".part")  # left behind where a run was killed while writing it
    if any(entry not in (part, file.parent / LOCK) for entry in file.parent.iterdir()):
        raise FolderError(f"{file.parent} is not empty and holds no run of this program: {elsewhere}")
    part.write_text(json.dumps(identity, indent=1) + "\n")
    part.replace(file)
    return file.parent
