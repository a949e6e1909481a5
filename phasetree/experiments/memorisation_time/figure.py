"""Figure, table and closing sentence of the experiment `memorisation-time`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure

from diffusion.measure import Estimate, mean_estimate
from phasetree.drawing.style import COLORS, in_style, new_page, with_error

HALF = 0.5
COPIED = 0.1  # fraction of generated data that are copies, at the time by copies
MARKERS = {"generalisation": "o", "memorisation": "s", "copies": "^"}


def memorised(dataset: xr.Dataset) -> xr.DataArray:
    """How far the training loss has gone from that of the exact denoiser of the law, 0, to that of the set, 1."""
    return (dataset.bayes_loss - dataset.train_loss) / (dataset.bayes_loss - dataset.empirical_loss)


def first_time(steps: Float[np.ndarray, " looks"], values: Float[np.ndarray, " looks"], threshold: float) -> float:
    """The step at which a curve first rises through a threshold, interpolated in ln step; NaN if it does not."""
    known = np.isfinite(values) & np.isfinite(steps)
    steps, values = steps[known], values[known]
    above = values >= threshold
    if not above.any() or above[0]:
        return float("nan")
    i = int(np.argmax(above))
    part = (threshold - values[i - 1]) / (values[i] - values[i - 1])
    return float(np.exp(np.log(steps[i - 1]) + part * np.log(steps[i] / steps[i - 1])))


def times(dataset: xr.Dataset, what: str, threshold: float) -> Float[np.ndarray, "repeats points"]:
    """Training steps to a threshold, of every repeat and size: `generalisation`, `memorisation` or `copies`."""
    curves = {
        "generalisation": 1 - dataset.excess / dataset.initial_excess,
        "memorisation": memorised(dataset),
        "copies": dataset.copies,
    }
    found = [
        [
            first_time(
                dataset.step.isel(repeat=r).sel(points=n).values.astype(float),
                curves[what].isel(repeat=r).sel(points=n).values.astype(float),
                threshold,
            )
            for n in dataset.points.values
        ]
        for r in range(dataset.sizes["repeat"])
    ]
    return np.array(found)


def exponent(dataset: xr.Dataset, what: str, threshold: float) -> Estimate:
    """Slope of ln time against ln n: the mean over repeats, with its standard error, NaN of a single one."""
    rows = np.log(times(dataset, what, threshold))
    slopes = np.array([np.polyfit(np.log(dataset.points.values), row, 1)[0] for row in rows if np.isfinite(row).all()])
    if not len(slopes):
        return Estimate(jnp.asarray(jnp.nan), jnp.asarray(jnp.nan))
    return mean_estimate(jnp.asarray(slopes))


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """Losses against steps; memory against steps over n, on which theory puts all sizes together; times against n."""
    figure, ((losses, memory, scaling),) = new_page(1, 3)
    sizes, shades = dataset.points.values, np.linspace(0.4, 1, dataset.sizes["points"])
    for n, shade in zip(sizes, shades, strict=True):
        part = dataset.sel(points=n)
        steps = part.step.isel(repeat=0)
        for axis, x, values, name, marker in (
            (losses, steps, part.test_loss, "test", "o"),
            (losses, steps, part.train_loss, "training", "s"),
            (memory, steps / n, memorised(dataset).sel(points=n), "loss", "s"),
            (memory, steps / n, part.copies, "copies", "^"),
        ):
            color = COLORS["trained"] if name in ("test", "loss") else COLORS["baseline"]
            error = values.std("repeat") / max(1, dataset.sizes["repeat"] - 1) ** 0.5
            axis.errorbar(
                x, values.mean("repeat"), error, fmt=f"-{marker}", color=color, alpha=shade, markersize=2,
                linewidth=0.6, label=f"{name}, n = {n}" if n == sizes[-1] else None,
            )  # fmt: skip
        losses.axhline(part.bayes_loss.mean(), color=COLORS["theory"], alpha=shade, linewidth=0.6, zorder=0)
        losses.axhline(part.empirical_loss.mean(), color=COLORS["empirical"], alpha=shade, linewidth=0.6, zorder=0)
    for what, threshold in (("generalisation", HALF), ("memorisation", HALF), ("copies", COPIED)):
        rows = times(dataset, what, threshold)
        if not np.isfinite(rows).any():
            continue
        mean = np.exp(np.nanmean(np.log(rows), 0))
        error = mean * np.nanstd(np.log(rows), 0) / max(1, len(rows) - 1) ** 0.5
        color = COLORS["exact"] if what == "generalisation" else COLORS["baseline" if what == "copies" else "trained"]
        scaling.errorbar(sizes, mean, error, fmt=MARKERS[what], color=color, markersize=3, label=what)
        slope = 0 if what == "generalisation" else 1
        middle = np.exp(np.nanmean(np.log(mean)) - slope * np.log(sizes[np.isfinite(mean)]).mean())
        scaling.plot(sizes, middle * sizes.astype(float) ** slope, color=COLORS["theory"], linewidth=0.7, zorder=0)
    losses.set(xscale="log", xlabel="training steps", ylabel="squared error")
    memory.set(xscale="log", xlabel="training steps / n", ylabel="memorised", ylim=(-0.55, 1.05))
    scaling.set(xscale="log", yscale="log", xlabel="training points $n$", ylabel="training steps")
    scaling.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    scaling.minorticks_off()
    for axis in (losses, memory, scaling):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=5.5)
    return figure


def report(dataset: xr.Dataset) -> str:
    """Markdown: times of each size, exponents for several thresholds, closing sentence."""
    about = dataset.attrs
    lines = [
        f"Two clusters, d = {about['dimension']}, |m|^2 = d, s = {about['std']:g}; network of width {about['width']}, "
        f"constant rate; {dataset.sizes['repeat']} training sets and networks of each size, seed {about['seed']}. "
        f"Generalised: the error against the exact denoiser has fallen by half. Memorised: the training loss is half "
        f"way from the exact denoiser's to the training set's own. Copies: {COPIED:g} of what is generated is three "
        f"times as near to one training point as to any other. Times in training steps.",
        "",
        "| n | generalised | memorised | copies | best test loss | exact | copies at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {w: times(dataset, w, COPIED if w == "copies" else HALF) for w in MARKERS}
    for i, n in enumerate(dataset.points.values):
        part = dataset.sel(points=n)
        columns = [with_error(mean_estimate(jnp.asarray(rows[:, i]))) for rows in found.values()]
        columns += [
            with_error(mean_estimate(jnp.asarray(part.test_loss.min("look").values))),
            f"{_exact_loss(part):.4f}",
        ]
        last = part.copies.where(part.step == part.step.max("look")).max("look")
        columns.append(with_error(mean_estimate(jnp.asarray(last.values))))
        lines.append(f"| {n} | {' | '.join(columns)} |")
    lines += ["", "| threshold | exponent of generalisation | of memorisation |", "|---|---|---|"]
    for threshold in (0.25, 0.5, 0.75):
        row = [with_error(exponent(dataset, what, threshold)) for what in ("generalisation", "memorisation")]
        lines.append(f"| {threshold} | {' | '.join(row)} |")
    lines += ["", f"Exponent of the time to {COPIED:g} of copies: {with_error(exponent(dataset, 'copies', COPIED))}."]
    return "\n".join([*lines, "", _closing_sentence(dataset)])


def _exact_loss(part: xr.Dataset) -> float:
    """Of the exact denoiser on fresh data: what is left of the test loss beside the excess, at its best."""
    best = part.test_loss.argmin("look")
    return float((part.test_loss - part.excess).isel(look=best).mean())


def _closing_sentence(dataset: xr.Dataset) -> str:
    memory, generalisation = (exponent(dataset, what, HALF) for what in ("memorisation", "generalisation"))
    return (
        f"From n = {dataset.points.values[0]} to {dataset.points.values[-1]} the time to memorise grows as n to the "
        f"power {with_error(memory)} (theory of wide networks: 1), the time to generalise as n to the power "
        f"{with_error(generalisation)} (0) (seed {dataset.attrs['seed']})."
    )
