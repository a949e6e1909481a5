"""Checkpoints of a run: Orbax files plus a fingerprint that says which run they belong to.

A folder of checkpoints is written by one run, described by a flat dictionary (its configuration, seed, sizes). Opening
it with another description is refused: silently continuing another run, or restarting over it, loses somebody's work.
Orbax writes to a temporary name and renames, so a kill leaves the previous checkpoint whole.
"""

import json
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree


class CheckpointError(RuntimeError):
    """A checkpoint folder that cannot be used; the message says why and what to do."""


class Checkpoints:
    """The checkpoints of one run in one folder; the newest two are kept."""

    def __init__(self, folder: str | os.PathLike, fingerprint: dict[str, Any]):
        """Open or create `folder`.

        Raises:
          CheckpointError: if the folder cannot be written, or was written by a run with another fingerprint.
        """
        self.folder = pathlib.Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_fingerprint(self.folder / "run.json", json.loads(json.dumps(fingerprint)))
        except OSError as error:
            raise CheckpointError(f"cannot write checkpoints to {self.folder}: {error.strerror}") from error
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self, like: PyTree) -> PyTree | None:
        """The newest state, with the structure, dtypes and sharding of `like`; None if there is none yet.

        Raises:
          CheckpointError: if the newest checkpoint cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {self.folder / str(step)} cannot be read ({type(error).__name__}): it is damaged. Delete "
                f"that folder to continue from the one before it, or {self.folder} to start again"
            ) from error

    def save(self, step: int, state: PyTree) -> None:
        """Write `state` as the checkpoint of `step`; returns when it is on disk."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        self._manager.close()


def _check_fingerprint(file: pathlib.Path, fingerprint: dict[str, Any]) -> None:
    if not file.exists():
        part = file.with_suffix(".part")  # left behind where a run was killed while writing it
        if any(entry != part for entry in file.parent.iterdir()):
            raise CheckpointError(f"{file.parent} is not empty and holds no run of this program: choose another folder")
        part.write_text(json.dumps(fingerprint, indent=1))
        part.replace(file)
        return
    try:
        found = dict(json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: delete {file.parent} to start again") from error
    differing = [key for key in {**found, **fingerprint} if found.get(key) != fingerprint.get(key)]
    if differing:
        listed = "; ".join(f"{key} = {found.get(key)} there, {fingerprint.get(key)} here" for key in differing)
        raise CheckpointError(
            f"{file.parent} holds the checkpoints of another run ({listed}): choose another folder, or delete it"
        )
