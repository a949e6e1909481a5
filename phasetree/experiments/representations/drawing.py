"""Figure of the experiment `representations`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import PALETTE, in_style, new_page
from phasetree.experiment import Findings, config_of
from phasetree.experiments.representations.analysis import kinds, layers, middle
from phasetree.experiments.representations.config import steered_layers

ROWS = {"posterior": "exact posterior", "true": "true symbols"}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """R^2 of probes of every level, and what follows if a wrong symbol is forced; random weights dotted."""
    figure, panels = new_page(len(ROWS) + 1, dataset.sizes["network"])
    for row, (name, title) in zip(panels[:-1], ROWS.items(), strict=True):
        for axis, kind in zip(row, kinds(dataset), strict=True):
            _panel(axis, dataset, findings, name, kind)
            axis.set_title(f"{kind}: {title}", fontsize=8)
        row[0].set_ylabel("$R^2$ of linear probes")
    panels[0][0].legend(fontsize=6)
    for axis, kind in zip(panels[-1], kinds(dataset), strict=True):
        _steered_panel(axis, dataset, findings, kind)
    panels[-1][0].set_ylabel("followed")
    return figure


def _panel(axis: Axes, dataset: xr.Dataset, findings: Findings, name: str, kind: str) -> None:
    """R^2 of probes."""
    shown, t = layers(dataset, kind), middle(dataset)
    for level in dataset.level.values.tolist():
        for weights in ("trained", "random"):
            cells = [findings[name, kind, weights, layer, level, t].estimate for layer in shown]
            _line(axis, list(range(len(shown))), cells, level, weights)
    _name_layers(axis, shown)
    axis.set_ylim(-0.05, 1.05)


def _steered_panel(axis: Axes, dataset: xr.Dataset, findings: Findings, kind: str) -> None:
    """How far networks follow a wrong symbol, in every layer in which it is forced, at strength 1."""
    shown, about = layers(dataset, kind), config_of(dataset)
    for level in dataset.inner.values.tolist():
        forced = steered_layers(kind, level, about.depth, about.num_layers)
        for weights in ("trained", "random"):
            cells = [findings["followed", kind, weights, layer, level, "wrong", 1.0].estimate for layer in forced]
            _line(axis, [shown.index(layer) for layer in forced], cells, level, weights)
    axis.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    _name_layers(axis, shown)
    axis.set_title(f"{kind}: wrong symbol forced", fontsize=8)
    axis.set_ylim(top=1.05)


def _line(axis: Axes, places: list[int], cells: list[Estimate], level: int, weights: str) -> None:
    values = Estimate(*(jnp.stack([getattr(cell, part) for cell in cells]) for part in ("value", "stderr")))
    trained = weights == "trained"
    style = {"line": "-", "size": 3.0} if trained else {"line": ":", "size": 2.0}
    label, color = f"level {level}" if trained else None, PALETTE[level % len(PALETTE)]
    curves.points(axis, np.array(places), values, label=label, color=color, filled=trained, **style)


def _name_layers(axis: Axes, shown: list[str]) -> None:
    axis.set_xticks(range(len(shown)), [layer.replace("_", " ") for layer in shown], rotation=45, fontsize=6)
    axis.set_xlim(-0.4, len(shown) - 0.6)
