"""Figure and report of the experiment `level-collapse`."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from diffusion.measure import Estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, PALETTE, in_style, new_page
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.level_collapse.analysis import SOURCES, levels, networks, reference
from theory import linear_vae

STYLES = {"linear": ("o", "trained"), "dense": ("s", "empirical")}
LEAST = 0.03  # relevance at the lower edge of the figure


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Active latents against tau, and the relevance of each level, trained beside predicted."""
    figure, ((left, right),) = new_page(1, 2)
    _active(left, dataset, findings)
    _relevance(right, dataset, findings)
    for axis in (left, right):
        axis.set(xscale="log", xlabel="weight of the KL $\\tau$ (unit of the variances)")
        axis.xaxis.set_major_locator(FixedLocator(linear_vae.collapse_levels(dataset.law.values).tau.tolist()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
        axis.xaxis.set_minor_locator(NullLocator())
    return figure


def _active(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """Stairs of law and data, points of the networks, on a scale that is linear from 0 to 1."""
    taus = dataset.tau.values
    fine = np.geomspace(0.9 * taus[0], 1.1 * taus[-1], 2000)
    for name, line, width in (("law", "-", 0.8), ("data", ":", 1.2)):
        counts = np.asarray(linear_vae.active(dataset[name].values, fine, dataset.sizes["latent"]))
        axis.plot(fine, counts, line, color=COLORS["theory"], linewidth=width, label=f"predicted, {name}", zorder=0)
    for name in networks(dataset):
        marker, color = STYLES[name]
        style = {"marker": marker, "color": COLORS[color], "filled": name == "linear"}
        curves.points(axis, taus, findings.curve("active", name), label=f"trained, {name}", size=3.5, **style)
    plateaus = {int(count) for count in linear_vae.collapse_levels(dataset.law.values, dataset.sizes["latent"]).above}
    axis.set(yscale="symlog", ylabel="active latents", ylim=(-0.2, 1.3 * dataset.sizes["latent"]))
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_locator(FixedLocator([0, *sorted(plateaus)]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.legend(fontsize=6, loc="lower left")


def _relevance(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """lambda / tau - 1 of every level of the law, and the networks' means over its latents."""
    taus, shown = dataset.tau.values, levels(dataset)
    for number, level in enumerate(shown):
        color, threshold = PALETTE[number % len(PALETTE)], findings["threshold", level].value
        fine = np.geomspace(0.9 * taus[0], 1.1 * taus[-1], 2000)
        fine = fine[fine < threshold / (1 + 0.9 * LEAST)]
        axis.plot(fine, threshold / fine - 1, color=color, linewidth=0.8, zorder=0, label=_name(dataset, level))
        for name in networks(dataset):
            got = findings.curve("relevance", name, level)
            kept = np.asarray(got.value) > LEAST
            marker, filled = STYLES[name][0], name == "linear"
            points = Estimate(got.value[kept], got.stderr[kept])
            curves.points(axis, taus[kept], points, color=color, marker=marker, filled=filled)
    axis.set(yscale="log", ylabel="relevance $\\rho$ of a latent")
    axis.set_ylim(bottom=LEAST)
    axis.legend(fontsize=6, loc="upper right")


def _name(dataset: xr.Dataset, level: int) -> str:
    """The root, the leaves, or a level by its number."""
    return {0: "root", int(dataset.level.max()): "leaves"}.get(level, f"level {level}")


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Active latents at every tau, relevance of every level, closing sentence."""
    about = config_of(dataset)
    variances = ", ".join(f"{variance:g}" for variance in about.variances)
    title = (
        f"Leaves of trees of Gaussians, {about.branching} children per node, variances from the leaves up {variances}; "
        f"{about.num_data} data{', matched to the law' * about.matched}, "
        f"{dataset.sizes['latent']} latents, seed {about.seed}."
    )
    parts: list[Table | str] = [
        "Active latents (variance of the mean above .01) and free energy of a datum; predicted by the eigenvalues of "
        "the law and of the data.",
        _counts(dataset, findings),
    ]
    for name in networks(dataset):
        parts += [
            f"Relevance of {name} networks, mean over the latents of a level.",
            _relevances(dataset, findings, name),
        ]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _counts(dataset: xr.Dataset, findings: Findings) -> Table:
    names = (*SOURCES, *networks(dataset))
    header = ("tau", *(f"active: {name}" for name in names), *(f"free energy: {name}" for name in names))
    rows = []
    for tau in dataset.tau.values.tolist():
        counts = (int(findings["active", name, tau].value) for name in names)
        rows.append((f"{tau:g}", *counts, *(findings["free-energy", name, tau] for name in names)))
    return Table(header, tuple(rows))


def _relevances(dataset: xr.Dataset, findings: Findings, name: str) -> Table:
    """Where one of the three is not 0 to three digits."""
    rows = []
    for tau in dataset.tau.values.tolist():
        for level in levels(dataset):
            cells = tuple(findings["relevance", which, level, tau] for which in (name, *SOURCES))
            if any(cell.value >= 5e-4 for cell in cells):
                rows.append((f"{tau:g}", _name(dataset, level), *cells))
    return Table(("tau", "level", f"trained, {name}", "predicted, law", "predicted, data"), tuple(rows))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    total = dataset.sizes["tau"]
    predicted = linear_vae.collapse_levels(dataset.law.values, dataset.sizes["latent"])
    fall = " -> ".join(map(str, [*predicted.above, 0]))
    thresholds = ", ".join(f"{tau:.3g}" for tau in predicted.tau)
    clauses = []
    for name in networks(dataset):
        clauses.append(
            f"{name} networks have as many active latents as the {reference(name)}'s eigenvalues predict at "
            f"{int(findings['agreeing', name].value)} of {total} tau, and relevance + 1 of every level within "
            f"{findings['relative-error', name].value:.1e} of that prediction"
        )
        if name == "linear":
            clauses[-1] += f" and {findings['deviation', name].value:.1f} standard errors of the law's"
    return (
        f"The law predicts {fall} active latents, falling at tau = {thresholds}; {'; '.join(clauses)} "
        f"(seed {config_of(dataset).seed})."
    )
