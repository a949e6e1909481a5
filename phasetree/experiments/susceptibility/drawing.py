"""Figure of the experiment `susceptibility`."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from diffusion.measure import TreeGeometry, correlation_length, susceptibility
from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page
from phasetree.experiment import Findings, config_of
from phasetree.experiments.processes import AXIS
from phasetree.experiments.susceptibility.analysis import CONTROLS, tree_levels
from phasetree.experiments.susceptibility.stages import geometry
from theory import mean_field, pair_correlation

STYLES = {
    "exact": ("x", COLORS["exact"]),
    "trained": ("o", COLORS["trained"]),
    "chain": ("s", COLORS["baseline"]),
    "mixture": ("^", COLORS["empirical"]),
}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """chi, xi and C(r); controls and theory; and the tree of one datum below, at and above the peak."""
    config = config_of(dataset)
    figure, axes = new_page(3, 3)
    _plot_curves(axes[0][0], dataset, findings, "chi", r"susceptibility $\chi$")
    _plot_curves(axes[0][1], dataset, findings, "xi", r"correlation length $\xi$ (sites)")
    _plot_decay(axes[0][2], dataset, findings)
    for name in ("exact", "trained"):
        if name in dataset.denoiser:
            _points(axes[1][0], dataset.t, findings.curve("changed", name), name)
    axes[1][0].set(ylabel="symbols changed", ylim=(0, 1))
    axes[1][0].legend(fontsize=6)
    if config.process == "epsilon":
        _plot_collapse(axes[1][1], config)
    elif config.depths:
        _plot_depths(axes[1][1], dataset, findings)
    elif "trained" in dataset.denoiser:
        _plot_ratio(axes[1][1], dataset, findings)
    if config.controls:
        _plot_controls(axes[1][2], dataset, findings)
    for axis in axes[1]:
        axis.set_visible(axis.has_data())
    for axis in (axes[0][0], axes[0][1], axes[1][0], axes[1][2]):
        axis.set(xlabel=AXIS[config.process])
    for number, axis in enumerate(axes[2]):
        _plot_tree(axis, dataset, config, number)
    return figure


def _points(axis: Axes, x, estimate, name: str, label: str | None = None) -> None:
    marker, color = STYLES[name]
    curves.points(axis, x, estimate, color=color, marker=marker, size=2.6, label=label or name)


def _plot_curves(axis: Axes, dataset: xr.Dataset, findings: Findings, what: str, label: str) -> None:
    config = config_of(dataset)
    if config.process == "epsilon":
        noise = jnp.linspace(config.first_time, config.last_time, 400)
        sizes = config.depth, config.num_symbols, config.num_synonyms, config.branching
        sums = pair_correlation.mean_field_sums(noise, *sizes)
        curve = susceptibility(sums) if what == "chi" else correlation_length(sums, geometry(config))
        axis.plot(noise, curve, color=COLORS["theory"], linewidth=0.9, label="mean field")
    for name in ("exact", "trained"):
        if name in dataset.denoiser:
            _points(axis, dataset.t, findings.curve(what, name), name)
    axis.set(ylabel=label)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=6)


def _plot_decay(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    """C(r)/C(0) at three noise levels around the peak of the exact curve."""
    config = config_of(dataset)
    for index, shade in zip(tree_levels(dataset), (0.35, 1.0, 0.6), strict=False):
        for name, (line, marker) in {"exact": ("-", "x"), "trained": ("", "o")}.items():
            if name in dataset.denoiser:
                decay = findings.curve("correlation", name, float(dataset.t[index]))
                label = f"{name}, ${_letter(config)}$ = {float(dataset.t[index]):.2g}"
                curves.points(
                    axis, dataset.distance[1:], type(decay)(decay.value[1:], decay.stderr[1:]), color=COLORS[name],
                    marker=marker, line=line, shade=shade, size=2.6, label=label,
                )  # fmt: skip
    axis.set(xscale="log", xlabel="tree distance $r$ (sites)", ylabel="$C(r)/C(0)$")
    axis.set_yscale("log", nonpositive="mask")
    axis.set_xticks(dataset.distance.values[1 :: max(1, config.depth // 4)])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(fontsize=5)


def _plot_controls(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    _points(axis, dataset.t, findings.curve("chi/exact"), "exact", "hierarchy")
    for name, label in CONTROLS.items():
        if name in dataset.denoiser:
            _points(axis, dataset.t, findings.curve("chi", name), name, label)
    field = findings.curve("chi/field").value
    scaled = float(findings.curve("chi/exact").value.max() / field.max()) * field
    axis.plot(dataset.t, scaled, color="0.5", linestyle="--", label="Gaussian field, scaled")
    axis.set(ylabel=r"$\chi$, exact denoisers")
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])
    axis.legend(fontsize=5.5, ncols=2, loc="upper left")


def _plot_ratio(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    axis.axhline(1, color=COLORS["exact"], label="exact")
    axis.axhspan(0.9, 1.1, color="0.88", zorder=0, label="within 10%")
    _points(axis, dataset.t, findings.curve("ratio"), "trained")
    axis.set(ylabel=r"$\chi$, trained over exact", xlabel=AXIS[config_of(dataset).process])
    axis.legend(fontsize=6)


def _plot_depths(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for depth, shade in zip(dataset.depth.values.tolist(), np.linspace(0.35, 1, dataset.sizes["depth"]), strict=True):
        curve = findings.curve("chi-at-depth", depth)
        style = {"color": COLORS["exact"], "marker": "x", "line": "-", "shade": shade, "size": 2.6}
        curves.points(axis, dataset.t, curve, label=f"$L={depth}$", **style)
    axis.set(ylabel=r"$\chi$, exact", xlabel=AXIS[config_of(dataset).process])
    axis.legend(fontsize=5.5)


def _plot_collapse(axis: Axes, config: SimpleNamespace) -> None:
    """Mean-field curves of several depths, scaled: near the critical noise they coincide."""
    sizes = config.num_symbols, config.num_synonyms, config.branching
    if not mean_field.transition_exists(*sizes):
        return
    nu = mean_field.correlation_exponent(*sizes)
    for depth, shade in zip((6, 9, 12, 18, 24), np.linspace(0.8, 0, 5), strict=True):
        noise = mean_field.critical_noise(*sizes) + np.linspace(-2, 2, 81) / config.branching ** (depth / nu)
        noise = jnp.asarray(noise[(noise > 0) & (noise < 1)])
        sums = pair_correlation.mean_field_sums(noise, depth, *sizes)
        xi = correlation_length(sums, TreeGeometry((config.branching,) * depth), 1)
        x, y = pair_correlation.collapsed(noise, xi, depth, *sizes, nu)
        axis.plot(x, y, color=str(shade), linewidth=0.9, label=f"$L={depth}$")
    axis.set(xlabel=r"$(\epsilon-\epsilon^*)\,s^{L/\nu}$", ylabel=r"$\xi_1/s^L$, mean field")
    axis.legend(fontsize=5.5)


def _plot_tree(axis: Axes, dataset: xr.Dataset, config: SimpleNamespace, number: int) -> None:
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


def _letter(config: SimpleNamespace) -> str:
    return r"\epsilon" if config.process == "epsilon" else "t"
