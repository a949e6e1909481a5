"""Figure, table and closing sentence of the experiment `transition`."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from diffusion.measure import Estimate, halfway, locate_transition
from phasetree.drawing.style import COLORS, in_style, new_figure, with_error
from phasetree.experiment import Finding, Findings, Report, Table
from phasetree.experiments.processes import AXIS
from phasetree.findings import path
from phasetree.recipes.training import training_findings, training_lines
from theory.compare import compare_transitions


def transitions(dataset: xr.Dataset) -> dict[str, list[Estimate]]:
    """The transition of every curve at every level, root first: {curve: estimates}."""
    config = _config(dataset)
    times = jnp.asarray(dataset.time.values)
    located = jax.jit(jax.vmap(locate_transition, (None, None, 2, None)))
    found = {}
    for name in map(str, dataset.curve.values):
        estimates = located(jax.random.key(config.seed), times, _rows(dataset, name), halfway(config.num_symbols))
        found[name] = [jax.tree.map(lambda x, i=level: x[i], estimates) for level in range(config.depth + 1)]
    return found


def _rows(dataset: xr.Dataset, name: str) -> Float[Array, "rows times levels"]:
    """A curve's retention, row by row."""
    return jnp.asarray(dataset.retention.sel(curve=name).dropna("row", how="all").values, float)


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Retention against noise, theory as lines and measurements as points; training loss above, if any."""
    trained = "training_loss" in dataset
    figure, axes = new_figure(rows=2 if trained else 1)
    if trained:
        _plot_training(axes[0], dataset)
    _plot_retention(axes[-1], dataset, _config(dataset))
    return figure


def _plot_training(axis, dataset: xr.Dataset) -> None:
    losses = dataset.training_loss.values.reshape(-1, dataset.sizes["step"])[0]
    window = max(1, len(losses) // 100)
    smooth = losses[: len(losses) // window * window].reshape(-1, window).mean(1)
    floor = float(np.ravel(dataset.bayes_training_loss)[0])
    axis.plot(window * (np.arange(len(smooth)) + 0.5), smooth, color=COLORS["trained"], label="network")
    axis.axhline(floor, color=COLORS["exact"], linestyle="--", label="Bayes (exact)")
    axis.set(xlabel="training step", ylabel="loss (nats per site)", ylim=(0.97 * floor, 1.35 * floor))
    axis.legend()


def _plot_retention(axis, dataset: xr.Dataset, config) -> None:
    shades, widths = np.linspace(1, 0.35, config.depth + 1), np.linspace(1.6, 0.8, config.depth + 1)
    theory = "mean field" if "mean field" in dataset.curve else "predicted"
    for level in range(config.depth + 1):
        label = "class" if level == 0 else "leaves" if level == config.depth else None
        curve = dataset.retention.sel(curve=theory).isel(level=level).mean("row")
        axis.plot(dataset.time, curve, color=COLORS["exact"], alpha=shades[level], linewidth=widths[level])
        if label:
            axis.annotate(label, (dataset.time[-1], float(curve[-1])), xytext=(2, 0), textcoords="offset points",
                          fontsize=6, va="bottom" if level else "top")  # fmt: skip
        for name, marker in (("trained", "o"), ("exact", "x"), ("empirical", "^")):
            if name not in dataset.curve or (name == "exact" and "trained" in dataset.curve):
                continue
            if name == "empirical" and level:
                continue
            _points(axis, dataset, name, level, marker, label=name if level == 0 else None)
    axis.plot([], [], color=COLORS["exact"], label="mean field" if theory == "mean field" else "exact posterior")
    if np.isfinite(dataset.infinite_depth):
        axis.axvline(float(dataset.infinite_depth), color=COLORS["theory"], linestyle=":", label="infinite depth")
    axis.axhline(halfway(config.num_symbols), color="0.8", linewidth=0.6, zorder=0)
    axis.set(xlabel=AXIS[config.process], ylabel="retention", ylim=(0, 1.03))
    axis.legend(loc="best", fontsize=6)


def _points(axis, dataset: xr.Dataset, name: str, level: int, marker: str, label: str | None) -> None:
    rows = dataset.retention.sel(curve=name).isel(level=level).dropna("row", how="all")
    error = rows.std("row", ddof=1) / rows.sizes["row"] ** 0.5
    axis.errorbar(dataset.time, rows.mean("row"), error, fmt=marker, color=COLORS[name], markersize=2.2,
                  linewidth=0.6, label=label, alpha=1 if level == 0 else 0.6)  # fmt: skip


def analyse(dataset: xr.Dataset) -> Findings:
    """Where each curve crosses half-way at each level, and the excess loss."""
    found = []
    for name, levels in transitions(dataset).items():
        kind = "measured" if name in ("exact", "trained", "empirical") else "predicted"
        found += [Finding(path("transition", name, i), level, kind, "noise level") for i, level in enumerate(levels)]
    return Findings([*found, *training_findings(dataset)])


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Markdown table of the transitions, loss against Bayes, and one closing sentence."""
    config = _config(dataset)
    found = {name: [f.estimate for f in findings.select("transition", name)] for name in map(str, dataset.curve.values)}
    names = {
        "predicted": "exact posterior (theory)",
        "mean field": "mean field (theory)",
        "exact": "exact BP (measured)",
        "trained": "trained (measured)",
        "empirical": f"empirical, n = {config.training_set} (measured)",
        "ensemble": f"exact posterior, {config.ensemble} other grammars",
    }
    shown = [name for name in names if name in found]
    title = (
        f"Noise at which each level crosses half-way, {halfway(config.num_symbols):.4g} "
        f"({_sizes(config)}, {config.process}, seed {config.seed}):"
    )
    rows: list[tuple[str | Finding, ...]] = []
    for level in range(config.depth + 1):
        which = {0: "0 (class)", config.depth: f"{level} (leaves)"}.get(level, str(level))
        rows.append((which, *(findings["transition", name, level] for name in shown)))
    table = Table(("level", *(names[name] for name in shown)), tuple(rows))
    parts = (table, *_training_lines(dataset, findings))
    return Report(title, parts, _closing_sentence(dataset, found, config))


