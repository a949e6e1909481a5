"""The findings of the experiment `speciation`: probabilities, where they cross .775, and how far from theory.

probability/DENOISER/CURVE/D/OFFSET    measured; DENOISER is exact or trained
crossing/DENOISER/CURVE/D              measured, noise time; DENOISER `theory` is predicted
shift/DENOISER/CURVE/D                 difference of the two, percent; `delay` is the same as a time
deviation/DENOISER/CURVE/D             the largest difference of a curve from theory, binomial standard errors
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import special

from diffusion.measure import Estimate, locate_transition, mean_estimate
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.findings import path
from theory.gaussian.speciation import clone_probability, ode_clone_probability, signal, time_of_signal

THRESHOLD = clone_probability(1.0)  # .775, at S = 1
FLOW_SIGNAL = float(special.ndtri(THRESHOLD)) ** 2  # S at which Phi(S^(1/2)) is the same
PREDICTIONS = {"U-turn": clone_probability, "clones": clone_probability, "flow": ode_clone_probability}


def analyse(dataset: xr.Dataset) -> Findings:
    """All findings, those of the exact denoiser first."""
    found = []
    for kind, d in cases(dataset):
        for curve in PREDICTIONS:
            found += _of_curve(dataset, kind, curve, d)
    exact = [f for f in found if f.name.startswith("deviation/exact/")]
    largest = Finding.exact("largest-deviation/exact", max(f.value for f in exact), "difference", "standard errors")
    theory = [
        Finding.exact(
            path("crossing", "theory", curve, d), predicted_crossing(dataset, curve, d), "predicted", "OU time"
        )
        for d in map(int, dataset.dimension.values)
        for curve in PREDICTIONS
    ]
    return Findings([*theory, *found, largest])


def _of_curve(dataset: xr.Dataset, kind: str, curve: str, d: int) -> list[Finding]:
    rows, of = measured(dataset, kind, curve, d), (kind, curve, d)
    kept = mean_estimate(rows)
    times = jnp.asarray(dataset.t.sel(dimension=d).values, float)
    where = locate_transition(jax.random.key(0), times, jnp.asarray(rows), THRESHOLD, chance=0.5)
    want = predicted_crossing(dataset, curve, d)
    shift = Estimate(100 * (where.value / want - 1), 100 * where.stderr / want)
    delay = Estimate(where.value - want, where.stderr)
    worst = float(np.abs(deviations(dataset, kind, curve, d)).max())
    return [
        *curve_findings(("probability", *of), dataset.offset.values, kept, "measured", "1"),
        Finding(path("crossing", *of), where, "measured", "OU time"),
        Finding(path("shift", *of), shift, "difference", "%"),
        Finding(path("delay", *of), delay, "difference", "OU time"),
        Finding.exact(path("deviation", *of), worst, "difference", "standard errors"),
    ]


def cases(dataset: xr.Dataset) -> list[tuple[str, int]]:
    """What was measured: denoisers and dimensions."""
    pairs = [(str(k), int(d)) for k in dataset.denoiser.values for d in dataset.dimension.values]
    return [(kind, d) for kind, d in pairs if len(measured(dataset, kind, "U-turn", d))]


def measured(dataset: xr.Dataset, denoiser: str, curve: str, dimension: int) -> Float[np.ndarray, "trajectories times"]:
    """1 where the cluster is the same, 0 where not; no rows where nothing was measured."""
    part = dataset.same.sel(denoiser=denoiser, curve=curve, dimension=dimension)
    rows = part.transpose("trajectory", "offset").values
    return rows[~np.isnan(rows).any(1)].astype(float)


def predicted_crossing(dataset: xr.Dataset, curve: str, dimension: int) -> float:
    """By theory: S = 1 for the reverse equation, Phi(S^(1/2)) = .775 for the flow."""
    return time_of_signal(float(dimension), variance(dataset), FLOW_SIGNAL if curve == "flow" else 1.0)


def deviations(dataset: xr.Dataset, denoiser: str, curve: str, dimension: int) -> Float[np.ndarray, " times"]:
    """Measured minus predicted probability, in binomial standard errors of the prediction."""
    rows, times = measured(dataset, denoiser, curve, dimension), dataset.t.sel(dimension=dimension).values
    signals = np.asarray(signal(float(dimension), variance(dataset), times))
    want = np.array([PREDICTIONS[curve](float(value)) for value in signals])
    return (rows.mean(0) - want) / np.sqrt(want * (1 - want) / len(rows))


def variance(dataset: xr.Dataset) -> float:
    """s^2, of the clusters."""
    return config_of(dataset).std ** 2
