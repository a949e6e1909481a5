"""The report of the experiment `latent-diffusion`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.experiments.latent_diffusion.analysis import cases
from phasetree.recipes.sample_numbers import HALF


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """What is learned from how many strings, strings needed, fresh strings, the student, closing sentence."""
    about = config_of(dataset)
    title = (
        f"Random hierarchies, v = {about.num_symbols}, m = {about.num_synonyms}, s = {about.branching}, L = "
        f"{about.depth}; {about.num_grammars} grammars, networks of width {about.width}, {about.train.steps} steps, "
        f"seed {about.seed}."
    )
    parts: list[Table | str] = ["What networks of each level have learned of the topmost rules, by number of strings."]
    parts += [_by_strings(dataset, findings, "learned"), "Grammatical strings among those generated and expanded."]
    parts += [_by_strings(dataset, findings, "valid"), "Strings at which half of the topmost rules is learned."]
    parts += [_needed(dataset, findings), "Leaves, fresh strings: least excess loss, nats per masked site."]
    parts += [_fresh(dataset, findings)]
    share = with_error(findings["inside-all"].estimate)
    parts += [f"A tree of clusters, share inside by calls of the denoiser (the flow closely followed: {share})."]
    parts += [_student(dataset, findings), "What the student takes, in one call, to the node at which the flow ends."]
    parts += [_nodes(dataset, findings)]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _name(kind: str, level: int) -> str:
    return f"level {level}" if kind == "data" else f"level {level}, exact teacher"


def _by_strings(dataset: xr.Dataset, findings: Findings, what: str) -> Table:
    samples = dataset.samples.values.tolist()
    rows = [(_name(*case), *(findings[what, *case, count] for count in samples)) for case in cases(dataset)]
    return Table(("network", *map(str, samples)), tuple(rows))


def _needed(dataset: xr.Dataset, findings: Findings) -> Table:
    rows: list[tuple[str | Finding, ...]] = []
    for kind, level in cases(dataset):
        own: list[str | Finding] = [findings["strings", kind, level]]
        own += [findings["strings/predicted", level]] if kind == "data" else ["-"]
        own += [findings[name, level] for name in ("saved", "saved/predicted")] if kind == "data" else ["-", "-"]
        rows.append((_name(kind, level), *own))
    return Table(("network", "strings", "n m^l", "saved", "m^(L-l)"), tuple(rows))


def _fresh(dataset: xr.Dataset, findings: Findings) -> Table:
    names = ("fresh-best", "fresh-valid", "steps")
    rows = tuple((kind, *(findings[name, kind] for name in names)) for kind in dataset.kind.values.tolist())
    return Table(("target", "excess", "grammatical", "steps to the excess of data"), rows)


def _student(dataset: xr.Dataset, findings: Findings) -> Table:
    calls = dataset.calls.values.tolist()
    rows = [
        (f"{sampler}, inside", *(findings["inside", sampler, n] for n in calls))
        for sampler in dataset.sampler.values.tolist()
    ]
    return Table(("sampler", *(f"{n} calls" if n > 1 else "1 call" for n in calls)), tuple(rows))


def _nodes(dataset: xr.Dataset, findings: Findings) -> Table:
    levels = dataset.tree_level.values.tolist()
    return Table(tuple(f"level {level}" for level in levels), (tuple(findings["same", level] for level in levels),))


def _needed_in_words(dataset: xr.Dataset, findings: Findings, kind: str, level: int) -> str:
    """The strings, or the bound that the grid gives if the crossing lies outside of it."""
    needed = findings["strings", kind, level]
    if needed.resolved or needed.value > 0:
        return with_error(needed.estimate)
    samples = dataset.samples.values.tolist()
    part = dataset.sel(kind=kind, level=level)
    first, last = (1 - (part.best.sel(samples=count) / part.top) for count in (samples[0], samples[-1]))
    if (first >= HALF).all():
        return f"fewer than {samples[0]}"
    return f"more than {samples[-1]}" if (last < HALF).all() else "a number that not every grammar resolves"


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    depth, seed = config_of(dataset).depth, config_of(dataset).seed
    needed = [f"{_needed_in_words(dataset, findings, *case)} ({_name(*case)})" for case in cases(dataset)]
    text = f"Half of what the topmost rules tell is learned from {', '.join(needed)} strings"
    saved, cost = findings["saved", 1], findings["noise-of-labels"]
    if saved.value > 0:
        predicted = findings["saved/predicted", 1].value
        text += f", level 1 saves {with_error(saved.estimate)} times (m^{depth - 1} = {predicted:g})"
    if cost.value > 0:
        text += f" and the noise of labels costs {with_error(cost.estimate)} times"
    steps = [with_error(findings["steps", kind].estimate) for kind in ("teacher", "data")]
    text += f"; on fresh strings the teacher takes {steps[0]} steps to the loss that data reach in {steps[1]}"
    one = [with_error(findings["inside", name, 1].estimate) for name in ("student", "flow")]
    text += f"; in one call a student of the flow puts {one[0]} of data inside clusters, the flow {one[1]}"
    return f"{text} (seed {seed})."
