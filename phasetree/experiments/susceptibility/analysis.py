"""The findings of the experiment `susceptibility`: chi, xi and C(r) of every denoiser, beside theory.

chi/DENOISER/T, xi/DENOISER/T     measured: exact, trained, chain and mixture; predicted: `mean-field` and `field`
others/DENOISER/T                 measured, mean distance of the other sites that change with a site
changed/DENOISER/T                measured, the fraction of symbols changed
correlation/DENOISER/T/R          measured at three noise levels, C(r)/C(0)
ratio/T                           difference, chi of trained over exact, on the same data with the same noise
xi-difference/T                   difference, xi of trained minus exact, likewise
chi-at-depth/L/T, peak-at-depth/L measured, exact, of grammars of depth L; the peak is chi where the curve is largest
peak-above-first/CONTROL          measured, chi at its peak minus chi at the first noise level; `last` likewise
gap/PAIR                          difference, the largest between two curves of chi, percent; its note gives t
xi-gap                            difference, xi of trained minus exact where it is the most errors from 0
excess-loss/N, bayes-loss/N       of the network of grammar N
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from diffusion.measure import (
    Estimate,
    RingGeometry,
    bootstrap,
    correlation,
    correlation_length,
    distance_of_others,
    independent_rows,
    locate_peak,
    mean_estimate,
    susceptibility,
)
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.experiments.susceptibility.stages import geometry, rows_of
from phasetree.findings import path
from phasetree.recipes.training import named_key, training_findings
from theory import gaussian_field, mean_field, pair_correlation

CONTROLS = {"chain": "Markov chain", "mixture": "flat mixture"}
FIELD_SITES, FIELD_EXPONENT = 256, 1.0


def analyse(dataset: xr.Dataset) -> Findings:
    """Predictions, measurements, and their differences."""
    config = config_of(dataset)
    findings = []
    if config.process == "epsilon":
        findings += _mean_field(dataset)
    if config.controls:
        findings += _gaussian_field(dataset)
    for name in map(str, dataset.denoiser.values):
        findings += _measured(dataset, name)
    for index in tree_levels(dataset):
        for name in ("exact", "trained"):
            if name in dataset.denoiser:
                findings += _correlations(dataset, name, index)
    if "trained" in dataset.denoiser:
        findings += _pairs(dataset)
    if config.depths:
        findings += _depths(dataset)
    findings += [finding for name in CONTROLS if name in dataset.denoiser for finding in _peak(dataset, name)]
    curves = Findings([*findings, *training_findings(dataset)])
    if "trained" in dataset.denoiser:
        findings.append(_gap(dataset, "trained-exact", curves.curve("ratio")))
    if config.process == "epsilon":
        theory, exact = curves.curve("chi/mean-field"), curves.curve("chi/exact")
        ratio = Estimate(exact.value / theory.value, exact.stderr / theory.value)
        findings.append(_gap(dataset, "exact-mean-field", ratio))
    return Findings([*findings, *training_findings(dataset)])


def _measured(dataset: xr.Dataset, name: str) -> list[Finding]:
    rows, times = sums_of(dataset, name), dataset.t.values
    key, sites = named_key(config_of(dataset).seed, "bootstrap", 0), geometry(config_of(dataset))
    findings = []
    for what, statistic, unit in (
        ("chi", susceptibility, "sites"),
        ("xi", lambda sums: correlation_length(sums, sites), "sites"),
        ("others", lambda sums: distance_of_others(sums, sites), "sites"),
    ):
        estimate = jax.jit(bootstrap, static_argnums=2)(jax.random.clone(key), rows, statistic)
        findings += curve_findings((what, name), times, estimate, "measured", unit)
    changed = rows_of(dataset.sel(denoiser=name)[["sums", "fraction"]]).fraction.transpose("row", "t").values
    fraction = mean_estimate(jnp.asarray(changed, float))
    return [*findings, *curve_findings(("changed", name), times, fraction, "measured", "1")]


def _mean_field(dataset: xr.Dataset) -> list[Finding]:
    config, noise = config_of(dataset), jnp.asarray(dataset.t.values, float)
    sizes = config.depth, config.num_symbols, config.num_synonyms, config.branching
    sums = pair_correlation.mean_field_sums(noise, *sizes) * config.branching**config.depth
    chi, xi = susceptibility(sums), correlation_length(sums, geometry(config_of(dataset)))
    changed = 1 - mean_field.level_beliefs(noise, *sizes).marginal[-1]
    values = {"chi": (chi, "sites"), "xi": (xi, "sites"), "changed": (changed, "1")}
    return [f for what, (value, unit) in values.items() for f in _predicted(dataset, what, "mean-field", value, unit)]


def _gaussian_field(dataset: xr.Dataset) -> list[Finding]:
    """chi and xi of a field of 256 sites with spectrum 1/k; t is the noise's fraction of the variance."""
    noise = jnp.asarray(dataset.t.values, float)
    spectrum = gaussian_field.power_law_spectrum(FIELD_SITES, FIELD_EXPONENT)
    sums = gaussian_field.change_sums(spectrum, jnp.sqrt(1 - noise), jnp.sqrt(noise))
    xi = correlation_length(sums, RingGeometry(FIELD_SITES))
    chi = _predicted(dataset, "chi", "field", susceptibility(sums), "sites")
    return [*chi, *_predicted(dataset, "xi", "field", xi, "sites")]


