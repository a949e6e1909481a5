"""The figure of the experiment `symmetry`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from diffusion.measure import Estimate
from diffusion.measure.symmetry import UNBROKEN, UNBROKEN_SET
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, PALETTE, in_style, new_page
from phasetree.experiment import Findings
from phasetree.experiments.symmetry.analysis import next_latent, scores
from phasetree.experiments.symmetry.sets import CASES, OWN, eigenvalues, switching

LEAST = 0.03  # relevance at the lower edge
MARKERS = "osD^vP"
SCORES = {  # style, place beside the name, and label
    "exact": ("exact", -0.2, "exact"),
    "data": ("empirical", 0.0, "data alone"),
    "trained": ("trained", 0.2, "trained"),
}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Counts and generators of every set; with networks relevance against tau and knob, and a latent map."""
    if "active" not in dataset:
        figure, ((left, middle, right),) = new_page(1, 3)
        _counts(left, dataset, findings)
        _breaking(middle, dataset, "law")
        _breaking(right, dataset, "set")
        return figure
    figure, ((tau, knob, counts), (latents, law, of_set)) = new_page(2, 3)
    _against_tau(tau, dataset)
    _against_knob(knob, dataset, findings)
    _counts(counts, dataset, findings)
    _latents(latents, dataset)
    _breaking(law, dataset, "law")
    _breaking(of_set, dataset, "set")
    return figure


def _names(dataset: xr.Dataset) -> list[str]:
    return dataset.set.values.tolist()


