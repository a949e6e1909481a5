"""Report of the experiment `susceptibility`."""

from types import SimpleNamespace

import numpy as np
import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.experiments.processes import AXIS
from phasetree.experiments.susceptibility.analysis import CONTROLS, top
from phasetree.recipes.training import training_lines

TITLES = {"mean-field": "mean field", "exact": "exact BP", "trained": "trained"}


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """chi and xi at every noise level, losses, controls, and one closing sentence."""
    config = config_of(dataset)
    names = [name for name in TITLES if len(findings.select("chi", name))]
    statistics = [(what, name) for name in names for what in ("chi", "xi")]
    sampled = "exact covariances" if config.process == "epsilon" else f"{config.num_trajectories} trajectories"
    title = (
        f"Correlated changes, {_sizes(config)}, {config.process}, {config.num_data} data of each of "
        f"{config.num_grammars} grammars, {sampled}, seed {config.seed}; xi in sites:"
    )
    rows: list[tuple[str | Finding, ...]] = []
    for t in map(float, dataset.t.values):
        changed = f"{findings['changed', 'exact', t].value:.3f}"
        rows.append((f"{t:.4g}", changed, *(findings[what, name, t] for what, name in statistics)))
    header = ("t", "changed", *(f"{what}, {TITLES[name].removesuffix(' BP')}" for what, name in statistics))
    lines = [*training_lines(findings), *_distance_lines(dataset, findings), *_control_lines(dataset, findings)]
    parts = (Table(header, tuple(rows)), *lines, *_depth_table(dataset, findings))
    return Report(title, parts, _closing(dataset, findings, names))


def _distance_lines(dataset: xr.Dataset, findings: Findings) -> list[str]:
    """How far the other sites are, without the site itself; xi of the network against exact."""
    first, peak = float(dataset.t[0]), top(dataset, findings, "exact")
    near, far = (with_error(findings["others", "exact", t].estimate) for t in (first, peak))
    lines = [f"Mean distance of the other sites that change with a site: {near} at t = {first:.3g}, {far} at the peak."]
    if "xi-gap" in findings:
        gap = findings["xi-gap"]
        lines.append(
            f"xi of trained minus exact, paired, is most errors from 0 at {gap.note}: {with_error(gap.estimate)}."
        )
    return lines


def _depth_table(dataset: xr.Dataset, findings: Findings) -> list[Table]:
    if "depth" not in dataset:
        return []
    peaks = [(depth, findings["peak-at-depth", depth]) for depth in dataset.depth.values.tolist()]
    return [Table(("L", "chi at its peak", "where"), tuple((str(L), peak, peak.note) for L, peak in peaks))]


def _control_lines(dataset: xr.Dataset, findings: Findings) -> list[str]:
    lines = []
    for name, title in CONTROLS.items():
        if name in dataset.denoiser:
            lines.append(f"Control, {title} (of the first grammar): {_peak_words(dataset, findings, name)}.")
    if "chi/field" in {finding.name.rpartition("/")[0] for finding in findings}:
        grows = all((np.diff(findings.curve(what, "field").value) > 0).all() for what in ("chi", "xi"))
        word = "grow with the noise up to the last level" if grows else "do NOT grow monotonically"
        lines.append(f"Control, Gaussian random field with spectrum 1/k (closed form): chi and xi {word}.")
    return lines


def _peak_words(dataset: xr.Dataset, findings: Findings, name: str) -> str:
    t = top(dataset, findings, name)
    value, first, last = (
        with_error(findings[what].estimate)
        for what in (("chi", name, t), ("peak-above-first", name), ("peak-above-last", name))
    )
    return f"chi is largest at t = {t:.3g}, {value}, {first} above the first and {last} above the last noise level"


def _closing(dataset: xr.Dataset, findings: Findings, names: list[str]) -> str:
    config, parts = config_of(dataset), []
    where = AXIS[config.process].split("$")[0].strip()
    for name in names:
        t = top(dataset, findings, name)
        parts.append(f"{TITLES[name]} chi = {with_error(findings['chi', name, t].estimate)} at {where} {t:.3g}")
    sentence = f"Changes are most correlated: {', '.join(parts)}"
    for pair, words in (("trained-exact", "trained from exact"), ("exact-mean-field", "exact from mean field")):
        if ("gap", pair) in findings:
            gap = findings["gap", pair]
            sentence += f"; the largest difference of {words} is {with_error(gap.estimate)}% ({gap.note})"
    return f"{sentence} ({_sizes(config)}, seed {config.seed})."


def _sizes(config: SimpleNamespace) -> str:
    sizes = config.num_symbols, config.num_synonyms, config.branching, config.depth
    return f"(v, m, s, L) = {sizes}"
