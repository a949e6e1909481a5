"""The findings of the experiment `latent-diffusion`. KIND is data or teacher, LEVEL 1 .. L, the leaves.

learned/KIND/LEVEL/P       measured: what a network of P strings has learned of the topmost rules, (1) of `learning.py`
valid/KIND/LEVEL/P         measured: share of grammatical strings among those generated and expanded
strings/KIND/LEVEL         measured: P at which `learned` crosses 1/2
strings/predicted/LEVEL    predicted: n m^l
saved/LEVEL                measured: `strings` at the leaves over those at the level, mean over grammars
saved/predicted/LEVEL      predicted: m^(L-l)
noise-of-labels            measured: `strings` at the leaves with data over those with the teacher
fresh/KIND/STEP            measured: excess loss on fresh strings, nats per masked site
fresh-best/KIND, fresh-valid/KIND
steps/KIND                 measured: steps on fresh strings to the least excess that training with data reaches
inside/SAMPLER/CALLS       measured: share inside a cluster; SAMPLER is flow or student
same/LEVEL                 measured: share that the student, in one call, takes to the node at which the flow ends
inside/flow/all            measured: share inside, the flow closely followed

Errors are over grammars; of the student, one network, over points. Crossings are read grammar by grammar, the first,
linearly in ln P with what is negative put to 0, and averaged in ln P. A mean is NaN if one grammar's curve has no
crossing in the grid.
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings, config_of
from phasetree.findings import path
from phasetree.recipes.sample_numbers import crossing, geometric_mean

NATS = "nats per masked site"


def analyse(dataset: xr.Dataset) -> Findings:
    """What is learned from how many strings, strings saved, the teacher's gain, the student."""
    return Findings([*_of_strings(dataset), *_of_fresh(dataset), *_of_student(dataset)])


def cases(dataset: xr.Dataset) -> list[tuple[str, int]]:
    """(kind, level) of all networks on few strings."""
    levels = dataset.level.values.tolist()
    return [("data", level) for level in levels] + [("teacher", levels[-1])]


def _of_strings(dataset: xr.Dataset) -> list[Finding]:
    about, samples, found, logs = config_of(dataset), dataset.samples.values, [], {}
    leaves = dataset.level.values.tolist()[-1]
    for case in cases(dataset):
        part = dataset.sel(kind=case[0], level=case[1]).transpose("grammar", "samples", ...)
        rows = 1 - part.best.values / part.top.values[:, None]
        bounded = np.maximum(rows, 0)  # learned has no lower limit, which would draw what lies between to one side
        for number, count in enumerate(samples):
            found.append(_measured(path("learned", *case, count), rows[:, number], "1"))
            found.append(_measured(path("valid", *case, count), part.valid.values[:, number], "1"))
        logs[case] = np.array([crossing(samples, row) for row in bounded])
        found.append(Finding(path("strings", *case), geometric_mean(logs[case]), "measured", "strings"))
    for level in dataset.level.values.tolist():
        n, m = about.num_symbols, about.num_synonyms
        saved = geometric_mean(logs["data", leaves] - logs["data", level])
        found += [
            Finding.exact(path("strings/predicted", level), float(n * m**level), "predicted", "strings"),
            Finding.exact(path("saved/predicted", level), float(m ** (leaves - level)), "predicted", "1"),
            Finding(path("saved", level), saved, "measured", "1"),
        ]
    cost = geometric_mean(logs["data", leaves] - logs["teacher", leaves])
    return [*found, Finding("noise-of-labels", cost, "measured", "1")]


def _of_fresh(dataset: xr.Dataset) -> list[Finding]:
    found, steps = [], dataset.step.values
    goal = dataset.fresh_excess.sel(kind="data").min("step")
    for kind in dataset.kind.values.tolist():
        excess = dataset.fresh_excess.sel(kind=kind).transpose("grammar", "step")
        for step in steps:
            found.append(_measured(path("fresh", kind, step), excess.sel(step=step).values, NATS))
        reached = np.array([first_below(steps, *pair) for pair in zip(excess.values, goal.values, strict=True)])
        found += [
            _measured(path("fresh-best", kind), dataset.fresh_best.sel(kind=kind).values, NATS),
            _measured(path("fresh-valid", kind), dataset.fresh_valid.sel(kind=kind).values, "1"),
            _measured(path("steps", kind), reached, "steps"),
        ]
    return found


def first_below(steps: np.ndarray, excess: Float[np.ndarray, " steps"], goal: float) -> float:
    """The first of the steps at which the excess is no larger than the goal; NaN if there is none."""
    below = np.flatnonzero(excess <= goal)
    return float(steps[below[0]]) if len(below) else np.nan


def _of_student(dataset: xr.Dataset) -> list[Finding]:
    points = config_of(dataset).num_points
    found = [Finding("inside-all", _share(dataset.inside_all, points), "measured", "1")]
    for sampler in dataset.sampler.values.tolist():
        for calls in dataset.calls.values.tolist():
            inside = _share(dataset.inside.sel(sampler=sampler, calls=calls), points)
            found.append(Finding(path("inside", sampler, calls), inside, "measured", "1"))
    for level in dataset.tree_level.values.tolist():
        same = _share(dataset.same.sel(sampler="student", calls=1, tree_level=level), points)
        found.append(Finding(path("same", level), same, "measured", "1"))
    return found


def _share(share: xr.DataArray, points: int) -> Estimate:
    """A share of independent points with its binomial error."""
    p = float(share)
    near = (p * points + 1) / (points + 2)  # so that the error of 0 and 1 is not 0
    return Estimate(jnp.asarray(p), jnp.asarray(np.sqrt(near * (1 - near) / points)))


def _measured(name: str, rows: Float[np.ndarray, " grammars"], unit: str) -> Finding:
    return Finding(name, mean_estimate(np.asarray(rows, np.float64)), "measured", unit)
