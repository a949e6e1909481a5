"""Figure and report of the experiment `speciation`."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import COLORS, in_style, new_page, with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.speciation.analysis import PREDICTIONS, THRESHOLD, cases, variance
from theory.gaussian.speciation import clone_probability, ode_clone_probability, signal, speciation_time

MARKERS = {"U-turn": "o", "clones": "s", "flow": "^"}


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """Probabilities against noise time for every d; the same against the signal, where they fall onto two curves."""
    figure, ((left, right),) = new_page(1, 2)
    s2, sizes = variance(dataset), dataset.dimension.values.tolist()
    shade = dict(zip(sizes, curves.shades(len(sizes)), strict=True))
    for kind, d in cases(dataset):
        times = dataset.t.sel(dimension=d).values
        for curve, marker in MARKERS.items():
            kept = findings.curve("probability", kind, curve, d)
            style = {"color": COLORS[kind], "marker": marker, "shade": shade[d], "filled": kind != "exact"}
            if curve == "U-turn":
                curves.points(left, times, kept, **style, label=f"{kind}, d = {d}")
            label = f"{kind}, {curve}" if d == max(sizes) or kind == "trained" else None
            curves.points(right, signal(float(d), s2, times), kept, **style, label=label)
    for number, d in enumerate(sizes):
        times = dataset.t.sel(dimension=d).values
        label = "theory" if number == len(sizes) - 1 else None
        fine, style = np.linspace(times[0], times[-1], 200), {"shade": shade[d], "label": label}
        curves.function(left, fine, _theory(d, s2), color=COLORS["theory"], **style)
    curves.marks(left, [speciation_time(float(d), s2).time for d in sizes], label="$S = 1$")
    reached = np.concatenate([signal(float(d), s2, dataset.t.sel(dimension=d).values) for d in sizes])
    fine = np.geomspace(reached.min() / 2, 2 * reached.max(), 200)
    curves.function(right, fine, clone_probability, color=COLORS["theory"], label="theory, SDE")
    curves.function(right, fine, ode_clone_probability, color=COLORS["theory"], line="--", label="theory, flow")
    for axis in (left, right):
        curves.threshold(axis, THRESHOLD)
        axis.legend(fontsize=5.5)
    left.set(xlabel="noise time $t$", ylabel="cluster kept in a U-turn")
    right.set(xscale="log", xlabel="signal $S$", ylabel="probability of the same cluster")
    return figure


def _theory(dimension: int, s2: float) -> Callable[[float], float]:
    """The probability of the same cluster, as a function of noise time."""
    return lambda t: clone_probability(float(signal(float(dimension), s2, t)))


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Crossings of .775 against theory, the largest deviations, closing sentence."""
    about, count = config_of(dataset), dataset.sizes["trajectory"]
    title = (
        f"Two clusters, |m|^2 = d, s = {about.std:g}; {count} trajectories at each of {dataset.sizes['offset']} "
        f"noise times, seed {about.seed}. Crossing: the time at which the probability falls through "
        f"{THRESHOLD:.4f}. Deviation: the largest of a curve from theory, in binomial standard errors."
    )
    rows = [
        (kind, d, curve, findings["crossing", kind, curve, d], findings["crossing", "theory", curve, d],
         findings["shift", kind, curve, d], f"{findings['deviation', kind, curve, d].value:.1f}")
        for kind, d in cases(dataset) for curve in PREDICTIONS
    ]  # fmt: skip
    header = ("denoiser", "d", "curve", "crossing", "predicted", "difference (%)", "deviation")
    return Report(title, (Table(header, tuple(rows)),), _closing(dataset, findings))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    kind, d = cases(dataset)[-1]
    want, got, delay = (
        findings[name, of, "U-turn", d].estimate
        for name, of in (("crossing", "theory"), ("crossing", kind), ("delay", kind))
    )
    points = len(findings.select("probability", "exact"))
    return (
        f"Speciation in d = {d}, {kind} denoiser: predicted at t = {with_error(want)} (S = 1), measured at "
        f"{with_error(got)}, difference {with_error(delay)}; exact denoisers are within "
        f"{findings['largest-deviation', 'exact'].value:.1f} binomial standard errors of theory at all {points} points "
        f"(seed {config_of(dataset).seed})."
    )
