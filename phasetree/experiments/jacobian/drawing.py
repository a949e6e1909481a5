"""Figure of the experiment `jacobian`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import mean_estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page
from phasetree.experiment import Findings
from phasetree.experiments.jacobian.analysis import rows
from phasetree.experiments.processes import AXIS


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """The largest eigenvalue beside the class, and the subtrees that hold the leading vector."""
    figure, ((left, right),) = new_page(1, 2)
    _top(left, dataset, findings)
    _held(right, dataset, findings)
    for axis in (left, right):
        axis.set_xlabel(AXIS["gaussian"])
        curves.marks(axis, [findings["transition/class"].value], color="0.4", label="class lost")
        curves.marks(axis, [findings["threshold/annealed"].value], label="annealed, infinite depth")
    left.legend(fontsize=6, loc="upper right")
    right.legend(fontsize=6, loc="lower left")
    return figure


def _top(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for kind in map(str, dataset.denoiser.values):
        label = "exact, mean over grammars" if kind == "exact" else "trained, first grammar"
        color, marker, line = COLORS[kind], curves.MARKERS[kind], "-" if kind == "exact" else ""
        top = findings.curve("top", kind)
        curves.points(axis, dataset.t, top, color=color, marker=marker, line=line, label=label)
    if "trained" in dataset.denoiser:
        same = mean_estimate(rows(dataset.isel(grammar=slice(1)), "value", "exact"))
        axis.plot(dataset.t, same.value, ":", color=COLORS["exact"], label="exact, first grammar")
    belief = np.asarray(findings.curve("class").value)
    highest = float(jnp.max(findings.curve("top", "exact").value))
    axis.plot(
        dataset.t, belief * highest, "--", color=COLORS["theory"], linewidth=0.8, label="belief in the class, scaled"
    )
    axis.set(ylabel="largest eigenvalue of $J$")
    axis.set_ylim(0, 1.5 * axis.get_ylim()[1])  # room for the legend


def _held(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """The share of the leading vector in the best subtree of each level below the root."""
    shares, color = mean_estimate(rows(dataset, "share", "exact")), COLORS["exact"]
    levels = dataset.sizes["level"]
    for level, shade in zip(range(1, levels), curves.shades(levels - 1, darkest_last=False), strict=True):
        label = f"level {level}" if level < levels - 1 else "one leaf"
        axis.plot(dataset.t, shares.value[:, level], color=color, alpha=shade, label=label)
        low, high = (shares.value[:, level] + sign * shares.stderr[:, level] for sign in (-1, 1))
        axis.fill_between(dataset.t, low, high, color=color, alpha=0.2 * shade, linewidth=0)
    axis.set(ylabel="share of its vector in one subtree", ylim=(0, 1.03))
