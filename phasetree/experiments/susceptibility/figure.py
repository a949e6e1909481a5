"""Figure, table and closing sentence of the experiment `susceptibility`."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from diffusion.measure import (
    Estimate,
    TreeGeometry,
    bootstrap,
    correlation,
    correlation_length,
    locate_peak,
    susceptibility,
)
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiments.processes import AXIS
from phasetree.recipes.training import training_lines
from theory import mean_field, pair_correlation

MARKERS = {"exact": "x", "trained": "o", "chain": "s", "mixture": "^"}
CONTROLS = {"chain": "Markov chain", "mixture": "flat mixture"}


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """chi, xi and C(r); controls and what theory adds; and the tree of one datum below, at and above the peak."""
    config = _config(dataset)
    figure, axes = new_page(3, 3)
    _plot_curves(axes[0][0], dataset, "chi", r"susceptibility $\chi$")
    _plot_curves(axes[0][1], dataset, "xi", r"correlation length $\xi$ (sites)")
    _plot_decay(axes[0][2], dataset, config)
    _plot_fraction(axes[1][0], dataset)
    if config.process == "epsilon":
        _plot_collapse(axes[1][1], config)
    elif "trained" in dataset.curve:
        _plot_ratio(axes[1][1], dataset)
    if config.controls:
        _plot_controls(axes[1][2], dataset)
    for axis in axes[1]:
        axis.set_visible(axis.has_data())
    for axis in (axes[0][0], axes[0][1], axes[1][0], axes[1][2]):
        axis.set(xlabel=AXIS[config.process])
    for number, axis in enumerate(axes[2]):
        _plot_tree(axis, dataset, config, number)
    return figure


def _points(axis, x, value, stderr, name: str, label: str | None = None) -> None:
    color = COLORS.get(name, COLORS["baseline"] if name == "chain" else COLORS["empirical"])
    axis.errorbar(x, value, stderr, fmt=MARKERS[name], color=color, markersize=2.6, linewidth=0.7, label=label or name)


def _plot_curves(axis, dataset: xr.Dataset, statistic: str, label: str) -> None:
    if "mean field" in dataset.curve:
        config = _config(dataset)
        noise = jnp.linspace(config.first_time, config.last_time, 400)
        sizes = config.depth, config.num_symbols, config.num_synonyms, config.branching
        sums = pair_correlation.mean_field_sums(noise, *sizes)
        curve = susceptibility(sums) if statistic == "chi" else correlation_length(sums, _geometry(config))
        axis.plot(noise, curve, color=COLORS["theory"], linewidth=0.9, label="mean field")
    for name in ("exact", "trained"):
        if name in dataset.curve:
            part = dataset.sel(curve=name)
            _points(axis, dataset.time, part[statistic], part[f"{statistic}_stderr"], name)
    axis.set(ylabel=label)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=6)


def _plot_decay(axis, dataset: xr.Dataset, config) -> None:
    """C(r)/C(0) at three noise levels around the peak of the exact curve."""
    geometry = _geometry(config)
    shades = (0.35, 1.0, 0.6)
    for index, shade in zip(_levels_of_trees(dataset), shades, strict=True):
        for name, style in (("exact", "x-"), ("trained", "o")):
            if name not in dataset.curve:
                continue
            sums = _rows(dataset, name)[:, index]
            found = _bootstrap(sums, lambda mean: correlation(mean, geometry))
            label = f"${_letter(config)}$ = {float(dataset.time[index]):.2g}" if name == "exact" else None
            axis.errorbar(
                geometry.distances[1:],
                found.value[1:],
                found.stderr[1:],
                fmt=style,
                color=COLORS[name],
                alpha=shade,
                markersize=2.6,
                linewidth=0.7,
                label=label,
            )
    axis.set(xscale="log", xlabel="tree distance $r$ (sites)", ylabel="$C(r)/C(0)$")
    axis.set_yscale("log", nonpositive="mask")
    axis.set_xticks(geometry.distances[1 :: max(1, config.depth // 4)])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(fontsize=6)


def _plot_controls(axis, dataset: xr.Dataset) -> None:
    part = dataset.sel(curve="exact")
    _points(axis, dataset.time, part.chi, part.chi_stderr, "exact", "hierarchy")
    for name, label in CONTROLS.items():
        if name in dataset.curve:
            part = dataset.sel(curve=name)
            _points(axis, dataset.time, part.chi, part.chi_stderr, name, label)
    if "field_chi" in dataset:
        scale = float(dataset.chi.sel(curve="exact").max()) / float(dataset.field_chi.max())
        axis.plot(dataset.time, scale * dataset.field_chi, color="0.5", linestyle="--", label="Gaussian field, scaled")
    axis.set(ylabel=r"$\chi$, exact denoisers")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=6)


def _plot_fraction(axis, dataset: xr.Dataset) -> None:
    for name in ("exact", "trained"):
        if name in dataset.curve:
            rows = dataset.fraction.sel(curve=name).dropna("row", how="all")
            _points(axis, dataset.time, rows.mean("row"), rows.std("row", ddof=1) / rows.sizes["row"] ** 0.5, name)
    axis.set(ylabel="symbols changed", ylim=(0, 1))


def _plot_ratio(axis, dataset: xr.Dataset) -> None:
    axis.axhline(1, color=COLORS["exact"])
    axis.axhspan(0.9, 1.1, color="0.92", zorder=0)
    ratio = _ratio(dataset)
    _points(axis, dataset.time, ratio.value, ratio.stderr, "trained")
    axis.set(ylabel=r"$\chi$, trained over exact", xlabel=AXIS[_config(dataset).process])


def _plot_collapse(axis, config) -> None:
    """The mean-field curves of several depths, scaled: near the critical noise they are one."""
    sizes = config.num_symbols, config.num_synonyms, config.branching
    if not mean_field.transition_exists(*sizes):
        return
    nu = mean_field.correlation_exponent(*sizes)
    for depth, shade in zip((6, 9, 12, 18, 24), np.linspace(0.8, 0, 5), strict=True):
        noise = jnp.asarray(
            mean_field.critical_noise(*sizes) + np.linspace(-2, 2, 81) / config.branching ** (depth / nu)
        )
        sums = pair_correlation.mean_field_sums(noise, depth, *sizes)
        xi = correlation_length(sums, TreeGeometry((config.branching,) * depth), 1)
        xi = jnp.where((noise > 0) & (noise < 1), xi, jnp.nan)
        x, y = pair_correlation.collapsed(noise, xi, depth, *sizes, nu)
        axis.plot(x, y, color=str(shade), linewidth=0.9, label=f"$L={depth}$")
    axis.set(xlabel=r"$(\epsilon-\epsilon^*)\,s^{L/\nu}$", ylabel=r"$\xi_1/s^L$, mean field")
    axis.legend(fontsize=5.5)


def _plot_tree(axis, dataset: xr.Dataset, config, number: int) -> None:
    changed = np.asarray(dataset.tree_changed.isel(tree=number).values, bool)
    s, depth = config.branching, config.depth
    starts = np.cumsum([0, *(s**level for level in range(depth + 1))])
    places = [(np.arange(s**level) + 0.5) / s**level for level in range(depth + 1)]
    edges, colors = [], []
    for level in range(1, depth + 1):
        for node in range(s**level):
            edges.append([(places[level - 1][node // s], 1 - level), (places[level][node], -level)])
            colors.append(COLORS["trained"] if changed[starts[level] + node] else "0.75")
    axis.add_collection(LineCollection(edges, colors=colors, linewidths=min(0.8, 40 / s**depth + 0.15)))
    for level in range(depth + 1):
        here = changed[starts[level] : starts[level + 1]]
        color = np.where(here, COLORS["trained"], "0.6")
        axis.scatter(places[level], np.full(len(here), -level), s=min(9, 160 / s**level + 0.6), c=color, zorder=3)
    axis.set(xlim=(0, 1), ylim=(-depth - 0.3, 0.3), xticks=[], yticks=[])
    share = changed[starts[depth] :].mean()
    time = f"${_letter(config)}$ = {float(dataset.tree_time[number]):.2g}"
    axis.set_title(f"{time}: {share:.0%} of the leaves changed", fontsize=7)
    axis.spines[:].set_visible(False)


def report(dataset: xr.Dataset) -> str:
    """Markdown table of chi and xi at every noise level, losses, controls, and one closing sentence."""
    config = _config(dataset)
    curves = [name for name in ("mean field", "exact", "trained") if name in dataset.curve]
    titles = [f"{statistic}, {name}" for name in curves for statistic in ("chi", "xi")]
    sampled = "exact covariances" if config.process == "epsilon" else f"{config.num_trajectories} trajectories"
    lines = [
        f"Correlated changes, {_sizes(config)}, {config.process}, {config.num_data} data of each of "
        f"{config.num_grammars} grammars, {sampled}, seed {config.seed}; xi in sites:",
        "",
        "| t | changed | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for i, t in enumerate(dataset.time.values):
        cells = [with_error(_at(dataset, name, statistic, i)) for name in curves for statistic in ("chi", "xi")]
        changed = float(dataset.fraction.sel(curve="exact").isel(time=i).mean("row"))
        lines.append(f"| {t:.4g} | {changed:.3f} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *training_lines(dataset), *_control_lines(dataset), "", _closing_sentence(dataset)])


def _control_lines(dataset: xr.Dataset) -> list[str]:
    lines = []
    for name, title in CONTROLS.items():
        if name in dataset.curve:
            lines.append(f"Control, {title} (of the first grammar): {_peak_words(dataset, name)}.")
    if "field_chi" in dataset:
        grows = bool((np.diff(dataset.field_chi) > 0).all() and (np.diff(dataset.field_xi) > 0).all())
        word = "grow with the noise up to the last level" if grows else "do NOT grow monotonically"
        lines.append(f"Control, Gaussian random field with spectrum 1/k (closed form): chi and xi {word}.")
    return lines


def _peak_words(dataset: xr.Dataset, name: str) -> str:
    peak = _peak(dataset, name)
    index = _top(dataset, name)
    return (
        f"chi is largest at t = {float(dataset.time[index]):.3g}, {with_error(_at(dataset, name, 'chi', index))}, "
        f"{with_error(peak.above_first)} above the first and {with_error(peak.above_last)} above the last noise level"
    )


def _closing_sentence(dataset: xr.Dataset) -> str:
    config = _config(dataset)
    where = AXIS[config.process].split("$")[0].strip()
    parts = []
    for name in ("mean field", "exact", "trained"):
        if name in dataset.curve:
            index = _top(dataset, name)
            title = "exact BP" if name == "exact" else name
            value = with_error(_at(dataset, name, "chi", index))
            parts.append(f"{title} chi = {value} at {where} {float(dataset.time[index]):.3g}")
    sentence = f"Changes are most correlated: {', '.join(parts)}"
    if "trained" in dataset.curve:
        ratio = _ratio(dataset)
        worst = int(jnp.nanargmax(jnp.abs(ratio.value - 1)))
        gap = Estimate(100 * (ratio.value[worst] - 1), 100 * ratio.stderr[worst])
        where = f"t = {float(dataset.time[worst]):.3g}"
        sentence += f"; the largest difference of trained from exact is {with_error(gap)}% ({where})"
    if "mean field" in dataset.curve:
        theory, exact = (dataset.sel(curve=name) for name in ("mean field", "exact"))
        gaps, errors = 100 * (exact.chi / theory.chi - 1).values, 100 * (exact.chi_stderr / theory.chi).values
        worst = int(np.nanargmax(abs(gaps)))
        gap = with_error(Estimate(jnp.asarray(gaps[worst]), jnp.asarray(errors[worst])))
        sentence += (
            f"; the largest difference of exact from mean field is {gap}% (eps = {float(dataset.time[worst]):.3g})"
        )
    return f"{sentence} ({_sizes(config)}, seed {config.seed})."


def _ratio(dataset: xr.Dataset) -> Estimate:
    """chi(trained) over chi(exact); row i of both is the same data with the same noise."""
    both = jnp.stack([_rows(dataset, "trained"), _rows(dataset, "exact")], 1)
    return _bootstrap(both, lambda mean: susceptibility(mean[0]) / susceptibility(mean[1]))


def _peak(dataset: xr.Dataset, name: str):
    return jax.jit(locate_peak)(_key(dataset), jnp.asarray(dataset.time.values, float), _rows(dataset, name))


def _bootstrap(rows, statistic) -> Estimate:
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(rows)


def _rows(dataset: xr.Dataset, name: str):
    part = dataset.sums.sel(curve=name).dropna("row", how="all").transpose("row", "time", "distance")
    return jnp.asarray(part.values, float)


def _at(dataset: xr.Dataset, name: str, statistic: str, index: int) -> Estimate:
    part = dataset.sel(curve=name).isel(time=index)
    return Estimate(jnp.asarray(float(part[statistic])), jnp.asarray(float(part[f"{statistic}_stderr"])))


def _top(dataset: xr.Dataset, name: str) -> int:
    """The noise level at which a curve's chi is largest."""
    return int(np.nanargmax(dataset.chi.sel(curve=name).values))


def _levels_of_trees(dataset: xr.Dataset) -> list[int]:
    return [int(np.argmin(abs(dataset.time.values - t))) for t in dataset.tree_time.values]


def _letter(config) -> str:
    return r"\epsilon" if config.process == "epsilon" else "t"


def _geometry(config) -> TreeGeometry:
    return TreeGeometry((config.branching,) * config.depth)


def _key(dataset: xr.Dataset):
    return jax.random.key(_config(dataset).seed)


def _config(dataset: xr.Dataset) -> SimpleNamespace:
    return SimpleNamespace(**json.loads(dataset.attrs["config"]))


def _sizes(config) -> str:
    sizes = config.num_symbols, config.num_synonyms, config.branching, config.depth
    return f"(v, m, s, L) = {sizes}"
