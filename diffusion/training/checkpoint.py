"""Checkpoints of a run: Orbax files in a folder that the run has claimed.

Orbax writes to a temporary name and renames, so a kill leaves the previous checkpoint whole.
"""

import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .run_folder import FolderError, claim_folder


class Checkpoints:
    """The checkpoints of one run in one folder; the newest two are kept."""

    def __init__(self, folder: str | os.PathLike, fingerprint: dict[str, Any]):
        """Open or create `folder`.

        Raises:
          FolderError: if the folder cannot be written, or belongs to a run with another fingerprint.
        """
        self.folder = claim_folder(os.path.abspath(folder), "run.json", fingerprint)  # Orbax wants absolute paths
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self, like: PyTree) -> PyTree | None:
        """The newest state, with the structure, dtypes and sharding of `like`; None if there is none yet.

        Raises:
          FolderError: if the newest checkpoint cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:  # Orbax and its storage layer raise many types on a damaged file
            raise FolderError(
                f"checkpoint {self.folder / str(step)} cannot be read ({type(error).__name__}): it is damaged. Delete "
                f"that folder to continue from the one before it, or {self.folder} to start again"
            ) from error

    def save(self, step: int, state: PyTree) -> None:
        """Write `state` as the checkpoint of `step`; returns when it is on disk."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        self._manager.close()
