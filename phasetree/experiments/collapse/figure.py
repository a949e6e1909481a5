"""Figure, table and closing sentence of the experiment `collapse`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy import optimize

from diffusion.measure import Estimate, locate_transition, mean_estimate
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from theory.gaussian.seed_weight import isotropic_seed_weight


def deviation(dataset: xr.Dataset, name: str, exact: str, dimension: int) -> float:
    """The largest difference of a measured curve from its exact one, in standard errors over sets."""
    part = dataset.sel(dimension=dimension)
    mean, error = part[name].mean("set"), part[name].std("set", ddof=1) / part.sizes["set"] ** 0.5
    # where all agree their spread is no error: one more seed, or return, could have been another
    drawn = part.sizes["set"] * dataset.attrs["turns" if name == "returned" else "seeds"]
    least = 1 / (drawn * (dimension if name == "entropy" else 1))
    return float(np.max((abs(mean - part[exact]) / np.maximum(error, least)).values))


def crossing(dataset: xr.Dataset, smaller: int, larger: int) -> Estimate:
    """Where the weight curves of two dimensions cross, over the collapse time."""
    small, large = (dataset.weight.sel(dimension=d).transpose("set", "time").values for d in (smaller, larger))
    # backwards from where the larger one is most behind: earlier both weights are 1, later 0, and which is larger noise
    behind = small - large.astype(float)
    last = max(int(np.argmax(behind.mean(0))) + 1, 7)  # the locator smooths over 7 points
    falls, times = behind[:, :last][:, ::-1], dataset.time.values[:last][::-1]
    found = locate_transition(jax.random.key(0), -jnp.asarray(times), jnp.asarray(falls), 0.0)
    return Estimate(-found.value, found.stderr)


def exact_crossing(dataset: xr.Dataset, smaller: int, larger: int) -> float:
    """Where the exact curves cross: the root between the last two of the times that have it between them, or NaN."""
    parts = [dataset.sel(dimension=d) for d in (smaller, larger)]

    def difference(time: float) -> float:
        small, large = (
            isotropic_seed_weight(
                int(part.points), int(part.dimension), time * float(part.collapse_time), dataset.attrs["std"] ** 2
            )[0]
            for part in parts
        )
        return large - small

    ahead = parts[1].exact_weight.values >= parts[0].exact_weight.values
    (last,) = np.nonzero(ahead[:-1] & ~ahead[1:])
    if not len(last):
        return float("nan")
    early, late = dataset.time.values[last[-1] : last[-1] + 2].tolist()
    return optimize.root_scalar(difference, bracket=(early, late), xtol=1e-5).root


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """Seed weights and excess entropies against noise time, measured and exact, for every dimension."""
    figure, ((left, right),) = new_page(1, 2)
    times, shades = dataset.time.values, np.linspace(0.35, 1, dataset.sizes["dimension"])
    for d, shade in zip(dataset.dimension.values.tolist(), shades, strict=True):
        part = dataset.sel(dimension=d)
        style = {"color": COLORS["empirical"], "alpha": shade, "markersize": 3, "linewidth": 0.7}
        for axis, name, marker, filled in (
            (left, "weight", "o", True),
            (left, "returned", "s", False),
            (right, "entropy", "o", True),
        ):
            error = part[name].std("set", ddof=1) / part.sizes["set"] ** 0.5
            label = f"d = {d}, n = {int(part.points)}" if filled else ("U-turns" if shade == 1 else None)
            face = COLORS["empirical"] if filled else "none"
            axis.errorbar(times, part[name].mean("set"), error, fmt=marker, label=label, markerfacecolor=face, **style)
        left.plot(times, part.exact_weight, color=COLORS["theory"], alpha=shade, linewidth=0.8, zorder=0)
        right.plot(times, part.exact_entropy, color=COLORS["theory"], alpha=shade, linewidth=0.8, zorder=0)
    largest = dataset.isel(dimension=-1)
    fine = np.linspace(times[0], times[-1], 200)
    information = np.log1p(dataset.attrs["std"] ** 2 / np.expm1(2 * fine * float(largest.collapse_time))) / 2
    limit = np.maximum(0, np.log(float(largest.points)) / float(largest.dimension) - information)
    right.plot(fine, limit, "--", color=COLORS["theory"], linewidth=0.8, label="d infinite")
    for axis in (left, right):
        axis.axvline(1, color="0.75", linewidth=0.6, zorder=-1)
        axis.legend(fontsize=6)
    left.set(xlabel="noise time over collapse time $t / t_C$", ylabel="weight of the seed", ylim=(0, 1.03))
    right.set(xlabel="noise time over collapse time $t / t_C$", ylabel="excess entropy / $d$ (nats)")
    return figure


def report(dataset: xr.Dataset) -> str:
    """Markdown: weights at the collapse time, largest deviations from exact curves, crossings, closing sentence."""
    about = dataset.attrs
    lines = [
        f"Gaussian data, s = {about['std']:g}, ln n / d = {about['alpha']:g}; {dataset.sizes['set']} training sets, "
        f"seed {about['seed']}. Deviation: the largest of a curve from its exact one, in standard errors.",
        "",
        "| d | n | t_C | weight at t_C | exact | U-turns that return | deviation: weight | entropy | U-turns |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    middle = dataset.sel(time=1.0, method="nearest")
    for d in dataset.dimension.values.tolist():
        part = middle.sel(dimension=d)
        weight, returned = (
            with_error(mean_estimate(jnp.asarray(part[name].values))) for name in ("weight", "returned")
        )
        worst = [
            f"{deviation(dataset, name, exact, d):.1f}"
            for name, exact in (("weight", "exact_weight"), ("entropy", "exact_entropy"), ("returned", "exact_weight"))
        ]
        numbers = f"{int(part.points)} | {float(part.collapse_time):.4f} | {weight} | {float(part.exact_weight):.4f}"
        lines.append(f"| {d} | {numbers} | {returned} | {' | '.join(worst)} |")
    pairs = list(itertools.pairwise(dataset.dimension.values.tolist()))
    if pairs:
        lines += ["", "| weights cross | at t / t_C | exact |", "|---|---|---|"]
    for small, large in pairs:
        found = with_error(crossing(dataset, small, large))
        lines.append(f"| d = {small} and {large} | {found} | {exact_crossing(dataset, small, large):.4f} |")
    return "\n".join([*lines, "", _closing_sentence(dataset, pairs)])


def _closing_sentence(dataset: xr.Dataset, pairs: list) -> str:
    measured = (("weight", "exact_weight"), ("returned", "exact_weight"))
    sizes = dataset.dimension.values.tolist()
    worst = np.max([deviation(dataset, name, exact, d) for name, exact in measured for d in sizes])
    d = dataset.dimension.values.tolist()[-1]
    sentence = (
        f"Collapse predicted at t_C = {float(dataset.collapse_time.sel(dimension=d)):.4f} (d = {d}); weights and "
        f"returns are within {worst:.1f} standard errors of the exact finite-size curves at all "
        f"{2 * dataset.sizes['dimension'] * dataset.sizes['time']} points"
    )
    if pairs:
        small, large = pairs[-1]
        sentence += (
            f"; the weights of d = {small} and {large} cross at {with_error(crossing(dataset, small, large))} t_C, "
            f"exact {exact_crossing(dataset, small, large):.4f}"
        )
    return f"{sentence} (seed {dataset.attrs['seed']})."
