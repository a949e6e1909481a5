"""The findings of the experiment `jacobian`. KIND is exact, mean over grammars, or trained, over strings of one.

threshold/annealed          predicted: the noise that loses the class of an infinitely deep hierarchy
transition/class            predicted: where the exact posterior's belief in the class, mean over strings, crosses 1/2
top/KIND/T                  measured: the largest eigenvalue of the Jacobian at noise time T
covariance/KIND/T           measured: the same of the posterior covariance, sigma^2 / alpha times as large
held/KIND/T                 measured: the level of the smallest subtree that holds .9 of the leading vector
class/T                     predicted: the posterior's belief in the class
peak-time/KIND, ..          where `top` is largest, see `recipes.peaks`; peak-time/covariance that of exact denoisers
peak-minus-transition       difference: of exact denoisers; its error holds that of the grid, spacing / 12^(1/2)
ratio/T                     measured: `top` of the network over that of the exact denoiser, means over the same strings
asymmetry/trained/T         measured: what the network's Jacobian moves the leading vector by beside its symmetric part,
                            over its largest eigenvalue
residual                    measured: the largest |S v - value v| of all searches, over the mean value at its noise time
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from diffusion.measure import Estimate, bootstrap, independent_rows, locate_peak, locate_transition, mean_estimate
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.recipes.peaks import peak_findings
from phasetree.recipes.training import training_findings

OU = "OU time"


def analyse(dataset: xr.Dataset) -> Findings:
    """Thresholds, curves, peaks and their difference, and the network beside the exact denoiser."""
    seed, times = config_of(dataset).seed, jnp.asarray(dataset.t.values)
    annealed = Estimate(jnp.asarray(float(dataset.annealed)), jnp.asarray(float(dataset.annealed_stderr)))
    belief = jnp.asarray(dataset.belief.transpose("grammar", "datum", "t").values, float)
    where = locate_transition(jax.random.key(seed), times, belief)
    found = [
        Finding("threshold/annealed", annealed, "predicted", OU, "rules drawn anew at every node, L infinite"),
        Finding("transition/class", where, "predicted", OU, "exact posterior, belief 1/2"),
        *curve_findings(("class",), dataset.t.values, mean_estimate(independent_rows(belief)), "predicted", "1"),
    ]
    for kind in map(str, dataset.denoiser.values):
        found += _curves(dataset, kind)
    peak = next(f for f in found if f.name == "peak-time/exact").estimate
    spacing = float(times[1] - times[0])
    error = jnp.sqrt(peak.stderr**2 + where.stderr**2 + spacing**2 / 12)
    apart = Estimate(peak.value - where.value, error)
    found.append(Finding("peak-minus-transition", apart, "difference", OU, f"grid spacing {spacing:.3g}"))
    worst = float((dataset.residual.max("datum") / dataset.value.mean("datum")).max())
    found.append(Finding.exact("residual", worst, "measured", "of the mean eigenvalue"))
    return Findings([*found, *_network(dataset), *training_findings(dataset)])


def rows(dataset: xr.Dataset, name: str, kind: str) -> Float[Array, "rows times *rest"]:
    """Independent rows of a curve: means of grammars, or the strings of the only grammar of a network."""
    part = dataset[name].sel(denoiser=kind).transpose("grammar", "datum", "t", ...)
    if kind == "trained":
        part = part.isel(grammar=slice(1))
    return independent_rows(jnp.asarray(part.values, float))


def _curves(dataset: xr.Dataset, kind: str) -> list[Finding]:
    times, top = dataset.t.values, rows(dataset, "value", kind)
    scale = jnp.asarray(dataset.scale.values, float)
    found = curve_findings(("top", kind), times, mean_estimate(top), "measured", "1")
    found += curve_findings(("covariance", kind), times, mean_estimate(top / scale[None]), "measured", "1")
    held = mean_estimate(rows(dataset, "held", kind))
    found += curve_findings(("held", kind), times, held, "measured", "level")
    peaks = {kind: top} | ({"covariance": top / scale[None]} if kind == "exact" else {})
    for of, curve in peaks.items():
        peak = locate_peak(jax.random.key(config_of(dataset).seed), times, curve, lambda mean: mean)
        found += peak_findings(peak, of, "1", OU)
    return found


def _network(dataset: xr.Dataset) -> list[Finding]:
    if "trained" not in dataset.denoiser:
        return []
    first = dataset.isel(grammar=slice(1))
    pairs = jnp.stack([rows(first, "value", kind) for kind in ("trained", "exact")], 1)  # (strings, 2, times)
    ratio = bootstrap(jax.random.key(config_of(dataset).seed), pairs, lambda mean: mean[0] / mean[1])
    found = curve_findings(("ratio",), dataset.t.values, ratio, "measured", "1")
    apart = rows(dataset, "asymmetry", "trained") / rows(dataset, "value", "trained")
    return [*found, *curve_findings(("asymmetry", "trained"), dataset.t.values, mean_estimate(apart), "measured", "1")]


def at_transition(dataset: xr.Dataset, findings: Findings) -> float:
    """The noise time of the grid that is nearest to the class's transition; the first where that is not resolved."""
    apart = np.abs(dataset.t.values - findings["transition/class"].value)
    return float(dataset.t.values[np.argmin(np.where(np.isnan(apart), np.inf, apart))])


def shares_at(dataset: xr.Dataset, t: float) -> Estimate:
    """The share of the exact denoiser's leading vector in the best subtree of each level, at a noise time."""
    part = dataset.sel(t=t)["share"].sel(denoiser="exact").transpose("grammar", "datum", "level")
    return mean_estimate(independent_rows(jnp.asarray(part.values, float)))
