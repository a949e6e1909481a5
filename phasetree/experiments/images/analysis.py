"""The findings of the experiment `images`: what changes together, and where the class is lost.

chi/KIND/T, xi/KIND/T       measured, in patches; KIND is embedding, control or pixels
excess/T                    measured, chi of the embedding above that of its control, on the same images
class-kept/T                measured
peak-.../excess, peak-.../pixels    measured, see `recipes/peaks.py`
class-lost                  measured, the time at which the class is kept half-way between always and by chance
decided                     measured, of two classes: the time at which it is kept with probability .775
speciation-time/CRITERION   predicted, of two classes
decided-over-predicted/CRITERION    difference, the ratio of the two
accuracy                    measured, of the classifier, percent
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from diffusion.measure import (
    Estimate,
    GridGeometry,
    bootstrap,
    correlation_length,
    locate_peak,
    locate_transition,
    mean_estimate,
    susceptibility,
)
from phasetree.experiment import Finding, Findings, curve_findings
from phasetree.experiments.images.stages import KINDS
from phasetree.findings import path
from phasetree.recipes.peaks import peak_findings
from theory.gaussian.speciation import clone_probability

DECIDED = clone_probability(1.0)  # .775, at S = 1
CRITERIA = {  # the speciation times of labelled data, by finding: attribute of the dataset, and what it follows from
    "largest-variance": ("covariance_time", "largest variance of the data"),
    "two-clusters": ("signal_time", "S = 1 of clusters of these means and variance"),
}


def analyse(dataset: xr.Dataset) -> Findings:
    """Changes, then the class, if there are classes."""
    times, found = dataset.t.values, []
    for kind in KINDS:
        found += curve_findings(("chi", kind), times, chi(dataset, kind), "measured", "patches")
        found += curve_findings(("xi", kind), times, xi(dataset, kind), "measured", "patches")
    above = _curve(_pairs(dataset), _excess)
    found += curve_findings(("excess",), times, above, "measured", "patches")
    for of, rows, statistic in (
        ("excess", _pairs(dataset), _excess),
        ("pixels", _rows(dataset, "pixels"), susceptibility),
    ):
        locate = jax.jit(lambda rows, s=statistic: locate_peak(jax.random.key(1), _times(dataset), rows, s))
        found += peak_findings(locate(rows), of, "patches", "OU time")
    if "kept" in dataset:
        found += _of_classes(dataset)
    return Findings(found)


def _of_classes(dataset: xr.Dataset) -> list[Finding]:
    kept = jnp.asarray(dataset.kept.transpose("datum", "t").values, float)
    half = (1 + dataset.attrs["chance"]) / 2
    lost = locate_transition(jax.random.key(2), _times(dataset), kept, half)
    right = Estimate(jnp.asarray(100 * float(dataset.accuracy)), jnp.asarray(100 * float(dataset.accuracy_stderr)))
    found = [
        *curve_findings(("class-kept",), dataset.t.values, mean_estimate(kept), "measured", "1"),
        Finding("class-lost", lost, "measured", "OU time"),
        Finding("accuracy", right, "measured", "%"),
    ]
    if "signal_time" not in dataset.attrs:
        return found
    decided = locate_transition(jax.random.key(3), _times(dataset), kept, DECIDED)
    found.append(Finding("decided", decided, "measured", "OU time"))
    for name, (attribute, criterion) in CRITERIA.items():
        time = Estimate(*(jnp.asarray(float(dataset.attrs[attribute + part])) for part in ("", "_stderr")))
        found.append(Finding(path("speciation-time", name), time, "predicted", "OU time", criterion))
        ratio = _ratio(decided, time)
        found.append(Finding(path("decided-over-predicted", name), ratio, "difference", "1", criterion))
    return found


def _ratio(decided: Estimate, predicted: Estimate) -> Estimate:
    """Of two times from different images, held out and trained on: relative errors add in squares."""
    ratio = decided.value / predicted.value
    return Estimate(ratio, ratio * jnp.hypot(decided.stderr / decided.value, predicted.stderr / predicted.value))


def chi(dataset: xr.Dataset, kind: str) -> Estimate:
    """Patches that change with one patch, itself included."""
    return _curve(_rows(dataset, kind), susceptibility)


def xi(dataset: xr.Dataset, kind: str) -> Estimate:
    """The mean distance of what changes with a patch, in patches."""
    geometry = GridGeometry(*(int(dataset.attrs[side]) for side in ("rows", "columns")))
    return _curve(_rows(dataset, kind), lambda sums: correlation_length(sums, geometry))


def _curve(rows: Float[Array, "datum t *parts"], statistic: Callable) -> Estimate:
    """A function of the mean sums at every time, with its bootstrap error over images."""
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(rows)


def _excess(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return susceptibility(sums[..., 0, :]) - susceptibility(sums[..., 1, :])


def _pairs(dataset: xr.Dataset) -> Float[Array, "datum t 2 distances"]:
    return jnp.stack([_rows(dataset, "embedding"), _rows(dataset, "control")], 2)


def _rows(dataset: xr.Dataset, kind: str) -> Float[Array, "datum t distances"]:
    return jnp.asarray(dataset.sums.sel(kind=kind).transpose("datum", "t", "distance").values, float)


def _times(dataset: xr.Dataset) -> Float[Array, " t"]:
    return jnp.asarray(dataset.t.values, float)
