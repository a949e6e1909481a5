"""One folder, one run: who may write where.

A folder is claimed by writing down the run's identity, a flat dictionary (its configuration, seed, sizes), and the
program's `GENERATION`. Claiming it again with the same identity continues the run; with another it is refused, and so
is a folder that holds anything else: silently continuing another run, or writing over it, loses somebody's work.
"""

import json
import os
import pathlib
from typing import Any

GENERATION = 5
"""Raised whenever the same configuration comes to give other numbers: what an older program began is not continued."""


class FolderError(RuntimeError):
    """A folder that a run cannot use, or a file in it; the message says why and what to do."""


def claim_folder(
    folder: str | os.PathLike, record: str, identity: dict[str, Any], elsewhere: str = "choose another folder"
) -> pathlib.Path:
    """Make `folder` that of the run with this identity, which is kept as JSON in its file `record`.

    `elsewhere` is what messages advise where the folder cannot be used.

    Raises:
      FolderError: if the folder cannot be written, is not empty and no run's, or belongs to another run.
    """
    folder = pathlib.Path(folder)
    identity = json.loads(json.dumps({**identity, "generation": GENERATION}, default=str))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / record).exists():
            return _record(folder / record, identity, elsewhere)
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}; {elsewhere}") from error
    try:
        found = dict(json.loads((folder / record).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise FolderError(f"{folder / record} is damaged: delete {folder} to start again, or {elsewhere}") from error
    differing = [key for key in {**found, **identity} if found.get(key) != identity.get(key)]
    if differing:
        listed = "; ".join(f"{key} = {found.get(key)} there, {identity.get(key)} here" for key in differing)
        raise FolderError(f"{folder} holds another run ({listed}): {elsewhere}, or delete it")
    return folder


def _record(file: pathlib.Path, identity: dict[str, Any], elsewhere: str) -> pathlib.Path:
    part = file.with_suffix(".part")  # left behind where a run was killed while writing it
    if any(entry != part for entry in file.parent.iterdir()):
        raise FolderError(f"{file.parent} is not empty and holds no run of this program: {elsewhere}")
    part.write_text(json.dumps(identity, indent=1) + "\n")
    part.replace(file)
    return file.parent
