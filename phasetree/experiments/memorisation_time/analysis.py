"""The findings of the experiment `memorisation-time`, of N training points.

train-loss/N/STEP, test-loss/N/STEP, memorised/N/STEP, copies/N/STEP    measured, errors over repeats
time/generalisation/N, time/memorisation/N, time/copies/N               measured, training steps
best-test-loss/N, exact-loss/N, copies-at-end/N                         measured; exact-loss predicted
exponent/generalisation/THRESHOLD, exponent/memorisation/THRESHOLD      measured, of the time against N
exponent/copies                                                         measured
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings, curve_findings
from phasetree.findings import path

HALF, THRESHOLDS = 0.5, (0.25, 0.5, 0.75)
COPIED = 0.1  # fraction of generated data that are copies, at the time by copies
TIMES = {"generalisation": HALF, "memorisation": HALF, "copies": COPIED}
LOSS = "squared error of a number"


def analyse(dataset: xr.Dataset) -> Findings:
    """Every size, then the exponents."""
    sizes = dataset.points.values.tolist()
    found = [finding for n in sizes for finding in _of_size(dataset.sel(points=n), n)]
    for what, threshold in TIMES.items():
        rows = times(dataset, what, threshold)
        found += [
            Finding(path("time", what, n), mean_estimate(jnp.asarray(rows[:, i])), "measured", "steps")
            for i, n in enumerate(sizes)
        ]
    for what in ("generalisation", "memorisation"):
        found += [
            Finding(path("exponent", what, threshold), exponent(dataset, what, threshold), "measured", "1")
            for threshold in THRESHOLDS
        ]
    found.append(Finding("exponent/copies", exponent(dataset, "copies", COPIED), "measured", "1"))
    theory = {"memorisation": 1.0, "generalisation": 0.0}
    found += [Finding.exact(path("exponent/theory", what), n, "predicted", "1") for what, n in theory.items()]
    return Findings(found)


def _of_size(part: xr.Dataset, n: int) -> list[Finding]:
    looks = part.transpose("repeat", "look")
    known = np.isfinite(looks.step.values[0])
    curves = {"train-loss": looks.train_loss, "test-loss": looks.test_loss, "copies": looks.copies}
    found = []
    for name, values in {**curves, "memorised": memorised(looks).transpose("repeat", "look")}.items():
        estimate = mean_estimate(jnp.asarray(values.values[:, known], float))
        unit = LOSS if name.endswith("loss") else "1"
        found += curve_findings((name, n), looks.step.values[0, known], estimate, "measured", unit)
    last = part.copies.where(part.step == part.step.max("look")).max("look")
    best = mean_estimate(jnp.asarray(part.test_loss.min("look").values, float))
    return [
        *found,
        Finding(path("best-test-loss", n), best, "measured", LOSS),
        Finding.exact(path("exact-loss", n), _exact_loss(part), "predicted", LOSS),
        Finding(path("copies-at-end", n), mean_estimate(jnp.asarray(last.values, float)), "measured", "1"),
    ]


def _exact_loss(part: xr.Dataset) -> float:
    """Of the exact denoiser on fresh data: what is left of the test loss beside the excess, at its best."""
    best = part.test_loss.argmin("look")
    return float((part.test_loss - part.excess).isel(look=best).mean())


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

    def first(repeat: int, n: int) -> float:
        steps, values = (part.isel(repeat=repeat).sel(points=n).values for part in (dataset.step, curves[what]))
        return first_time(steps.astype(float), values.astype(float), threshold)

    return np.array([[first(r, n) for n in dataset.points.values.tolist()] for r in range(dataset.sizes["repeat"])])


def exponent(dataset: xr.Dataset, what: str, threshold: float) -> Estimate:
    """Slope of ln time against ln n: the mean over repeats, with its standard error, NaN of a single one."""
    rows = np.log(times(dataset, what, threshold))
    slopes = np.array([np.polyfit(np.log(dataset.points.values), row, 1)[0] for row in rows if np.isfinite(row).all()])
    if not len(slopes):
        return Estimate(jnp.asarray(jnp.nan), jnp.asarray(jnp.nan))
    return mean_estimate(jnp.asarray(slopes))
