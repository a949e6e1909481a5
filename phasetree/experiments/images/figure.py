"""Figure, table and closing sentence of the experiment `images`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diffusion.measure import (
    Estimate,
    GridGeometry,
    Peak,
    bootstrap,
    correlation_length,
    locate_peak,
    locate_transition,
    mean_estimate,
    susceptibility,
)
from phasetree.drawing.style import COLORS, PAGE, at, in_style, peak_words, with_error
from theory.gaussian.speciation import CriticalTime, clone_probability, covariance_speciation_time, speciation_time

STYLES = {
    "embedding": ("o", COLORS["trained"], "embedding"),
    "control": ("s", COLORS["baseline"], "embedding, patches mixed"),
    "pixels": ("^", COLORS["exact"], "pixels"),
}
COLUMNS = 7  # images in a row of the figure


def curve(rows: Float[Array, "datum t *parts"], statistic: Callable) -> Estimate:
    """A function of the mean sums at every time, with its bootstrap error over images."""
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(rows)


def chi(dataset: xr.Dataset, kind: str) -> Estimate:
    """Patches that change with one patch, itself included."""
    return curve(_rows(dataset, kind), susceptibility)


def excess(dataset: xr.Dataset) -> Estimate:
    """chi of the embedding above that of its control, on the same images."""
    return curve(_pairs(dataset), _excess)


def xi(dataset: xr.Dataset, kind: str) -> Estimate:
    """The mean distance of what changes with a patch, in patches."""
    geometry = GridGeometry(*(int(dataset.attrs[side]) for side in ("rows", "columns")))
    return curve(_rows(dataset, kind), lambda sums: correlation_length(sums, geometry))


def peak(dataset: xr.Dataset, kind: str) -> Peak:
    """The peak of chi; of its excess over the control where `kind` is "excess"."""
    rows, statistic = (_pairs(dataset), _excess) if kind == "excess" else (_rows(dataset, kind), susceptibility)
    return jax.jit(lambda rows: locate_peak(jax.random.key(1), _times(dataset), rows, statistic))(rows)


def _excess(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return susceptibility(sums[..., 0, :]) - susceptibility(sums[..., 1, :])


def _pairs(dataset: xr.Dataset) -> Float[Array, "datum t 2 distances"]:
    return jnp.stack([_rows(dataset, "embedding"), _rows(dataset, "control")], 2)


def class_time(dataset: xr.Dataset) -> Estimate:
    """The time at which the class is kept half-way between always and by chance."""
    kept = jnp.asarray(dataset.kept.transpose("datum", "t").values, float)
    half = (1 + dataset.attrs["chance"]) / 2
    return locate_transition(jax.random.key(2), _times(dataset), kept, half)


def decision_time(dataset: xr.Dataset) -> Estimate:
    """The time at which the class is kept with probability phi(1) = .775, where theory puts the speciation of two."""
    kept = jnp.asarray(dataset.kept.transpose("datum", "t").values, float)
    return locate_transition(jax.random.key(3), _times(dataset), kept, clone_probability(1.0))


def speciation_times(dataset: xr.Dataset) -> list[CriticalTime]:
    """Of two classes: by the data's largest variance, and as of Gaussian clusters of their means and variance."""
    about = dataset.attrs
    return [
        covariance_speciation_time(about["largest_variance"], 0),
        speciation_time(about["squared_norm"], about["variance_along"]),
    ]


def _rows(dataset: xr.Dataset, kind: str) -> Float[Array, "datum t distances"]:
    return jnp.asarray(dataset.sums.sel(kind=kind).transpose("datum", "t", "distance").values, float)


def _times(dataset: xr.Dataset) -> Float[Array, " t"]:
    return jnp.asarray(dataset.t.values, float)


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """chi, xi and class retention against noise; below, images regenerated, with the changed patches framed."""
    examples = dataset.sizes["example"]
    figure = Figure(figsize=(PAGE, 2.3 + 0.95 * examples), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=[2.3, 0.95 * examples])
    top, bottom = (figure.add_subfigure(part) for part in parts)
    left, middle, right = (top.add_subplot(1, 3, number + 1) for number in range(3))
    for kind, (marker, color, label) in STYLES.items():
        for axis, statistic in ((left, chi), (middle, xi)):
            found = statistic(dataset, kind)
            axis.errorbar(
                dataset.t, found.value, found.stderr, fmt=marker, color=color, markersize=3, linewidth=0.7, label=label
            )
    left.axhline(1, color="0.8", linewidth=0.6, zorder=0)
    left.set(xlabel="noise time $t$", ylabel=r"susceptibility $\chi$ (patches)")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])
    left.legend(fontsize=5.5, ncols=2, loc="upper right")
    middle.set(xlabel="noise time $t$", ylabel=r"correlation length $\xi$ (patches)")
    _plot_retention(right, dataset)
    _plot_examples(bottom, dataset)
    return figure


