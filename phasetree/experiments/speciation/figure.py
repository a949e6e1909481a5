"""Figure, table and closing sentence of the experiment `speciation`."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import special

from diffusion.measure import Estimate, locate_transition
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from theory.gaussian.speciation import (
    clone_probability,
    ode_clone_probability,
    signal,
    speciation_time,
    time_of_signal,
)

THRESHOLD = clone_probability(1.0)  # .775, at S = 1
FLOW_SIGNAL = float(special.ndtri(THRESHOLD)) ** 2  # S at which Phi(S^(1/2)) is the same
MARKERS = {"U-turn": "o", "clones": "s", "flow": "^"}
PREDICTIONS = {"U-turn": clone_probability, "clones": clone_probability, "flow": ode_clone_probability}


def measured(dataset: xr.Dataset, denoiser: str, curve: str, dimension: int) -> Float[np.ndarray, "trajectories times"]:
    """1 where the cluster is the same, 0 where not; no rows where nothing was measured."""
    part = (
        dataset.same.sel(denoiser=denoiser, curve=curve, dimension=dimension).transpose("trajectory", "offset").values
    )
    return part[~np.isnan(part).any(1)].astype(float)


def crossing(dataset: xr.Dataset, denoiser: str, curve: str, dimension: int) -> Estimate:
    """The time at which the curve falls through .775."""
    rows, times = measured(dataset, denoiser, curve, dimension), dataset.time.sel(dimension=dimension).values
    return locate_transition(jax.random.key(0), jnp.asarray(times, float), jnp.asarray(rows), THRESHOLD)


def predicted_crossing(dataset: xr.Dataset, curve: str, dimension: int) -> float:
    """By theory: S = 1 for the reverse equation, Phi(S^(1/2)) = .775 for the flow."""
    value = FLOW_SIGNAL if curve == "flow" else 1.0
    return time_of_signal(float(dimension), dataset.attrs["std"] ** 2, value)


def deviations(dataset: xr.Dataset, denoiser: str, curve: str, dimension: int) -> Float[np.ndarray, " times"]:
    """Measured minus predicted probability, in binomial standard errors of the prediction."""
    rows, times = measured(dataset, denoiser, curve, dimension), dataset.time.sel(dimension=dimension).values
    signals = np.asarray(signal(float(dimension), dataset.attrs["std"] ** 2, times))
    want = np.array([PREDICTIONS[curve](float(value)) for value in signals])
    return (rows.mean(0) - want) / np.sqrt(want * (1 - want) / len(rows))


def cases(dataset: xr.Dataset) -> list[tuple[str, int]]:
    """What was measured: denoisers and dimensions."""
    pairs = [(str(k), int(d)) for k in dataset.denoiser.values for d in dataset.dimension.values]
    return [(kind, d) for kind, d in pairs if len(measured(dataset, kind, "U-turn", d))]


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """Probabilities against noise time for every d; the same against the signal, where they fall onto two curves."""
    figure, ((left, right),) = new_page(1, 2)
    variance = dataset.attrs["std"] ** 2
    shades = dict(
        zip(map(int, dataset.dimension.values), np.linspace(0.35, 1, dataset.sizes["dimension"]), strict=True)
    )
    for kind, d in cases(dataset):
        times = dataset.time.sel(dimension=d).values
        for curve, marker in MARKERS.items():
            rows = measured(dataset, kind, curve, d)
            mean, error = rows.mean(0), rows.std(0) / len(rows) ** 0.5
            style = {"fmt": marker, "color": COLORS[kind], "markersize": 3, "linewidth": 0.7, "alpha": shades[d]}
            style |= {"markerfacecolor": "none"} if kind == "exact" else {}
            if curve == "U-turn":
                label = f"{kind}, d = {d}"
                left.errorbar(times, mean, error, **style, label=label)
            label = f"{kind}, {curve}" if d == max(shades) or kind == "trained" else None
            right.errorbar(signal(float(d), variance, times), mean, error, **style, label=label)
        if kind == "exact":
            fine = np.linspace(times[0], times[-1], 200)
            values = [clone_probability(float(value)) for value in np.asarray(signal(float(d), variance, fine))]
            left.plot(fine, values, color=COLORS["theory"], alpha=shades[d], linewidth=0.8, zorder=0)
            left.axvline(speciation_time(float(d), variance).time, color="0.85", linewidth=0.6, zorder=0)
    reached = np.array([signal(float(d), variance, dataset.time.sel(dimension=d).values) for d in shades])
    fine = np.geomspace(reached.min() / 2, 2 * reached.max(), 200)
    for prediction, line in ((clone_probability, "-"), (ode_clone_probability, "--")):
        right.plot(fine, [prediction(float(v)) for v in fine], line, color=COLORS["theory"], linewidth=0.8, zorder=0)
    for axis in (left, right):
        axis.axhline(THRESHOLD, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
        axis.legend(fontsize=5.5)
    left.set(xlabel="noise time $t$", ylabel="cluster kept in a U-turn")
    right.set(xscale="log", xlabel="signal $S$", ylabel="probability of the same cluster")
    return figure


def report(dataset: xr.Dataset) -> str:
    """Markdown: crossings of .775 against theory, the largest deviations, closing sentence."""
    about, count = dataset.attrs, dataset.sizes["trajectory"]
    lines = [
        f"Two clusters, |m|^2 = d, s = {about['std']:g}; {count} trajectories at each of {dataset.sizes['offset']} "
        f"noise times, seed {about['seed']}. Crossing: the time at which the probability falls through "
        f"{THRESHOLD:.4f}. Deviation: the largest of a curve from theory, in binomial standard errors.",
        "",
        "| denoiser | d | curve | crossing | predicted | difference | deviation |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, d in cases(dataset):
        for curve in MARKERS:
            found, want = crossing(dataset, kind, curve, d), predicted_crossing(dataset, curve, d)
            worst = np.abs(deviations(dataset, kind, curve, d)).max()
            difference = with_error(Estimate(100 * (found.value / want - 1), 100 * found.stderr / want))
            lines.append(f"| {kind} | {d} | {curve} | {with_error(found)} | {want:.4f} | {difference}% | {worst:.1f} |")
    return "\n".join([*lines, "", _closing_sentence(dataset)])


def _closing_sentence(dataset: xr.Dataset) -> str:
    kind, d = cases(dataset)[-1]
    found, want = crossing(dataset, kind, "U-turn", d), predicted_crossing(dataset, "U-turn", d)
    difference = with_error(Estimate(found.value - want, found.stderr))
    exact = [case for case in cases(dataset) if case[0] == "exact"]
    worst = max(np.abs(deviations(dataset, "exact", curve, n)).max() for _, n in exact for curve in MARKERS)
    points = len(exact) * len(MARKERS) * dataset.sizes["offset"]
    return (
        f"Speciation in d = {d}, {kind} denoiser: predicted at t = {want:.4f} (S = 1), measured at "
        f"{with_error(found)}, difference {difference}; exact denoisers are within {worst:.1f} binomial standard "
        f"errors of theory at all {points} points (seed {dataset.attrs['seed']})."
    )