def _training_lines(dataset: xr.Dataset, findings: Findings) -> list[str]:
    if "excess_loss" not in dataset:
        return []
    difference = f"Largest |retention(trained) - retention(exact)| of any level: {_largest_difference(dataset)}."
    return [*training_lines(findings), difference]


def _largest_difference(dataset: xr.Dataset) -> str:
    """Both denoisers are given the same data with the same noise, so the error is that of the paired difference."""
    rows = dataset.retention.sel(curve="trained") - dataset.retention.sel(curve="exact")
    gap, error = abs(rows.mean("row")), rows.std("row", ddof=1) / rows.count("row") ** 0.5
    time, level = np.unravel_index(gap.values.argmax(), gap.shape)
    where = f"at t = {float(dataset.time[time]):.3g}, level {level}"
    return f"{gap.values[time, level]:.4f} +- {error.values[time, level]:.4f} {where}"


def _closing_sentence(dataset: xr.Dataset, found: dict[str, list[Estimate]], config) -> str:
    theory = "mean field" if "mean field" in found else "predicted"
    measured = "trained" if "trained" in found else "exact"
    parts = [f"{measured if measured == 'trained' else 'exact BP'} {with_error(found[measured][0])}"]
    if measured == "trained":
        parts.append(f"exact BP {with_error(found['exact'][0])}")
    parts.append(f"{'mean field' if theory == 'mean field' else 'exact posterior'} {with_error(found[theory][0])}")
    threshold = Estimate(jnp.asarray(float(dataset.infinite_depth)), jnp.asarray(float(dataset.infinite_depth_stderr)))
    if np.isfinite(threshold.value):
        method = "mean field" if config.process == "epsilon" else "density evolution"
        parts.append(f"{method} (infinite depth) {with_error(threshold)}")
    references = {"exact": "exact BP", "predicted": "exact posterior"} if measured == "trained" else {theory: "theory"}
    gaps = [f"{name} {with_error(_difference(dataset, measured, curve))}" for curve, name in references.items()]
    where = AXIS[config.process].split("$")[0].strip()
    return (
        f"Class lost at {where} {float(found[measured][0].value):.3f}: {', '.join(parts)}; {measured} minus "
        f"{', minus '.join(gaps)} ({_sizes(config)}, seed {config.seed})."
    )


def _difference(dataset: xr.Dataset, measured: str, reference: str) -> Estimate:
    """Between the transitions of two curves; curves of one grammar share data and noise, row by row."""
    compare = jax.jit(compare_transitions, static_argnames="paired")
    rows = [_rows(dataset, curve)[:, :, 0] for curve in (reference, measured)]
    threshold = halfway(_config(dataset).num_symbols)
    times, paired = jnp.asarray(dataset.time.values), len(rows[0]) == len(rows[1])
    return compare(jax.random.key(_config(dataset).seed), times, *rows, threshold, paired=paired).difference


def _config(dataset: xr.Dataset) -> SimpleNamespace:
    return SimpleNamespace(**json.loads(dataset.attrs["config"]))


def _sizes(config) -> str:
    sizes = config.num_symbols, config.num_synonyms, config.branching, config.depth
    return f"(v, m, s, L) = {sizes}"