def _predicted(dataset: xr.Dataset, what: str, of: str, values: Array, unit: str) -> list[Finding]:
    exact = Estimate(values, jnp.zeros_like(values))
    return curve_findings((what, of), dataset.t.values, exact, "predicted", unit)


def _correlations(dataset: xr.Dataset, name: str, index: int) -> list[Finding]:
    """C(r)/C(0) at the noise level `index`."""
    sites, rows = geometry(config_of(dataset)), sums_of(dataset, name)[:, index]
    curve = _bootstrap(rows, lambda mean: correlation(mean, sites))
    where = ("correlation", name, float(dataset.t[index]))
    return curve_findings(where, dataset.distance.values, curve, "measured", "1")


def _pairs(dataset: xr.Dataset) -> list[Finding]:
    """Trained against exact; row i of both has the same data and the same noise, so errors are those of pairs."""
    both, sites = jnp.stack([sums_of(dataset, "trained"), sums_of(dataset, "exact")], 1), geometry(config_of(dataset))
    ratio = _bootstrap(both, lambda mean: susceptibility(mean[0]) / susceptibility(mean[1]))
    longer = _bootstrap(both, lambda mean: correlation_length(mean[0], sites) - correlation_length(mean[1], sites))
    worst = int(jnp.nanargmax(jnp.abs(longer.value / longer.stderr)))
    note = f"t = {float(dataset.t[worst]):.3g}"
    return [
        *curve_findings(("ratio",), dataset.t.values, ratio, "difference", "1"),
        *curve_findings(("xi-difference",), dataset.t.values, longer, "difference", "sites"),
        Finding("xi-gap", jax.tree.map(lambda x: x[worst], longer), "difference", "sites", note),
    ]


def _depths(dataset: xr.Dataset) -> list[Finding]:
    """chi of every depth; independent rows are data of a single grammar, or means of several grammars."""
    findings = []
    for depth in dataset.depth.values.tolist():
        rows = dataset.depth_sums.sel(depth=depth).transpose("grammar", "datum", "t", "part").values
        curve = _bootstrap(independent_rows(jnp.asarray(rows, float)), susceptibility)
        findings += curve_findings(("chi-at-depth", depth), dataset.t.values, curve, "measured", "sites")
        top = int(jnp.nanargmax(curve.value))
        note = f"t = {float(dataset.t[top]):.3g}"
        peak = jax.tree.map(lambda x, top=top: x[top], curve)
        findings.append(Finding(path("peak-at-depth", depth), peak, "measured", "sites", note))
    return findings


def _peak(dataset: xr.Dataset, name: str) -> list[Finding]:
    key = jax.random.key(config_of(dataset).seed)
    peak = jax.jit(locate_peak)(key, jnp.asarray(dataset.t.values, float), sums_of(dataset, name))
    return [
        Finding(path("peak-above-first", name), peak.above_first, "measured", "sites"),
        Finding(path("peak-above-last", name), peak.above_last, "measured", "sites"),
    ]


def _gap(dataset: xr.Dataset, pair: str, ratio: Estimate) -> Finding:
    """The largest deviation of a ratio from 1, percent."""
    worst = int(jnp.nanargmax(jnp.abs(ratio.value - 1)))
    gap = Estimate(100 * (ratio.value[worst] - 1), 100 * ratio.stderr[worst])
    return Finding(path("gap", pair), gap, "difference", "%", f"t = {float(dataset.t[worst]):.3g}")


def top(dataset: xr.Dataset, findings: Findings, name: str) -> float:
    """The noise level at which a curve's chi is largest."""
    return float(dataset.t[int(jnp.nanargmax(findings.curve("chi", name).value))])


def tree_levels(dataset: xr.Dataset) -> list[int]:
    """Indices of the noise levels at which trees are kept, without repetition."""
    return sorted({int(np.argmin(abs(dataset.t.values - t))) for t in dataset.tree_time.values})


def sums_of(dataset: xr.Dataset, name: str) -> Float[Array, "rows t distances"]:
    """S(r), a row for each independent datum or grammar."""
    rows = rows_of(dataset.sel(denoiser=name)[["sums", "fraction"]])
    return jnp.asarray(rows.sums.transpose("row", "t", "distance").values, float)


def _bootstrap(rows: Array, statistic) -> Estimate:
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(rows)
