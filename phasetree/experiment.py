"""What an experiment is: a plan of pure stages, and what becomes of their results.

```
plan(config)               -> [Stage, ...]    what to compute, in order
collect(config, results)   -> xr.Dataset      raw numbers in the common schema
analyse(dataset)           -> Findings        every number that is reported or drawn
draw(dataset, findings)    -> Figure
tell(dataset, findings)    -> Report
```

A module with these five functions, a frozen dataclass `Config` (with `preset`, `seed` and `label`), `PRESETS` (with
"default"), `GENERATION` and `SUMMARY` is an experiment: `phasetree.run(module)` runs it. A config that compares its
sizes with memory defines `PRESETS` inside `checks.for_any_machine`. Stages know nothing of files, caches or the command
line: the runner owns those, so that one plan runs anywhere.

The common schema: dims `denoiser`, `t`, `datum`, `trajectory`, `level` or `distance`, `step`. `t` grows with noise and
carries `units` and `process` as attributes. What else an experiment varies (dimension, curve ...) is a dim of its own.
"""

import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import xarray as xr
from matplotlib.figure import Figure

from diffusion import TrainConfig
from phasetree.findings import Finding as Finding
from phasetree.findings import Findings as Findings
from phasetree.findings import curve_findings as curve_findings
from phasetree.progress import AbstractProgress
from phasetree.report import Report as Report
from phasetree.report import Table as Table

Options = Mapping[str, Any]


@runtime_checkable
class Experiment(Protocol):
    """A module, or any object, that has these."""

    Config: type
    PRESETS: Mapping[str, Any]
    GENERATION: int
    SUMMARY: str

    def plan(self, config: Any, /) -> "list[Stage]": ...
    def collect(self, config: Any, results: Mapping[str, xr.Dataset], /) -> xr.Dataset: ...
    def analyse(self, dataset: xr.Dataset, /) -> Findings: ...
    def draw(self, dataset: xr.Dataset, findings: Findings, /) -> Figure: ...
    def tell(self, dataset: xr.Dataset, findings: Findings, /) -> Report: ...


class Training(NamedTuple):
    """What a training stage returns: the model, which checkpoints hold, and what training recorded."""

    model: Any
    record: xr.Dataset


@dataclass(frozen=True)
class Stage:
    """One piece of a run: `function(config, key, inputs, **options)`, pure, at the top level of its module.

    Args:
      name: of letters, digits, dots, signs and underscores; its result is kept in a file of that name.
      function: returns an `xr.Dataset`, which is kept, or a `Training`, of which the record is kept; the model comes
        back from the checkpoints in `inputs.folder` when the function is called again.
      inputs: names of earlier stages whose results it needs.
      units: of work, for the progress bar: about equally long in all stages of a plan.
      options: JSON values: the number of the grammar, the dimension. With the name and the inputs they are what tells
        a stage from others of its run.
    """

    name: str
    function: Callable[..., xr.Dataset | Training]
    inputs: tuple[str, ...] = ()
    units: int | float = 1
    options: Options = field(default_factory=dict)

    def __post_init__(self):
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(f"stage {self.name!r}: a name is of letters, digits, '_', '.', '+' and '-'")
        if self.units <= 0:
            raise ValueError(f"stage {self.name!r}, units = {self.units}: must be positive")
        function, module = self.function, sys.modules.get(self.function.__module__)
        if vars(module).get(function.__name__) is not function:
            raise ValueError(f"stage {self.name!r}: {function.__qualname__} is not at the top level of its module")
        if json.loads(json.dumps(dict(self.options))) != dict(self.options):
            raise ValueError(f"stage {self.name!r}, options = {self.options}: give plain JSON values")


class Inputs(Mapping[str, Any]):
    """What a stage is given beside config and key; as a mapping, the results of the stages it names."""

    def __init__(
        self,
        results: Mapping[str, xr.Dataset | Training],
        folder: pathlib.Path,
        progress: AbstractProgress,
        keep: Callable[[str, Callable[[], xr.Dataset]], xr.Dataset],
        units: int | float = 1,
    ):
        self._results, self._progress, self._keep = results, progress, keep
        self.units = units
        """Units of work of the stage."""
        self.folder = folder
        """Where a training stage keeps its checkpoints; nobody else writes there."""

    def __getitem__(self, name: str) -> Any:
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def advance(self, units: int | float = 1, note: str = "") -> None:
        """Tell the progress bar that so many units are done; `note` stands behind it."""
        self._progress.advance(units, note)

    def keep(self, name: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
        """A part of a long stage that survives a kill: read if it was kept before, else computed and kept."""
        return self._keep(name, compute)

    def training(self, config: TrainConfig, loss: str = "loss {:.4f}") -> Callable[[int, float], None]:
        """The `report` of `train` and `descend`: spreads all units of this stage over the steps of training."""
        done = None

        def report(step: int, value: float) -> None:
            nonlocal done
            if done is None:  # the first chunk, perhaps of a training that is continued
                done = step - min(step, config.steps_per_chunk)
                self._progress.skip(self.units * done / config.steps)
            self.advance(self.units * (step - done) / config.steps, loss.format(value))
            done = step

        return report


def config_of(dataset: xr.Dataset) -> SimpleNamespace:
    """The config of the run that made a dataset, as plain values: the runner writes it into the attribute `config`."""
    return json.loads(dataset.attrs["config"], object_hook=lambda fields: SimpleNamespace(**fields))
