"""Figure and report of the experiment `dimension`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.dimension.analysis import kinds, named, truths
from phasetree.findings import path


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """For each set the dimension against noise, above, and the eigenvalues of a datum's Jacobian, below."""
    names = [name for name in dataset.set.values.tolist() if kinds(dataset, name)]
    if not names:
        figure, [[axis]] = new_page(1, 1)
        _bars(axis, dataset)
        return figure
    figure, panels = new_page(2, len(names)) if len(names) <= 4 else new_page(2 * -(-len(names) // 4), 4)
    for number, name in enumerate(names):
        row, column = divmod(number, 4)
        _curve(panels[2 * row][column], dataset, findings, name)
        _spectrum(panels[2 * row + 1][column], dataset, findings, name)
    for number in range(len(names), sum(map(len, panels)) // 2):
        row, column = divmod(number, 4)
        panels[2 * row][column].set_axis_off()
        panels[2 * row + 1][column].set_axis_off()
    panels[0][0].legend(loc="lower left", fontsize=5.5)
    return figure


def _curve(axis: Axes, dataset: xr.Dataset, findings: Findings, name: str) -> None:
    for kind in kinds(dataset, name):
        part = dataset.sel(set=name, denoiser=kind)
        known = part.noise.notnull().values
        estimate = Estimate(*(jnp.asarray(part[column].values[known]) for column in ("curve", "curve_stderr")))
        style = {"color": COLORS[kind], "marker": curves.MARKERS[kind], "filled": kind != "exact"}
        curves.points(axis, part.noise.values[known], estimate, label=kind, size=2.5, **style)
        axis.axvline(findings["noise", name, kind].value, color=COLORS[kind], linewidth=0.5, linestyle=":")
    weights = np.asarray(dataset.truth.sel(set=name, denoiser=kinds(dataset, name)[0])).ravel()
    truth = float(np.nanmean(weights)) if (~np.isnan(weights)).any() else np.nan
    if not np.isnan(truth):
        axis.axhline(truth, color=COLORS["theory"], linewidth=0.8, zorder=0, label="truth, mean")
        axis.set_ylim(0, max(1.6 * truth, truth + 1))
    axis.set(xscale="log", xlabel="noise $s$", ylabel="dimension", title=name)
    axis.xaxis.set_minor_formatter(NullFormatter())  # else labels overlap where there is less than a decade


def _spectrum(axis: Axes, dataset: xr.Dataset, findings: Findings, name: str) -> None:
    for kind in kinds(dataset, name):
        values = dataset.spectrum.sel(set=name, denoiser=kind)
        axis.plot(values.place, values, color=COLORS[kind], marker=curves.MARKERS[kind], markersize=1.8, linewidth=0.6)
    axis.axhline(0.5, color="0.6", linewidth=0.6, linestyle=":")
    counts = [found.value for found in findings.select("dimension", name) if found.name.endswith("ritz")]
    shown = max(10, int(1.5 * max(counts)))
    axis.set(xlabel="place", ylabel="eigenvalue of $J$", ylim=(-0.1, 1.2), xlim=(0, min(shown, dataset.sizes["place"])))


def _bars(axis: Axes, dataset: xr.Dataset) -> None:
    """Without a denoiser: what the data alone say."""
    for number, name in enumerate(dataset.set.values.tolist()):
        values = dataset.alone.sel(set=name)
        axis.plot(np.full(len(values), number), values, "o", color=COLORS["empirical"], markersize=3)
    axis.set_xticks(range(dataset.sizes["set"]), dataset.set.values.tolist())
    axis.set(ylabel="dimension", xlim=(-0.5, dataset.sizes["set"] - 0.5))


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Every estimator of every set, what it took, from data alone, and the closing sentence."""
    about = config_of(dataset)
    source = about.file or about.images
    title = (
        f"{f'Own: {source}. ' if source else ''}Means over {about.num_data} data of each set with standard errors; "
        f"noise chosen on the plateau of the trace; flipd, dsm and trace with curvature taken away; networks of width "
        f"{about.width}, {about.train.steps} steps; data alone: {about.num_points} of them; seed {about.seed}."
    )
    estimators = dataset.estimator.values.tolist() if "estimator" in dataset.dims else []
    rows, taken = [], []
    for name in dataset.set.values.tolist():
        for kind in kinds(dataset, name):
            for truth in truths(dataset, name):
                cells = [findings["dimension", name, named(truth), kind, estimator] for estimator in estimators]
                rows.append((name, named(truth), kind, findings["noise", name, kind].value, *cells))
            part = dataset.sel(set=name, denoiser=kind)
            cells = [f"{int(p)} in {s:.2g} s" for p, s in zip(part.passes.values, part.seconds.values, strict=True)]
            taken.append((name, kind, *cells))
    parts: list[Table | str] = []
    if rows:
        parts += [
            Table(("set", "truth", "denoiser", "noise s", *estimators), tuple(rows)),
            f"Passes for a datum, and seconds for all {about.num_data} of a second call; those of trace are for all "
            "noise levels, and of a first call, which compiles.",
            Table(("set", "denoiser", *estimators), tuple(taken)),
        ]
    methods = dataset.source.values.tolist()
    cells = [(name, *(findings["alone", name, m] for m in methods)) for name in dataset.set.values.tolist()]
    parts += ["From data alone.", Table(("set", *methods), tuple(cells)), *_flags(dataset, findings)]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _flags(dataset: xr.Dataset, findings: Findings) -> list[str]:
    """A line for each set with marked data."""
    lines = []
    for name in dataset.set.values.tolist():
        for kind in kinds(dataset, name):
            marks = [f for f in findings.select("flagged", name, kind) if f.value > 0]
            if marks:
                said = ", ".join(f"{f.name.rpartition('/')[2]} at {f.value:g}" for f in marks)
                lines.append(f"- {name}, {kind}: {said} of {config_of(dataset).num_data} data.")
    return lines


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    seed, clauses = config_of(dataset).seed, []
    for name in dataset.set.values.tolist():
        for kind in kinds(dataset, name):
            for truth in truths(dataset, name):
                found = findings["dimension", name, named(truth), kind, "ritz"]
                clauses.append(f"{name} ({named(truth)}) {kind} {with_error(found.estimate)}")
    if not clauses:
        return f"From data alone: {_of_data(dataset, findings)} (seed {seed})."
    return f"Dimensions by ritz: {'; '.join(clauses)} (seed {seed})."


def _of_data(dataset: xr.Dataset, findings: Findings) -> str:
    names = dataset.set.values.tolist()
    return "; ".join(f"{name} {with_error(findings[path('alone', name, 'from data')].estimate)}" for name in names)
