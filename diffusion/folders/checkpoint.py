"""Checkpoints of a run: folders named by their step, in a folder that the run has claimed and holds the lock of.

Each is written whole or not at all, with the checksums of its files (`stored.py`), so a kill or a full disk leaves the
checkpoint before it as it was.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .run_folder import claim_folder, locked
from .stored import read_arrays, verify, write_arrays

KEPT = 2


class Checkpoints:
    """The checkpoints of one run in one folder; the newest two are kept."""

    def __init__(self, folder: str | os.PathLike, identity: dict[str, Any], generation: int):
        """Open or create `folder`.

        Raises:
          FolderError: if the folder cannot be written, belongs to a run of another identity, or is in use.
        """
        self.folder = pathlib.Path(os.path.abspath(folder))  # Orbax wants absolute paths
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            claim_folder(self.folder, "run.json", identity, generation=generation)
            for unfinished in self.folder.glob(".*.part"):  # of a run that was killed
                shutil.rmtree(unfinished)
            self._open = stack.pop_all()

    def latest(self, like: Callable[[int], PyTree]) -> PyTree | None:
        """The newest state, with the structure, dtypes and sharding of `like(step)`; None if there is none yet.

        Raises:
          FolderError: if the newest checkpoint is damaged.
        """
        steps = self._steps()
        if not steps:
            return None
        folder = self.folder / str(steps[-1])
        advice = f"delete {self.folder} to start again"
        if steps[:-1]:
            advice = f"delete {folder} to continue from the checkpoint before it, or {self.folder} to start again"
        verify(folder, advice)
        return read_arrays(folder, jax.tree.map(ocp.utils.to_shape_dtype_struct, like(steps[-1])), advice)

    def save(self, step: int, state: PyTree) -> None:
        """Write `state` as the checkpoint of `step`; returns when it is on disk.

        Raises:
          OSError: if it cannot be written; the checkpoints before it are kept.
        """
        write_arrays(self.folder / str(step), state)
        for older in self._steps()[:-KEPT]:
            shutil.rmtree(self.folder / str(older))

    def close(self) -> None:
        """Give the folder free."""
        self._open.close()

    def _steps(self) -> list[int]:
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal())
