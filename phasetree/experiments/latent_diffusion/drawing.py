"""The figure of the experiment `latent-diffusion`."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, PALETTE, in_style, new_page
from phasetree.experiment import Findings
from phasetree.experiments.latent_diffusion.analysis import cases

KIND = {"data": ("s", "trained", "data"), "teacher": ("o", "exact", "exact teacher")}
SAMPLER = {"flow": ("o", "exact", "exact flow"), "student": ("s", "trained", "student")}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """What is learned from how many strings, by level; fresh strings by step; and few steps of the flow."""
    figure, ((left, middle, right),) = new_page(1, 3)
    _strings(left, dataset, findings)
    _fresh(middle, dataset, findings)
    _student(right, dataset, findings)
    return figure


def _strings(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """With data by level, with the teacher at the leaves; vertical lines are n m^l."""
    for kind, level in cases(dataset):
        color = PALETTE[(level - 1) % len(PALETTE)]
        teacher = kind == "teacher"
        curves.points(
            axis, dataset.samples, findings.curve("learned", kind, level), color=color, size=2.5, filled=not teacher,
            marker="o" if teacher else "s", line="--" if teacher else "-",
            label="leaves, exact teacher" if teacher else f"level {level}",
        )  # fmt: skip
        if not teacher:
            axis.axvline(
                findings["strings/predicted", level].value, color=color, linewidth=0.6, linestyle=":", zorder=0
            )
    curves.threshold(axis, 0.5)
    axis.set(
        xscale="log", xlabel="strings $P$ (dotted: $n m^l$)", ylabel="learned of the topmost rules", ylim=(-1.05, 1.1)
    )
    axis.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2)


def _fresh(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for kind in dataset.kind.values.tolist():
        marker, color, label = KIND[kind]
        curve = findings.curve("fresh", kind)
        curves.points(axis, dataset.step, curve, color=COLORS[color], marker=marker, size=2.5, line="-", label=label)
    axis.set(yscale="log", xlabel="steps on fresh strings", ylabel="excess loss (nats per site)")
    axis.legend(fontsize=6)


def _student(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for sampler in dataset.sampler.values.tolist():
        marker, color, label = SAMPLER[sampler]
        style = {"color": COLORS[color], "marker": marker, "size": 2.5}
        curves.points(
            axis, dataset.calls, findings.curve("inside", sampler), line="-", label=f"{label}, inside", **style
        )
    same = findings["same", dataset.tree_level.values.tolist()[-1]].value
    axis.plot([1], [same], "^", color=COLORS["empirical"], markersize=4, label="student, same cluster")
    axis.axhline(findings["inside-all"].value, color=COLORS["theory"], linewidth=0.8, zorder=0)
    axis.set(xscale="log", xlabel="calls of the denoiser", ylabel="share of data", ylim=(-0.03, 1.05))
    axis.set_xticks(dataset.calls.values, [f"{n}" for n in dataset.calls.values])
    axis.minorticks_off()
    axis.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2)
