"""Figure of the experiment `text-demo`."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_figure
from phasetree.experiment import Findings

DASHES = {"unigram": ":", "bigram": "-.", "trigram": "--"}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Bits per character against masked fraction beside the n-grams; fraction of tokens and words changed below."""
    figure, axes = new_figure(rows=2)
    _plot_bits(axes[0], dataset, findings)
    _plot_changes(axes[1], dataset, findings)
    for axis in axes:
        axis.set(xlabel="masked fraction $t$", xlim=(0, 1.02))
    return figure


def _plot_bits(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for name in map(str, dataset.ngram.values):
        value = findings["bits", name].value
        axis.axhline(value, color=COLORS["baseline"], linestyle=DASHES[name], linewidth=1)
        axis.annotate(f"{name} {value:.2f}", (0.02, value), xytext=(0, 2), textcoords="offset points", fontsize=7)
    bound = findings["bits/bound"].value
    axis.axhline(bound, color=COLORS["theory"], linewidth=1)
    label = f"bound {bound:.2f}, mean of $b(t)$"
    axis.annotate(label, (0.02, bound), xytext=(0, 2), textcoords="offset points", fontsize=7)
    curves.points(axis, dataset.t, findings.curve("masked-bits"), color=COLORS["trained"])
    axis.set(ylabel="$b(t)$ (bits per character)", ylim=(0, 1.12 * float(dataset.ngram_bits.max())))


def _plot_changes(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    axis.plot([0, 1], [0, 1], color=COLORS["theory"], linewidth=1, label="every masked token")
    for kind, marker, color in (("tokens", "o", COLORS["exact"]), ("words", "s", COLORS["trained"])):
        changed = findings.curve(f"{kind}-changed")
        curves.points(axis, dataset.t, changed, color=color, marker=marker, filled=marker == "o", label=kind)
    axis.set(ylabel="fraction changed", ylim=(0, 1.02))
    axis.legend(loc="lower right", fontsize=7, frameon=False)
