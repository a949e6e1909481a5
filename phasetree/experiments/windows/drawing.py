"""Figure and report of the experiment `windows`."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_figure, with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.windows.analysis import EDGES, THRESHOLD, level_offset, variance
from theory.gaussian.speciation import clone_probability, signal


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Each level's retention, given that of the level above, against noise time; windows as bars."""
    figure, (axis,) = new_figure()
    levels = dataset.level.values.tolist()
    last = 1.25 * float(dataset.t.max())
    for level, shade in zip(levels, np.linspace(1, 0.4, len(levels)), strict=True):
        style = {"shade": shade, "label": "theory" if level == 1 else None}
        curves.function(axis, np.linspace(0, last, 300)[1:], _theory(dataset, level), color=COLORS["theory"], **style)
        window = [findings[edge, "theory", level].value for edge in ("window-start", "window-end")]
        label = "window" if level == 1 else None
        axis.plot(window, 2 * [0.47 - 0.012 * level], color="0.6", linewidth=2, clip_on=True, label=label)
        decided = findings["decided", "theory", level].value
        axis.text(decided, 1.02, f"level {level}", ha="center", fontsize=6)
        curves.marks(axis, [decided])
        for kind in dataset.denoiser.values.tolist():
            curves.points(
                axis, dataset.t.sel(window=level), findings.curve("kept", kind, level), color=COLORS[kind],
                marker=curves.MARKERS[kind], filled=kind != "exact", shade=shade, label=kind if level == 1 else None,
            )  # fmt: skip
    curves.threshold(axis, THRESHOLD, label="$S = 1$")
    axis.set(xlabel="noise time $t$", ylabel="node kept, if its parent is", ylim=(0.4, 1.07), xlim=(0, last))
    axis.legend(loc="upper right", bbox_to_anchor=(1, 0.9), fontsize=5.5)
    return figure


def _theory(dataset: xr.Dataset, level: int) -> Callable[[float], float]:
    """The probability that a level is kept, as a function of noise time."""
    squared_norm, s2 = level_offset(dataset, level) ** 2, variance(dataset)
    return lambda t: clone_probability(float(signal(squared_norm, s2, t)))


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Each level's crossing against theory, its window, closing sentence."""
    about = config_of(dataset)
    title = (
        f"A binary tree of clusters, s = {about.std:g}; {dataset.sizes['trajectory']} U-turns at each of "
        f"{dataset.sizes['offset']} noise times around that of each level, seed {about.seed}. Decided: the time at "
        f"which a level is kept with probability {THRESHOLD:.4f} where the level above is. Window: the times at which "
        f"the total variation between the two children is {EDGES[0]} and {EDGES[1]}."
    )
    rows = []
    for kind in dataset.denoiser.values.tolist():
        for level in dataset.level.values.tolist():
            early, late = (findings[edge, "theory", level].value for edge in ("window-start", "window-end"))
            numbers = (findings["decided", kind, level], findings["decided", "theory", level])
            row = (kind, level, f"{level_offset(dataset, level):g}", *numbers, findings["delay", kind, level])
            rows.append((*row, f"{early:.2f} to {late:.2f}"))
    header = ("denoiser", "level", "m_l", "decided at", "predicted", "difference", "window")
    return Report(title, (Table(header, tuple(rows)),), _closing(dataset, findings))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    levels, clauses = dataset.level.values.tolist(), []
    for kind in dataset.denoiser.values.tolist():
        level = max(levels, key=lambda k, kind=kind: abs(findings["delay", kind, k].value))
        delay = with_error(findings["delay", kind, level].estimate)
        clauses.append(f"{kind} denoiser, largest difference {delay} (level {level})")
    times = ", ".join(f"{findings['decided', 'theory', level].value:.3f}" for level in levels)
    seed = config_of(dataset).seed
    return f"Levels are decided at t = {times}, predicted; {'; '.join(clauses)} (seed {seed})."
