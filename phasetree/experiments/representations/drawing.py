"""Figure of the experiment `representations`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import PALETTE, in_style, new_page
from phasetree.experiment import Findings
from phasetree.experiments.representations.analysis import kinds, layers, middle

ROWS = {"posterior": "exact posterior", "true": "true symbols"}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """R^2 of probes of every level, layer by layer, in the middle of the times; random weights dotted."""
    figure, panels = new_page(len(ROWS), dataset.sizes["network"])
    for row, (name, title) in zip(panels, ROWS.items(), strict=True):
        for axis, kind in zip(row, kinds(dataset), strict=True):
            _panel(axis, dataset, findings, name, kind)
            axis.set_title(f"{kind}: {title}", fontsize=8)
        row[0].set_ylabel("$R^2$ of linear probes")
    panels[0][0].legend(fontsize=6)
    return figure


def _panel(axis: Axes, dataset: xr.Dataset, findings: Findings, name: str, kind: str) -> None:
    shown, t = layers(dataset, kind), middle(dataset)
    for level in dataset.level.values.tolist():
        color = PALETTE[level % len(PALETTE)]
        for weights in ("trained", "random"):
            cells = [findings[name, kind, weights, layer, level, t].estimate for layer in shown]
            values = Estimate(*(jnp.stack([getattr(cell, part) for cell in cells]) for part in ("value", "stderr")))
            trained = weights == "trained"
            style = {"line": "-", "size": 3.0} if trained else {"line": ":", "size": 2.0}
            label = f"level {level}" if trained else None
            curves.points(axis, np.arange(len(shown)), values, label=label, color=color, filled=trained, **style)
    axis.set_xticks(range(len(shown)), [layer.replace("_", " ") for layer in shown], rotation=45, fontsize=6)
    axis.set_ylim(-0.05, 1.05)