def _plot_retention(axis, dataset: xr.Dataset) -> None:
    axis.set(xlabel="noise time $t$", ylabel="class kept")
    if "kept" not in dataset:
        axis.text(0.5, 0.5, "no classes", ha="center", transform=axis.transAxes)
        return
    kept = mean_estimate(jnp.asarray(dataset.kept.transpose("datum", "t").values, float))
    axis.errorbar(dataset.t, kept.value, kept.stderr, fmt="o", color=COLORS["trained"], markersize=3, linewidth=0.7)
    chance = dataset.attrs["chance"]
    axis.axhline(chance, color="0.8", linewidth=0.6, zorder=0)
    axis.axhline((1 + chance) / 2, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
    if "largest_variance" in dataset.attrs:
        for time, line in zip(speciation_times(dataset), ("-", "--"), strict=True):
            axis.axvline(time.time, color=COLORS["theory"], linewidth=0.6, linestyle=line, label=time.criterion)
        axis.axhline(clone_probability(1.0), color="0.6", linewidth=0.6, linestyle="-.", zorder=0)
        axis.legend(fontsize=5.5)
    axis.set_ylim(0, 1.05)


def _plot_examples(figure, dataset: xr.Dataset) -> None:
    """Patches whose embedding moved by more than half of the mean displacement at the largest noise are framed."""
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, COLUMNS).round().astype(int))
    moved = float(dataset.displacement.isel(t=-1).mean()) / 2
    panels = figure.subplots(dataset.sizes["example"], 1 + len(levels), squeeze=False)
    columns, patch = dataset.attrs["columns"], dataset.attrs["patch"]
    for example, row in enumerate(panels):
        pictures = [dataset.original.values[example], *dataset.regenerated.values[levels, example]]
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture.squeeze() if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        for axis, level in zip(row[1:], levels, strict=True):
            for number in np.flatnonzero(dataset.displacement.values[level, example] > moved):
                place = (patch * (number % columns) - 0.5, patch * (number // columns) - 0.5)
                axis.add_patch(Rectangle(place, patch, patch, fill=False, edgecolor=COLORS["trained"], linewidth=0.7))
    for axis, title in zip(panels[0], ["original", *(f"t = {dataset.t.values[i]:g}" for i in levels)], strict=True):
        axis.set_title(title, fontsize=7)


def report(dataset: xr.Dataset) -> str:
    """Markdown: chi, xi and class retention against noise, closing sentence."""
    about = dataset.attrs
    titles = [f"{name}, {STYLES[kind][2]}" for kind in STYLES for name in ("chi", "xi")]
    has_classes = "kept" in dataset
    lines = [
        f"{about['provenance']}, as {about['pixels']}; {about['trained_on']} trained on, "
        f"{dataset.sizes['step']} steps, {dataset.sizes['datum']} held-out images regenerated, seed {about['seed']}. "
        f"chi and xi in patches of {about['patch']} x {about['patch']} pixels; errors over images."
        + (
            f" The classifier is right on {100 * float(dataset.accuracy):.1f} +- "
            f"{100 * float(dataset.accuracy_stderr):.1f}% of the held-out images."
            if has_classes
            else " There are no classes: the embedding is an auto-encoder's."
        ),
        "",
        "| t | " + ("class kept | " if has_classes else "") + "chi above control | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 2 + has_classes) + "|",
    ]
    columns = [statistic(dataset, kind) for kind in STYLES for statistic in (chi, xi)]
    columns.insert(0, excess(dataset))
    if has_classes:
        columns.insert(0, mean_estimate(jnp.asarray(dataset.kept.transpose("datum", "t").values, float)))
    for i, t in enumerate(dataset.t.values):
        lines.append(f"| {t:g} | " + " | ".join(with_error(at(column, i)) for column in columns) + " |")
    return "\n".join([*lines, "", _closing_sentence(dataset)])


def _closing_sentence(dataset: xr.Dataset) -> str:
    parts = [_peak_words(dataset, "excess", "chi of the embedding above its control", excess(dataset))]
    parts.append(_peak_words(dataset, "pixels", "chi of pixels", chi(dataset, "pixels")))
    if "kept" in dataset:
        parts.append(f"the class is lost half-way at t = {with_error(class_time(dataset))}")
    if "kept" in dataset and "largest_variance" in dataset.attrs:
        found = decision_time(dataset)
        said = [
            f"{with_error(Estimate(found.value / time.time, found.stderr / time.time))} times t_S = {time.time:.3f} by "
            f"the criterion {time.criterion}"
            for time in speciation_times(dataset)
        ]
        parts.append(
            f"of two classes it is kept with probability {clone_probability(1.0):.3f} at t = {with_error(found)}, "
            f"{' and '.join(said)}"
        )
    return f"{dataset.attrs['source']}, seed {dataset.attrs['seed']}: {'; '.join(parts)}."


def _peak_words(dataset: xr.Dataset, kind: str, name: str, values: Estimate) -> str:
    found = peak(dataset, kind)
    return f"{name} is largest at t = {with_error(found.time)}, {peak_words(values, found, 'inside the grid')}"
