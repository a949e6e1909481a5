"""`phasetree.run`: one experiment, from its config to its findings, kept in one folder.

    RESULTS/
      config.json       the identity of the run: experiment, generation, every option
      stages/NAME.nc    the result of each finished stage; a repeated run reads it instead of computing
      checkpoints/      of the training stages
      networks/NAME/    the denoiser that the training stage NAME ended with: `phasetree.open_network` reads it;
                        a repeated run writes one that is damaged again, from its checkpoint
      data.nc           the result: named dimensions, opened by anything that reads netCDF
      findings.json     the named numbers that the report is made of
      figure.png, figure.pdf
      report.md         tables and closing sentence, as printed
      provenance.json   versions, device, dtype, commit, wall time
      checksums/        of all of these files

All but `provenance.json` depend on the config alone, not on when or in how many pieces it was computed.
"""

import contextlib
import io
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal

import jax
from matplotlib.figure import Figure

from phasetree.experiment import Experiment
from phasetree.progress import Progress
from phasetree.results import Result, provenance
from phasetree.runner.choose import configure, find_experiment
from phasetree.runner.folder import RunFolder
from phasetree.runner.identity import run_identity
from phasetree.runner.local import run_stages, to_bytes


def run(
    experiment: str | Experiment | ModuleType,
    *,
    preset: str = "default",
    out: str | pathlib.Path | Literal[False] | None = None,
    start: str | pathlib.Path | None = None,
    **options: Any,
) -> Result:
    """Run an experiment, or read what an earlier run of the same options has finished.

    Args:
      experiment: its name ("transition"), a dotted module name, or a module or object of one's own with the parts that
        `phasetree.experiment` describes.
      preset: where all options start from.
      out: the folder of the run; None: `results/EXPERIMENT-PRESET-seedN`, as on the command line; False: a temporary
        folder, removed at the end.
      start: the folder of a finished run whose trainings this run continues, with more `steps` at a learning rate that
        does not fall (`final_rate=1`): else, or if anything else that training depends on differs, it is refused.
      options: fields of the experiment's `Config`, and of its `train`: `depth=3`, `steps=1000`.

    Returns:
      Data, findings, figure and report. All computing is in float64 where theory needs it, whatever JAX is set to.

    Raises:
      ValueError: if there is no such experiment, preset or option, or an option is out of range.
      FolderError: if the folder cannot be used or is damaged.
    """
    name, chosen = find_experiment(experiment)
    with jax.enable_x64(True):
        return execute(name, chosen, configure(chosen, preset, options), out, start)


def execute(
    name: str,
    experiment: Experiment,
    config: Any,
    out: str | pathlib.Path | Literal[False] | None = None,
    start: str | pathlib.Path | None = None,
) -> Result:
    """`run` for a complete config, in the precision that JAX is set to: the command line calls this."""
    started = time.time()
    with _folder(name, config, out) as path, contextlib.closing(_opened(path, name, experiment, config)) as folder:
        with folder.removed_if_unused():
            stages = experiment.plan(config)
            if start is not None:
                folder.begin_from(pathlib.Path(start))
            with Progress(sum(stage.units for stage in stages), name) as progress:
                results = run_stages(stages, config, folder, progress)
            dataset = experiment.collect(config, results).assign_attrs(config=folder.identity, experiment=name)
        findings = experiment.analyse(dataset)
        report, figure = experiment.tell(dataset, findings), experiment.draw(dataset, findings)
        folder.write("data.nc", to_bytes(dataset))
        folder.write("findings.json", findings.to_json().encode())
        folder.write("figure.png", _drawn(figure, "png"))
        folder.write("figure.pdf", _drawn(figure, "pdf"))
        folder.write("report.md", report.markdown().encode())
        for page, text in report.pages.items():
            folder.write(page, text.encode())
        folder.write("provenance.json", (json.dumps(provenance(time.time() - started), indent=1) + "\n").encode())
        return Result(dataset, findings, figure, report, None if out is False else folder.path)


def _opened(path: pathlib.Path, name: str, experiment: Experiment, config: Any) -> RunFolder:
    return RunFolder(path, run_identity(name, experiment.GENERATION, config))


@contextlib.contextmanager
def _folder(name: str, config: Any, out: str | pathlib.Path | Literal[False] | None) -> Iterator[pathlib.Path]:
    if out is False:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary) / name
    else:
        yield pathlib.Path(out or f"results/{name}-{config.label}-seed{config.seed}")


def _drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a file, without the date, so that equal figures are equal files."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=200, metadata={"CreationDate": None} if kind == "pdf" else None)
    return file.getvalue()
