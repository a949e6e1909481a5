"""Figure and report of the experiment `memorisation-time`."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.experiments.memorisation_time.analysis import COPIED, HALF, THRESHOLDS, TIMES

STYLES = {
    "generalisation": ("o", COLORS["exact"], 0),
    "memorisation": ("s", COLORS["trained"], 1),
    "copies": ("^", COLORS["baseline"], 1),
}
"""Marker, colour, and the power of n that theory of wide networks gives the time."""


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Losses against steps; memory against steps over n, on which theory puts all sizes together; times against n."""
    figure, ((losses, memory, scaling),) = new_page(1, 3)
    sizes = dataset.points.values.tolist()
    for n, shade in zip(sizes, curves.shades(len(sizes)), strict=True):
        part, last = dataset.sel(points=n), n == sizes[-1]
        steps = part.step.isel(repeat=0).dropna("look").values
        for axis, x, name, label, color, marker in (
            (losses, steps, "test-loss", "test", COLORS["trained"], "o"),
            (losses, steps, "train-loss", "training", COLORS["baseline"], "s"),
            (memory, steps / n, "memorised", "loss", COLORS["trained"], "s"),
            (memory, steps / n, "copies", "copies", COLORS["baseline"], "^"),
        ):
            curve = findings.curve(name, n)
            label = f"{label}, n = {n}" if last else None
            curves.points(axis, x, curve, color=color, marker=marker, line="-", shade=shade, size=2, label=label)
        for values, color, label in (
            (part.bayes_loss, COLORS["theory"], "exact, of the law"),
            (part.empirical_loss, COLORS["empirical"], "exact, of the set"),
        ):
            losses.axhline(
                values.mean(), color=color, alpha=shade, linewidth=0.6, zorder=0, label=label if last else None
            )
    _plot_times(scaling, np.array(sizes), findings)
    losses.set(xscale="log", xlabel="training steps", ylabel="squared error")
    memory.set(xscale="log", xlabel="training steps / n", ylabel="memorised", ylim=(-0.55, 1.05))
    for axis in (losses, memory, scaling):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=5.5)
    return figure


def _plot_times(axis: Axes, sizes: np.ndarray, findings: Findings) -> None:
    for what, (marker, color, power) in STYLES.items():
        found = findings.curve("time", what)
        value = np.asarray(found.value)
        if np.isfinite(value).any():
            curves.points(axis, sizes, Estimate(found.value, found.stderr), color=color, marker=marker, label=what)
            middle = np.exp(np.nanmean(np.log(value)) - power * np.log(sizes[np.isfinite(value)]).mean())
            label = "theory: $n$, or constant" if what == "memorisation" else None
            line = middle * sizes.astype(float) ** power
            axis.plot(sizes, line, color=COLORS["theory"], linewidth=0.7, zorder=0, label=label)
    axis.set(xscale="log", yscale="log", xlabel="training points $n$", ylabel="training steps")
    axis.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    axis.minorticks_off()


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Times of each size, exponents for several thresholds, closing sentence."""
    about = config_of(dataset)
    title = (
        f"Two clusters, d = {about.dimension}, |m|^2 = d, s = {about.std:g}; network of width {about.width}, constant "
        f"rate; {dataset.sizes['repeat']} training sets and networks of each size, seed {about.seed}. Generalised: the "
        f"error against the exact denoiser has fallen by half. Memorised: the training loss is half way from the exact "
        f"denoiser's to the training set's own. Copies: {COPIED:g} of what is generated is three times as near to one "
        f"training point as to any other. Times in training steps."
    )
    columns = [*(("time", what) for what in TIMES), ("best-test-loss",), ("exact-loss",), ("copies-at-end",)]
    rows: list[tuple[str | Finding, ...]] = [
        (str(n), *(findings[*column, n] for column in columns)) for n in dataset.points.values
    ]
    header = ("n", "generalised", "memorised", "copies", "best test loss", "exact", "copies at the end")
    exponents: list[tuple[str | Finding, ...]] = [
        (str(x), *(findings["exponent", what, x] for what in ("generalisation", "memorisation"))) for x in THRESHOLDS
    ]
    copies = with_error(findings["exponent/copies"].estimate)
    parts = (
        Table(header, tuple(rows)),
        Table(("threshold", "exponent of generalisation", "of memorisation"), tuple(exponents)),
        f"Exponent of the time to {COPIED:g} of copies: {copies}.",
    )
    return Report(title, parts, _closing(dataset, findings))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    memory, generalisation = (
        with_error(findings["exponent", what, HALF].estimate) for what in ("memorisation", "generalisation")
    )
    sizes = dataset.points.values
    return (
        f"From n = {sizes[0]} to {sizes[-1]} the time to memorise grows as n to the power {memory} (theory of wide "
        f"networks: 1), the time to generalise as n to the power {generalisation} (0) (seed {config_of(dataset).seed})."
    )
