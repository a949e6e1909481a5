"""Figure and report of the experiment `transition`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion.measure import Estimate, independent_rows, mean_estimate
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.processes import AXIS
from phasetree.experiments.transition.analysis import HALF, close_rows

NAMES = {
    "predicted": "exact posterior",
    "mean field": "mean field",
    "exact": "exact samples",
    "trained": "trained",
    "empirical": "empirical",
    "ensemble": "other grammars",
}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Retention and information of every level; network minus posterior; the network on its way; depths."""
    config = config_of(dataset)
    panels = [_retention, _difference]
    panels += [_looks] if "look" in dataset.dims else []
    panels += [_information] if "prior_entropy" in dataset else []
    panels += [_depths, _collapse] if "at_depth" in dataset else []
    rows = -(-len(panels) // 2)
    figure, axes = new_page(rows, 2)
    flat = [axis for row in axes for axis in row]
    for axis, panel in zip(flat, panels, strict=False):
        if panel is not _looks and panel is not _collapse:
            axis.set_xlabel(AXIS[config.process])
        panel(axis, dataset, findings)
        axis.title.set_fontsize(8)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    return figure


def _mean(rows: xr.DataArray) -> Estimate:
    """Over the strings of a grammar, or over grammars where there are several."""
    return mean_estimate(independent_rows(rows.transpose("grammar", "datum", "t").values))


def _retention(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    levels = dataset.sizes["level"]
    for level, shade in zip(range(levels), curves.shades(levels, darkest_last=False), strict=True):
        part = dataset.retention.isel(level=level)
        theory = dataset.mean_field.isel(level=level) if "mean_field" in dataset else None
        line = part.sel(denoiser="predicted").mean(("grammar", "datum")) if theory is None else theory
        name = "exact posterior" if theory is None else "mean field"
        axis.plot(dataset.t, line, color=COLORS["theory"], alpha=shade, linewidth=1, label=name if not level else None)
        for kind, marker in (("trained", "o"), ("exact", "x"), ("empirical", "^")):
            skipped = (kind == "exact" and "trained" in dataset.denoiser) or (kind == "empirical" and level)
            if kind not in dataset.denoiser or skipped:
                continue
            kept = _mean(part.sel(denoiser=kind))
            label = NAMES[kind] + (", class" if kind == "empirical" else "") if level == 0 else None
            curves.points(axis, dataset.t, kept, color=COLORS[kind], marker=marker, shade=shade, size=2.2, label=label)
        if level in (0, levels - 1):
            axis.text(float(dataset.t[-1]), float(line[-1]), " class" if level == 0 else " leaves", fontsize=6)
    if np.isfinite(findings["threshold/annealed"].value):
        curves.marks(axis, [findings["threshold/annealed"].value], label="annealed, infinite depth")
    curves.threshold(axis, HALF, label="1/2")
    axis.set(ylabel="retention", ylim=(0, 1.03), title="all levels, class darkest")
    axis.legend(fontsize=5.5)


def _difference(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """Class retention minus the posterior's belief, string by string."""
    theory, _ = close_rows(dataset, "predicted")
    times = dataset.t_close.values
    for shift, kind in enumerate(map(str, dataset.close_denoiser.values)):
        if kind == "predicted":
            continue
        kept, valid = close_rows(dataset, kind)
        gap = np.asarray(kept[..., 0] - theory[..., 0]).reshape(-1, len(times))
        at = times + (shift - 1.5) * 0.05 * (times[1] - times[0])
        style = {"color": COLORS[kind], "marker": "x" if kind == "exact" else "o", "size": 3}
        curves.points(axis, at, mean_estimate(gap), **style, label=NAMES[kind])
        if kind == "trained":
            inside = np.asarray(valid).reshape(-1, len(times))
            gap = np.where(inside, gap, np.nan)
            error = np.nanstd(gap, 0) / inside.sum(0) ** 0.5
            style |= {"marker": "s", "filled": False}
            among = Estimate(jnp.asarray(np.nanmean(gap, 0)), jnp.asarray(error))
            curves.points(axis, at, among, **style, label="trained, valid strings")
    axis.axhline(0, color=COLORS["theory"], linewidth=0.8, label="exact posterior")
    axis.set(ylabel="class retention, difference", title="minus the posterior, same strings and noise")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    axis.legend(fontsize=5.5, loc="upper left")


def _looks(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    steps = dataset.look.values
    invalid, shift = findings.curve("look-valid", 0), findings.curve("look-shift", 0)
    outside = Estimate(jnp.asarray(1 - np.asarray(invalid.value)), invalid.stderr)
    curves.points(axis, steps, outside, color=COLORS["baseline"], marker="^", line="-", label="strings outside grammar")
    short = Estimate(jnp.asarray(-np.asarray(shift.value)), shift.stderr)
    curves.points(axis, steps, short, color=COLORS["trained"], line="-", label="posterior minus network, class")
    t = float(np.median(dataset.t_close.values))
    axis.axhline(0, color=COLORS["theory"], linewidth=0.8)
    axis.set(xscale="log", xlabel="training step", ylabel="fraction of strings", title=f"on the way, at t = {t:.3g}")
    axis.legend(fontsize=5.5)


def _information(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    levels = dataset.sizes["level"]
    for level, shade in zip(range(levels), curves.shades(levels, darkest_last=False), strict=True):
        known = findings.curve("information", level)
        label = "class" if level == 0 else "leaves" if level == levels - 1 else None
        curves.points(axis, dataset.t, known, color=COLORS["exact"], marker="", line="-", shade=shade, label=label)
    axis.set(ylabel="$I(level; x_t)\\,/\\,H(level)$", ylim=(0, 1.03), title="information left, exact inference")
    axis.legend(fontsize=5.5)


def _depths(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    depths = dataset.depth.values
    for depth, shade in zip(depths, curves.shades(len(depths)), strict=True):
        rows = dataset.at_depth.sel(depth=depth)
        mean = mean_estimate(rows.transpose("other", "t").values)
        band = mean.value - mean.stderr, mean.value + mean.stderr
        axis.fill_between(dataset.t, *band, color=COLORS["exact"], alpha=0.35 * shade, linewidth=0)
        axis.plot(dataset.t, mean.value, color=COLORS["exact"], alpha=shade, linewidth=0.9, label=f"L = {int(depth)}")
    if "trained" in dataset.denoiser:
        kept = _mean(dataset.retention.sel(denoiser="trained").isel(level=0))
        curves.points(axis, dataset.t, kept, color=COLORS["trained"], size=2, label="trained, this grammar")
    curves.threshold(axis, HALF, label="1/2")
    curves.marks(axis, [findings["threshold/annealed"].value], label="annealed, infinite depth")
    axis.set(ylabel="class retention", title="exact, bands: error over grammars")
    axis.legend(fontsize=5.5)


def _collapse(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """The same against (t - t_L) times the slope at the crossing: one curve if only the width depends on the depth."""
    depths = dataset.depth.values
    for depth, shade in zip(depths, curves.shades(len(depths)), strict=True):
        where, slope = findings["at-depth", int(depth)].value, findings["slope", int(depth)].value
        mean = dataset.at_depth.sel(depth=depth).mean("other")
        axis.plot((dataset.t - where) * slope, mean, "o-", color=COLORS["exact"], alpha=shade, markersize=2,
                  linewidth=0.7, label=f"L = {int(depth)}")  # fmt: skip
    curves.threshold(axis, HALF, label="1/2")
    axis.set(xlim=(-1.5, 1.5), xlabel="$(t - t_L)$ times slope", ylabel="class retention", title="collapse")
    axis.legend(fontsize=5.5)


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Transitions of every level; network against posterior; thresholds; one closing sentence."""
    config = config_of(dataset)
    kinds = [kind for kind in NAMES if findings.select("transition", kind)]
    levels = range(dataset.sizes["level"])
    names = {0: "0 (class)", len(levels) - 1: f"{len(levels) - 1} (leaves)"}
    table = Table(
        ("level", *(NAMES[kind] for kind in kinds)),
        tuple((names.get(n, str(n)), *(findings["transition", kind, n] for kind in kinds)) for n in levels),
    )
    about = f"{_sizes(config)}, {config.process}, seed {config.seed}"
    parts = (table, *_close_table(dataset, findings), *_lines(dataset, findings))
    return Report(f"Noise at which each level's retention crosses 1/2 ({about}):", parts, _closing(dataset, findings))


def _close_table(dataset: xr.Dataset, findings: Findings) -> list[Table | str]:
    kinds = [k for k in ("exact", "trained") if findings.select("shift", k)]
    rows = [
        (n, findings["close", "predicted", n], *(findings["shift", kind, n] for kind in kinds))
        for n in range(dataset.sizes["level"])
    ]
    text = (
        f"With {dataset.sizes['close_datum']} strings at each of {dataset.sizes['t_close']} noise times around the "
        "loss of the class, the same strings and noise for all:"
    )
    return [text, Table(("level", "exact posterior", *(f"{NAMES[k]} minus posterior" for k in kinds)), tuple(rows))]


def _lines(dataset: xr.Dataset, findings: Findings) -> list[str]:
    lines = []
    if config_of(dataset).rules:
        lines.append(
            "- The grammar is that of a file; ensemble and annealed threshold are of random grammars of its sizes."
        )
    if "validity" in findings:
        lines.append(
            f"- Strings of the network inside the grammar: {_text(findings, 'validity')}; among those the "
            f"transition of the class minus the posterior's is {_text(findings, 'shift/valid/0')}."
        )
        gap = findings["largest-difference"]
        lines.append(f"- Largest |retention(trained) - retention(exact)|: {with_error(gap.estimate)} {gap.note}.")
    for n in range(dataset.sizes["grammar"]) if "excess_loss" in dataset else ():
        percent, excess = _text(findings, f"excess-percent/{n}"), _text(findings, f"excess/{n}")
        lines.append(f"- Grammar {n}: loss {excess} nats per site above Bayes, {percent}%.")
    lines.append(f"- Class of the posterior at (1 + 1/v)/2 instead of 1/2: {_text(findings, 'halfway/predicted/0')}.")
    if "threshold/spread" in findings:
        own = ", ".join(with_error(f.estimate) for f in findings.select("threshold/quenched"))
        lines.append(
            f"- Threshold of this grammar by quenched density evolution: {own}; of {dataset.sizes['other']} grammars "
            f"of its sizes: {_text(findings, 'threshold/ensemble')}, standard deviation "
            f"{_text(findings, 'threshold/spread')}; annealed, infinite depth: {_text(findings, 'threshold/annealed')}."
        )
    lines += [
        f"- L = {depth}: the class crosses 1/2 at {_text(findings, f'at-depth/{depth}')} with slope "
        f"{_text(findings, f'slope/{depth}')}."
        for depth in dataset.get("depth", xr.DataArray([], dims="depth")).values.tolist()
    ]
    return lines


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    config = config_of(dataset)
    kind = "trained" if "trained" in dataset.denoiser else "exact"
    where = findings["close", kind, 0]
    noise = AXIS[config.process].split("$")[0].strip()
    lost = f"Class lost at {noise} {with_error(where.estimate)}"
    if not where.resolved:
        lost = f"These noise times and data do not resolve the {noise} that loses the class"
    theory = _text(findings, "close/predicted/0")
    shift, percent = _text(findings, f"shift/{kind}/0"), _text(findings, f"shift-percent/{kind}")
    mean_field = f", mean field {_text(findings, 'transition/mean field/0')}" if "mean_field" in dataset else ""
    return (
        f"{lost} ({NAMES[kind]}), by the exact posterior at {theory}{mean_field}: {kind} minus posterior {shift}, "
        f"{percent}% ({_sizes(config)}, seed {config.seed}; errors over "
        f"{'grammars' if dataset.sizes['grammar'] > 1 else 'strings of this grammar'})."
    )


def _text(findings: Findings, name: str) -> str:
    return with_error(findings[name].estimate)


def _sizes(config) -> str:
    return f"(v, m, s, L) = {config.num_symbols, config.num_synonyms, config.branching, config.depth}"