def _against_tau(axis: Axes, dataset: xr.Dataset) -> None:
    """Of the last set, which has the most eigenvalues by default."""
    name = _names(dataset)[-1]
    part = dataset.sel(set=name).dropna("step", subset=["tau"])
    taus = part.tau.values
    values = part.spectrum_eigenvalue.mean("step").values if name == OWN else eigenvalues(name, 0.0)
    fine = np.geomspace(0.8 * taus.min(), 1.2 * taus.max(), 300)
    for value in values[values > 1e-4 * values[0]]:
        theory = value / fine - 1
        axis.plot(fine[theory > LEAST], theory[theory > LEAST], color=COLORS["theory"], linewidth=0.8, zorder=0)
    for latent in range(part.sizes["latent"]):
        rho, error = (part[f"spectrum_relevance{e}"].isel(latent=latent).values for e in ("", "_stderr"))
        kept = rho > LEAST
        curves.points(axis, taus[kept], _estimate(rho[kept], error[kept]), color=COLORS["trained"])
    axis.set(xscale="log", yscale="log", xlabel="weight of the KL $\\tau$", ylabel="relevance $\\rho$", title=name)
    axis.set_ylim(bottom=LEAST)
    axis.xaxis.set_major_locator(FixedLocator([float(f"{tau:.2g}") for tau in taus[:: max(1, len(taus) // 3)]]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _against_knob(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """The latents that the knob switches, theory and trained, in units of the predicted knob."""
    for number, name in enumerate(_names(dataset)):
        part, switch = dataset.sel(set=name), None if name == OWN else switching(name, CASES[name].tau)
        if switch is None or "linear_knob" not in part or not part.linear_knob.notnull().any():
            continue
        color, marker, tau = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)], CASES[name].tau
        fine = np.linspace(0.3, 1.9, 33)
        fine = fine[fine * switch.knob <= CASES[name].largest]
        theory = [max(eigenvalues(name, f * switch.knob)[switch.places[0]] / tau - 1, 0) for f in fine]
        axis.plot(fine, theory, color=color, linewidth=0.8, zorder=0)
        place = list(switch.places)
        values, errors = (part[f"linear_relevance{e}"].isel(latent=place).mean("latent") for e in ("", "_stderr"))
        known = values.notnull().values
        estimate = _estimate(values.values[known], errors.values[known])
        curves.points(axis, part.factor.values[known], estimate, color=color, marker=marker, label=name)
        if "dense_relevance" in part and part.dense_relevance.notnull().any():
            dense = part.dense_relevance.isel(latent=next_latent(part)).dropna("dense_factor")
            mean = _estimate(dense.mean("seed").values, (dense.std("seed", ddof=1) / dense.sizes["seed"] ** 0.5).values)
            curves.points(axis, dense.dense_factor, mean, color=color, marker=marker, filled=False, size=4)
    if not axis.has_data():
        axis.set_axis_off()  # no set has a knob
        return
    axis.axvline(1, color="0.6", linewidth=0.6, linestyle=":")
    axis.set(xlabel="knob / predicted knob", ylabel="relevance $\\rho$", title="a broken symmetry", ylim=(-0.1, 4))
    axis.legend(fontsize=5.5, loc="upper left")


def _counts(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """Measured counts as points, those of the law as lines."""
    kinds = {"linear": "linear", "autoencoder": "embedding", "dimension": "intrinsic"}
    for number, name in enumerate(_names(dataset)):
        for place, (kind, true) in enumerate(kinds.items()):
            x, color = number + 0.25 * (place - 1), PALETTE[place]
            label = kind if number == 0 else None
            if ("count", name, kind) in findings:
                found = findings["count", name, kind].estimate
                estimate = _estimate(np.array([found.value]), np.array([found.stderr]))
                curves.points(axis, [x], estimate, color=color, marker=MARKERS[place], label=label, size=4)
            if name != OWN:
                level = findings["true", name, true].value
                axis.plot([x - 0.12, x + 0.12], [level, level], color=COLORS["theory"], linewidth=0.9, zorder=0)
    names = _names(dataset)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=5.5)
    axis.set(ylabel="degrees of freedom", ylim=(0, None))
    axis.legend(fontsize=5.5, loc="upper left")


def _latents(axis: Axes, dataset: xr.Dataset) -> None:
    """The means of the two most relevant latents, coloured by the angle of the first two features."""
    name = _names(dataset)[0]
    part = dataset.sel(set=name)
    means = part.means.dropna("datum", how="all")
    drawn = axis.scatter(*means.values[:, :2].T, c=part.angle.dropna("datum").values, s=3, cmap="twilight")
    bar = axis.figure.colorbar(drawn, ax=axis, ticks=[-3, 0, 3])
    bar.set_label("angle of $(x_1, x_2)$, rad", fontsize=6)
    axis.set(xlabel="mean of latent 1", ylabel="mean of latent 2", title=f"{name}: latent map", aspect="equal")


def _breaking(axis: Axes, dataset: xr.Dataset, of: str) -> None:
    """How much the generators are broken, those below the line being symmetries."""
    least = 1e-6
    for number, name in enumerate(_names(dataset)):
        part = dataset.sel(set=name)
        for score in scores(part):
            values = part.sel(score=score)[f"{of}_breaking"].dropna("generator").values.clip(least)
            kind, shift, _ = SCORES[score]
            x = np.full(len(values), number + shift)
            axis.plot(x, values, curves.MARKERS[kind], color=COLORS[kind], markersize=2.2, alpha=0.7)
    curves.threshold(axis, UNBROKEN if of == "law" else UNBROKEN_SET)
    seen = {score for name in _names(dataset) for score in scores(dataset.sel(set=name))}
    for score, (kind, _, label) in SCORES.items():
        if score in seen:
            axis.plot([], [], curves.MARKERS[kind], color=COLORS[kind], markersize=3, label=label)
    names = _names(dataset)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=5.5)
    what = "rotations" if of == "law" and names != [OWN] else "generators"
    title = f"{what} of the {of}"
    axis.set(yscale="log", ylabel="breaking", title=title, ylim=(0.5 * least, 10))
    axis.legend(fontsize=5.5, loc="lower right")


def _estimate(value: np.ndarray, error: np.ndarray) -> Estimate:
    return Estimate(jnp.asarray(value), jnp.asarray(error))
