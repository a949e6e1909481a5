"""Figure, table and closing sentence of the experiment `windows`."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure

from diffusion.measure import Estimate, locate_transition
from phasetree.drawing.style import COLORS, in_style, new_figure, with_error
from theory.gaussian.speciation import clone_probability, signal, speciation_time
from theory.gaussian.windows import window_time

THRESHOLD = clone_probability(1.0)  # .775, at S = 1
EDGES = 0.95, 0.05  # total variation of a level's two children at the ends of its window
MARKERS = {"exact": "o", "trained": "s"}


def conditional(
    dataset: xr.Dataset, denoiser: str, window: int, level: int
) -> list[Float[np.ndarray, " trajectories"]]:
    """Whether the level is kept, for trajectories whose level above is, at each time of a window."""
    part = dataset.kept.sel(denoiser=denoiser, window=window)
    here = part.sel(level=level).transpose("offset", "trajectory").values.astype(float)
    above = np.ones_like(here) if level == 1 else part.sel(level=level - 1).transpose("offset", "trajectory").values
    return [np.asarray(row[kept == 1]) for row, kept in zip(here, above, strict=True)]


def crossing(dataset: xr.Dataset, denoiser: str, level: int) -> Estimate:
    """The time at which a level's conditional retention falls through .775."""
    rows = conditional(dataset, denoiser, level, level)
    count = min(map(len, rows))  # trajectories of different times are independent
    table = jnp.asarray(np.stack([row[:count] for row in rows], 1))
    return locate_transition(
        jax.random.key(level), jnp.asarray(dataset.time.sel(window=level).values), table, THRESHOLD
    )


def predicted(dataset: xr.Dataset, level: int) -> float:
    """S_l = 1."""
    offset = float(np.atleast_1d(dataset.attrs["level_offsets"])[level - 1])
    return speciation_time(offset**2, dataset.attrs["std"] ** 2).time


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """Each level's retention, given that of the level above, against noise time; windows shaded."""
    figure, (axis,) = new_figure()
    variance, offsets = dataset.attrs["std"] ** 2, np.atleast_1d(dataset.attrs["level_offsets"])
    levels = dataset.level.values.tolist()
    shades = np.linspace(1, 0.4, len(levels))
    fine = np.linspace(0, 1.25 * float(dataset.time.max()), 300)
    for level, offset, shade in zip(levels, offsets, shades, strict=True):
        curve = [clone_probability(float(s)) for s in np.asarray(signal(offset**2, variance, fine[1:]))]
        axis.plot(fine[1:], curve, color=COLORS["theory"], alpha=shade, linewidth=0.8, zorder=0)
        early, late = (window_time(2 * float(offset), variance, edge) for edge in EDGES)
        axis.plot([np.nan_to_num(early), late], 2 * [0.47 - 0.012 * level], color="0.6", linewidth=2, clip_on=True)
        axis.text(predicted(dataset, level), 1.02, f"level {level}", ha="center", fontsize=6)
        axis.axvline(predicted(dataset, level), color="0.75", linewidth=0.5, zorder=-1)
        for kind in dataset.denoiser.values.tolist():
            times = dataset.time.sel(window=level).values
            rows = conditional(dataset, str(kind), level, level)
            mean, error = np.array([row.mean() for row in rows]), [row.std() / len(row) ** 0.5 for row in rows]
            style = {"color": COLORS[kind], "alpha": shade, "markersize": 3, "linewidth": 0.7}
            style |= {"markerfacecolor": "none"} if kind == "exact" else {}
            label = str(kind) if level == 1 else None
            axis.errorbar(times, mean, error, fmt=MARKERS[kind], label=label, **style)
    axis.axhline(THRESHOLD, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
    axis.set(xlabel="noise time $t$", ylabel="node kept, if its parent is", ylim=(0.4, 1.07), xlim=(0, fine[-1]))
    axis.legend(loc="center right")
    return figure


def report(dataset: xr.Dataset) -> str:
    """Markdown: each level's crossing against theory, its window, closing sentence."""
    about, variance = dataset.attrs, dataset.attrs["std"] ** 2
    lines = [
        f"A binary tree of clusters, s = {about['std']:g}; {dataset.sizes['trajectory']} U-turns at each of "
        f"{dataset.sizes['offset']} noise times around that of each level, seed {about['seed']}. Decided: the time at "
        f"which a level is kept with probability {THRESHOLD:.4f} where the level above is. Window: the times at which "
        f"the total variation between the two children is {EDGES[0]} and {EDGES[1]}.",
        "",
        "| denoiser | level | m_l | decided at | predicted | difference | window |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dataset.denoiser.values.tolist():
        for level, offset in zip(dataset.level.values.tolist(), np.atleast_1d(about["level_offsets"]), strict=True):
            found, want = crossing(dataset, kind, level), predicted(dataset, level)
            difference = with_error(Estimate(found.value - want, found.stderr))
            early, late = (np.nan_to_num(window_time(2 * float(offset), variance, edge)) for edge in EDGES)
            lines.append(
                f"| {kind} | {level} | {offset:g} | {with_error(found)} | {want:.4f} | {difference} | "
                f"{early:.2f} to {late:.2f} |"
            )
    return "\n".join([*lines, "", _closing_sentence(dataset)])


def _closing_sentence(dataset: xr.Dataset) -> str:
    clauses = []
    for kind in dataset.denoiser.values.tolist():
        found = {level: crossing(dataset, kind, level) for level in dataset.level.values.tolist()}
        level = max(found, key=lambda k: abs(float(found[k].value) - predicted(dataset, k)))
        difference = Estimate(found[level].value - predicted(dataset, level), found[level].stderr)
        clauses.append(f"{kind} denoiser, largest difference {with_error(difference)} (level {level})")
    times = ", ".join(f"{predicted(dataset, level):.3f}" for level in dataset.level.values.tolist())
    return f"Levels are decided at t = {times}, predicted; {'; '.join(clauses)} (seed {dataset.attrs['seed']})."
