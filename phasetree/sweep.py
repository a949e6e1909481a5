"""Several seeds of one experiment: the findings of all runs, averaged.

A seed draws the data, the grammar and the network anew, and each run has a folder of its own. A finding of the average
is the mean over the runs; its error comes from their scatter alone, whatever errors the runs state. A run's own error
is over strings or trajectories of one grammar and one network, so a scatter above it is what grammars and networks
differ by.
"""

import contextlib
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Experiment, Finding, Findings, Report, Table
from phasetree.findings import path
from phasetree.runner.choose import configure, find_experiment
from phasetree.runner.folder import RunFolder
from phasetree.runner.identity import run_identity
from phasetree.runner.run import execute


@dataclass(frozen=True)
class Sweep:
    """What several seeds end with."""

    findings: Findings
    """Averages, see `average`."""
    runs: dict[int, Findings]
    """By seed."""
    report: Report
    folder: pathlib.Path


def run_seeds(
    experiment: str | Experiment | ModuleType,
    seeds: Sequence[int],
    *,
    preset: str = "default",
    out: str | pathlib.Path | None = None,
    **options: Any,
) -> Sweep:
    """Run an experiment once for each seed, and average the findings.

    Args:
      experiment, preset, options: as of `run`; `seed` is not among them.
      seeds: two or more, all different.
      out: its subfolders `seedN` hold the runs, `seedsFIRST-LAST` the average; None: `results/EXPERIMENT-PRESET-seedN`
        and `results/EXPERIMENT-PRESET-seedsFIRST-LAST`.

    Raises:
      ValueError: if there are fewer than two seeds, or as `run`.
      FolderError: if a folder cannot be used or is damaged.
    """
    name, found = find_experiment(experiment)
    configs = [configure(found, preset, options | {"seed": int(seed)}) for seed in seeds]
    with jax.enable_x64(True):
        return execute_seeds(name, found, configs, out)


def execute_seeds(
    name: str, experiment: Experiment, configs: Sequence[Any], out: str | pathlib.Path | None = None
) -> Sweep:
    """`run_seeds` for configs that are made already and differ in their seeds: the command line calls this."""
    seeds = [config.seed for config in configs]
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(f"seeds = {seeds}: give two or more, all different")
    base = f"{pathlib.Path(out).expanduser()}/" if out else f"results/{name}-{configs[0].label}-"
    runs, shown, closings = {}, {}, []
    for config in configs:
        result = execute(name, experiment, config, f"{base}seed{config.seed}")
        runs[config.seed] = result.findings
        shown |= dict.fromkeys(finding.name for finding in result.report.findings())
        closings.append(f"- seed {config.seed}: {result.report.closing}")
    averages = average(list(runs.values()))
    report = _report(name, averages, runs, list(shown), closings)
    identity = run_identity(name, experiment.GENERATION, configs[0]) | {"seed": seeds}
    with contextlib.closing(RunFolder(f"{base}seeds{seeds[0]}-{seeds[-1]}", identity)) as folder:
        folder.write("findings.json", averages.to_json().encode())
        folder.write("report.md", report.markdown().encode())
        return Sweep(averages, runs, report, folder.path)


def average(runs: Sequence[Findings]) -> Findings:
    """The mean over runs of every finding that all of them have, its error from the scatter between them.

    The name `NAME` has the mean, `scatter/NAME` the standard deviation between runs. A finding that is not resolved in
    some run is not resolved in the average; its note says in how many it was.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} runs: an average with an error needs two or more")
    averages, scatters = [], []
    for first in runs[0]:
        if not all(first.name in findings for findings in runs):
            continue
        same = [findings[first.name] for findings in runs]
        resolved = sum(math.isfinite(finding.value) for finding in same)
        note = first.note if resolved == len(runs) else f"resolved in {resolved} of {len(runs)} runs"
        with jax.enable_x64(True):
            values = jnp.stack([finding.estimate.value for finding in same])
            mean, deviation = mean_estimate(values), jnp.std(values, ddof=1)
            spread = Estimate(deviation, deviation / (2 * (len(runs) - 1)) ** 0.5)
        averages.append(Finding(first.name, mean, first.kind, first.unit, note))
        scatters.append(Finding(path("scatter", first.name), spread, first.kind, first.unit, "between runs"))
    return Findings([*averages, *scatters])


def _report(
    name: str, averages: Findings, runs: dict[int, Findings], shown: Sequence[str], closings: Sequence[str]
) -> Report:
    """The findings that stand in the tables of the runs, beside the errors that the runs state."""
    rows = []
    for finding in (name for name in shown if name in averages):
        stated = np.sqrt(np.mean([findings[finding].stderr ** 2 for findings in runs.values()]))
        mean, scatter = averages[finding], averages["scatter", finding]
        rows.append((finding, mean, scatter, f"{stated:.2g}" if np.isfinite(stated) else "?"))
    header = ("finding", "mean of seeds", "scatter", "stated")
    seeds = ", ".join(map(str, runs))
    return Report(
        f"**{name}**, seeds {seeds}. The scatter is the standard deviation between seeds, from which the errors of the "
        "means follow; beside it the standard error that a run states, a root mean square.",
        (Table(header, tuple(rows)), *closings),
        f"Averages of {len(averages) // 2} findings over {len(runs)} seeds ({seeds}).",
    )
