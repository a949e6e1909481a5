"""Figure of the experiment `images`."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, PAGE, in_style
from phasetree.experiment import Findings
from phasetree.experiments.images.analysis import DECIDED

STYLES = {
    "embedding": ("o", COLORS["trained"], "embedding"),
    "control": ("s", COLORS["baseline"], "embedding, patches mixed"),
    "pixels": ("^", COLORS["exact"], "pixels"),
}
COLUMNS = 7  # images in a row of the figure


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """chi, xi and class retention against noise; below, images regenerated, with the changed patches framed."""
    examples = dataset.sizes["example"]
    figure = Figure(figsize=(PAGE, 2.3 + 0.95 * examples), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=[2.3, 0.95 * examples])
    top, bottom = (figure.add_subfigure(part) for part in parts)
    left, middle, right = (top.add_subplot(1, 3, number + 1) for number in range(3))
    for kind, (marker, color, label) in STYLES.items():
        for axis, what in ((left, "chi"), (middle, "xi")):
            curves.points(axis, dataset.t, findings.curve(what, kind), color=color, marker=marker, label=label)
    left.axhline(1, color="0.8", linewidth=0.6, zorder=0)
    left.set(xlabel="noise time $t$", ylabel=r"susceptibility $\chi$ (patches)")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])
    left.legend(fontsize=5.5, ncols=2, loc="upper right")
    middle.set(xlabel="noise time $t$", ylabel=r"correlation length $\xi$ (patches)")
    _plot_retention(right, dataset, findings)
    _plot_examples(bottom, dataset)
    return figure


def _plot_retention(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    axis.set(xlabel="noise time $t$", ylabel="class kept")
    if "class-lost" not in findings:
        axis.text(0.5, 0.5, "no classes", ha="center", transform=axis.transAxes)
        return
    curves.points(axis, dataset.t, findings.curve("class-kept"), color=COLORS["trained"], label="trained")
    chance = dataset.attrs["chance"]
    axis.axhline(chance, color="0.8", linewidth=0.6, zorder=0, label="chance")
    curves.threshold(axis, (1 + chance) / 2, label="half-way")
    for time, line in zip(findings.select("speciation-time"), ("-", "--"), strict=False):
        axis.axvline(time.value, color=COLORS["theory"], linewidth=0.6, linestyle=line, label=time.note)
    if "decided" in findings:
        axis.axhline(DECIDED, color="0.6", linewidth=0.6, linestyle="-.", zorder=0, label="decided")
    axis.legend(fontsize=5.5)
    axis.set_ylim(0, 1.05)


def _plot_examples(figure: SubFigure, dataset: xr.Dataset) -> None:
    """Patches whose embedding moved by more than half of the mean displacement at the largest noise are framed."""
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, COLUMNS).round().astype(int))
    moved = float(dataset.displacement.isel(t=-1).mean()) / 2
    panels = figure.subplots(dataset.sizes["example"], 1 + len(levels), squeeze=False)
    columns, patch = int(dataset.attrs["columns"]), int(dataset.attrs["patch"])
    for example, row in enumerate(panels):
        pictures = [dataset.original.values[example], *dataset.regenerated.values[levels, example]]
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture.squeeze() if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        for axis, level in zip(row[1:], levels, strict=True):
            for number in np.flatnonzero(dataset.displacement.values[level, example] > moved):
                place = (patch * (number % columns) - 0.5, patch * (number // columns) - 0.5)
                axis.add_patch(Rectangle(place, patch, patch, fill=False, edgecolor=COLORS["trained"], linewidth=0.7))
    for axis, title in zip(panels[0], ["original", *(f"t = {dataset.t.values[i]:g}" for i in levels)], strict=True):
        axis.set_title(title, fontsize=7)
