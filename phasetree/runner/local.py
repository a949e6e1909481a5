"""Runs the stages of a plan in this process, one after the other; each result is kept, and read by a repeated run.

If a stage that has to be computed needs a trained model, the training stage is called again and reads its checkpoints:
so a model may be any object. A denoiser or autoencoder is also saved under `networks/`, for its users; one that is
damaged there is written again.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import jax
import xarray as xr

from diffusion import AbstractNetworkDenoiser, Autoencoder, FolderError
from phasetree.experiment import Inputs, Stage, Training
from phasetree.progress import AbstractProgress, Progress, Silent
from phasetree.runner.folder import CHECKPOINTS, RunFolder
from phasetree.runner.identity import stage_identity


def run_stages(stages: list[Stage], config: Any, folder: RunFolder, progress: Progress) -> dict[str, xr.Dataset]:
    """The result of every stage by name; of a training stage, what it recorded.

    Raises:
      ValueError: if two stages share a name, or one needs a stage that does not come before it.
      FolderError: if a file cannot be written or is damaged.
    """
    return _Run(stages, config, folder, progress).results()


def to_bytes(dataset: xr.Dataset) -> bytes:
    """A netCDF file, made in memory: the HDF5 library aborts the process on a full disk."""
    file = io.BytesIO()
    # a dataset made of files remembers the longest string of the first one, at which others would be cut off
    dataset.drop_encoding().to_netcdf(file, engine="h5netcdf")
    return file.getvalue()


class _Run:
    """The stages, their results so far, and the models in memory."""

    def __init__(self, stages: list[Stage], config: Any, folder: RunFolder, progress: Progress):
        self.stages = {stage.name: stage for stage in stages}
        self.config, self.folder, self.progress = config, folder, progress
        self.identities: dict[str, str] = {}
        for stage in stages:
            if stage.name in self.identities:
                raise ValueError(f"two stages are named {stage.name!r}: give each a name of its own")
            if missing := [name for name in stage.inputs if name not in self.identities]:
                raise ValueError(f"stage {stage.name!r} needs {missing[0]!r}, which does not come before it")
            self.identities[stage.name] = stage_identity(stage, self.identities)
        self.done: dict[str, xr.Dataset] = {}
        self.trainings: set[str] = set()
        self.models: dict[str, Training] = {}

    def results(self) -> dict[str, xr.Dataset]:
        waiting = list(self.stages.values())
        while waiting:
            stage = waiting.pop(0)
            self.progress.stage(stage.name, stage.units)
            file = f"stages/{stage.name}.nc"
            dataset = self._kept(file, self.identities[stage.name], lambda s=stage: self._computed(s))
            if dataset.attrs.pop("training", 0):
                self.trainings.add(stage.name)
                self._repair(stage.name)
            self.done[stage.name] = dataset
            needed = {name for later in waiting for name in later.inputs}
            self.models = {name: model for name, model in self.models.items() if name in needed}
        return self.done

    def _computed(self, stage: Stage) -> xr.Dataset:
        result = self._called(stage, self.progress)
        if isinstance(result, Training):
            self.models[stage.name] = result
            if isinstance(result.model, AbstractNetworkDenoiser | Autoencoder):
                self.folder.write_network(stage.name, result.model)
            return result.record.assign_attrs(training=1)
        return result

    def _called(self, stage: Stage, progress: AbstractProgress) -> xr.Dataset | Training:
        given: Mapping[str, Any] = {name: self._result(name) for name in stage.inputs}
        folder, identity = self.folder.path / CHECKPOINTS / stage.name, self.identities[stage.name]

        def keep(name: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
            return self._kept(f"stages/{stage.name}/{name}.nc", identity, compute)

        key = jax.random.key(self.config.seed)
        try:
            return stage.function(self.config, key, Inputs(given, folder, progress, keep, stage.units), **stage.options)
        except Exception as error:  # of any type: it is raised again, with the name of its stage
            error.add_note(f"in stage {stage.name!r}")
            raise

    def _result(self, name: str) -> xr.Dataset | Training:
        """A dataset as kept; of a training stage the model too."""
        return self._training(name) if name in self.trainings else self.done[name]

    def _training(self, name: str) -> Training:
        """The model of a training stage, from its checkpoints if it is not in memory, and what it recorded."""
        if name not in self.models:
            result = self._called(self.stages[name], Silent())
            assert isinstance(result, Training)
            self.models[name] = result
        return self.models[name]

    def _repair(self, training: str) -> None:
        """Write a network that was damaged since it was saved again, from the checkpoints of its training.

        Raises:
          FolderError: if there are no checkpoints.
        """
        try:
            self.folder.check_network(training)
        except FolderError:
            if not self.folder.has(f"{CHECKPOINTS}/{training}"):
                raise
            self.progress.say(f"networks/{training} is damaged: it is written again from its checkpoint")
            self.folder.write_network(training, self._training(training).model)

    def _kept(self, file: str, identity: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
        """The dataset in `file`, computed and kept if it is missing; then read, so that both cases are the same."""
        advice = "delete it, and the next run computes that stage again"
        if not self.folder.has(file):
            self.folder.write(file, to_bytes(compute().assign_attrs(stage=identity)))
        content = self.folder.read(file, advice)
        try:
            dataset = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
        except Exception as error:  # the readers below raise many types
            raise FolderError(f"{self.folder.path / file} is damaged: {advice}") from error
        if dataset.attrs.pop("stage", None) != identity:
            raise FolderError(f"{self.folder.path / file} is of a stage with other options or inputs: {advice}")
        return dataset
