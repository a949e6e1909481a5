"""Figure and report of the experiment `collapse`."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiment import Findings, Report, Table, config_of

PANELS = (("weight", "o", True), ("returned", "s", False), ("entropy", "o", True))


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Seed weights and excess entropies against noise time, measured and exact, for every dimension."""
    figure, ((left, right),) = new_page(1, 2)
    times, sizes = dataset.t.values, dataset.dimension.values.tolist()
    for d, shade in zip(sizes, curves.shades(len(sizes)), strict=True):
        last = d == sizes[-1]
        for name, marker, filled in PANELS:
            label = f"d = {d}, n = {int(dataset.points.sel(dimension=d))}" if filled else "U-turns" if last else None
            curves.points(
                right if name == "entropy" else left, times, findings.curve(name, "measured", d),
                color=COLORS["empirical"], marker=marker, filled=filled, shade=shade, label=label,
            )  # fmt: skip
        for axis, name in ((left, "weight"), (right, "entropy")):
            exact, label = findings.curve(name, "exact", d).value, "exact" if last else None
            axis.plot(times, exact, color=COLORS["theory"], alpha=shade, linewidth=0.8, zorder=0, label=label)
    fine = np.linspace(times[0], times[-1], 200)
    right.plot(fine, _limit(dataset, fine), "--", color=COLORS["theory"], linewidth=0.8, label="d infinite")
    for axis in (left, right):
        curves.marks(axis, [1.0])
        axis.legend(fontsize=6)
    left.set(xlabel="noise time over collapse time $t / t_C$", ylabel="weight of the seed", ylim=(0, 1.03))
    right.set(xlabel="noise time over collapse time $t / t_C$", ylabel="excess entropy / $d$ (nats)")
    return figure


def _limit(dataset: xr.Dataset, times: np.ndarray) -> np.ndarray:
    """Excess entropy over d of an infinite dimension, with ln n / d of the largest one."""
    largest = dataset.isel(dimension=-1)
    s2 = config_of(dataset).std ** 2
    information = np.log1p(s2 / np.expm1(2 * times * float(largest.collapse_time))) / 2
    return np.maximum(0, np.log(float(largest.points)) / float(largest.dimension) - information)


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Weights at the collapse time, largest deviations from exact curves, crossings, closing sentence."""
    about = config_of(dataset)
    title = (
        f"Gaussian data, s = {about.std:g}, ln n / d = {about.alpha:g}; {dataset.sizes['set']} training sets, seed "
        f"{about.seed}. Deviation: the largest of a curve from its exact one, in standard errors."
    )
    middle = float(dataset.t.sel(t=1.0, method="nearest"))
    rows = []
    for d in dataset.dimension.values.tolist():
        worst = [f"{findings['deviation', name, d].value:.1f}" for name in ("weight", "entropy", "returned")]
        sizes = (d, int(dataset.points.sel(dimension=d)), findings["collapse-time", "theory", d])
        weights = (findings["weight", "measured", d, middle], findings["weight", "exact", d, middle])
        rows.append((*sizes, *weights, findings["returned", "measured", d, middle], *worst))
    header = (
        "d",
        "n",
        "t_C",
        "weight at t_C",
        "exact",
        "U-turns that return",
        "deviation: weight",
        "entropy",
        "U-turns",
    )
    parts = [Table(header, tuple(rows))]
    pairs = list(itertools.pairwise(dataset.dimension.values.tolist()))
    if pairs:
        crossings = [
            (f"d = {a} and {b}", *(findings["crossing", kind, f"{a}-{b}"] for kind in ("measured", "exact")))
            for a, b in pairs
        ]
        parts.append(Table(("weights cross", "at t / t_C", "exact"), tuple(crossings)))
    return Report(title, tuple(parts), _closing(dataset, findings, pairs))


def _closing(dataset: xr.Dataset, findings: Findings, pairs: list[tuple[int, int]]) -> str:
    d = dataset.dimension.values.tolist()[-1]
    sentence = (
        f"Collapse predicted at t_C = {with_error(findings['collapse-time', 'theory', d].estimate)} (d = {d}); weights "
        f"and returns are within {findings['largest-deviation'].value:.1f} standard errors of the exact finite-size "
        f"curves at all {2 * dataset.sizes['dimension'] * dataset.sizes['t']} points"
    )
    if pairs:
        small, large = pairs[-1]
        got, want = (findings["crossing", kind, f"{small}-{large}"].estimate for kind in ("measured", "exact"))
        sentence += f"; the weights of d = {small} and {large} cross at {with_error(got)} t_C, exact {with_error(want)}"
    return f"{sentence} (seed {config_of(dataset).seed})."
