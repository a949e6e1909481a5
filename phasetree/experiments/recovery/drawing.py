"""The figure of the experiment `recovery`."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, PALETTE, in_style, new_figure, new_page
from phasetree.experiment import Findings, config_of
from phasetree.experiments.recovery.analysis import learned_samples

MARKERS = ("o", "s", "^", "v", "D", "P", "X")


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Agreement against strings, strings against depth, and rules against strings; of a file, information by level."""
    if "information" in dataset:
        figure, (axis,) = new_figure()
        _information(axis, dataset, findings)
        return figure
    columns = 3 if "rules" in dataset else 2
    figure, (axes,) = new_page(1, columns)
    depth = int(dataset.depth[min(1, dataset.sizes["depth"] - 1)])
    _agreement(axes[0], dataset, findings, depth)
    _strings(axes[1], dataset, findings)
    if columns == 3:
        _rules(axes[2], dataset, findings)
    return figure


def style(dataset: xr.Dataset, name: str) -> dict:
    """Marker and colour of a statistic."""
    number = dataset.statistic.values.tolist().index(name)
    return {"marker": MARKERS[number % len(MARKERS)], "color": [*PALETTE, "0.4"][number % (len(PALETTE) + 1)]}


def _agreement(axis: Axes, dataset: xr.Dataset, findings: Findings, depth: int) -> None:
    """Of the level above the leaves."""
    for name in dataset.statistic.values.tolist():
        curve = findings.curve("agreement", name, depth, depth - 1)
        curves.points(axis, dataset.samples.values, curve, label=name, line="-", size=2.5, **style(dataset, name))
    scale = findings["strings", "predicted", depth].value
    axis.axvline(scale, color=COLORS["theory"], linewidth=0.8, zorder=0)
    axis.text(scale * 1.1, 0.02, "$n m^L$", fontsize=6)
    axis.set(xscale="log", xlabel="strings $P$", ylabel="adjusted Rand index", ylim=(-0.05, 1.05))
    axis.set_title(f"tuples of leaves, $L = {depth}$")
    axis.legend(fontsize=5, loc="lower right", handlelength=1.2)


def _strings(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """Until the children of the root are recovered, with n m^L scaled to the labels' first."""
    depths = dataset.depth.values
    for name in dataset.statistic.values.tolist():
        curve = findings.curve("strings", name)
        curves.points(axis, depths, curve, line="-", size=2.5, **style(dataset, name))
    predicted = np.asarray(findings.curve("strings", "predicted").value)
    axis.plot(depths, predicted, color=COLORS["theory"], linewidth=0.8, label="$n m^L$", zorder=0)
    axis.set(yscale="log", xlabel="depth $L$", ylabel="strings for an index of 1/2")
    axis.set_xticks(depths)
    axis.set_title("children of the root")
    axis.legend(fontsize=6)


def _rules(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """Found by clusters (open) and learned (filled), each level below the root."""
    samples = learned_samples(dataset, findings)
    levels = [level for level in dataset.level.values.tolist() if ("rules", "learned", level, samples[0]) in findings]
    for number, level in enumerate(levels):
        for source, filled in (("clusters", False), ("learned", True)):
            if level == 0 and source == "clusters":
                continue  # clusters have no root
            curve = findings.curve("rules", source, level)
            label = f"{'root' if level == 0 else f'level {level}'}, {source}"
            color, marker = PALETTE[number % len(PALETTE)], MARKERS[number]
            line = "-" if filled else ":"
            curves.points(
                axis, samples, curve, color=color, marker=marker, filled=filled, line=line, label=label, size=2.5
            )
    axis.set(xscale="log", xlabel="strings $P$", ylabel="rules found, share", ylim=(-0.05, 1.05))
    depths, about = dataset.depth.values, config_of(dataset)
    deep = next(depth for depth in depths if depth > 2)
    axis.axvline(about.num_symbols * about.num_synonyms**deep, color=COLORS["theory"], linewidth=0.8, zorder=0)
    axis.set_title(f"rules, $L = {deep}$")
    axis.legend(fontsize=5, loc="lower right")


def _information(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    levels = dataset.level.values
    for source, color, filled in (("found", COLORS["empirical"], True), ("shuffled", "0.5", False)):
        curve = findings.curve("information", source)
        known = np.isfinite(np.asarray(curve.value))
        points = Estimate(curve.value[known], curve.stderr[known])
        curves.points(axis, levels[known], points, color=color, filled=filled, label=source)
    axis.set(xlabel="level (leaves last)", ylabel="information of a sibling, nats")
    axis.set_xticks(levels)
    axis.legend()
