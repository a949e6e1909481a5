"""Figure of the experiment `text`."""

import xarray as xr
from matplotlib.figure import Figure

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page
from phasetree.experiment import Findings
from phasetree.experiments.text.analysis import shown_levels

STYLES = {"real": ("o", COLORS["trained"], "text"), "shuffled": ("s", COLORS["baseline"], "tokens shuffled")}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """chi and xi of pairs across words against noise; C(r) of the same at the peak and around it."""
    figure, ((left, middle, right),) = new_page(1, 3)
    for text in map(str, dataset.text.values):
        marker, color, label = STYLES[text]
        for axis, what in ((left, "chi"), (middle, "xi")):
            curves.points(axis, dataset.t, findings.curve(what, text), color=color, marker=marker, label=label)
    every = findings.curve("chi-all/real").value
    left.plot(dataset.t, every, color="0.6", linewidth=0.8, linestyle=":", label="with pairs within words")
    left.axhline(1, color="0.8", linewidth=0.6, zorder=0)
    left.set(xlabel="masked fraction $t$", ylabel=r"susceptibility $\chi$")
    middle.set(xlabel="masked fraction $t$", ylabel=r"correlation length $\xi$ (tokens)")
    for axis in (left, middle):
        axis.legend(fontsize=5.5)
    for index, shade in zip(shown_levels(dataset), (0.35, 1.0, 0.6), strict=False):
        t, shown = float(dataset.t[index]), slice(1, dataset.sizes["distance"] // 2)
        decay = findings.curve("correlation/real", t)
        part = Estimate(decay.value[shown], decay.stderr[shown])
        curves.points(right, dataset.distance[shown], part, color=COLORS["trained"], line="-", shade=shade, size=2,
                      label=f"t = {t:g}")  # fmt: skip
    right.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    right.set(xscale="log", xlabel="distance $r$ (tokens)", ylabel="$C(r)/C(0)$, across words")
    right.legend(fontsize=6)
    return figure
