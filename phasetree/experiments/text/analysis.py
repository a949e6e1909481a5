"""The findings of the experiment `text`: chi and xi of pairs of tokens across words, of the text and of its control.

chi/TEXT/T, xi/TEXT/T            measured, TEXT is real or shuffled; xi in tokens
chi-all/real/T                   measured, with pairs within words
changed/TEXT/T                   measured, the fraction of tokens changed
correlation/real/T/R             measured, C(r)/C(0) across words at three noise levels
peak-.../TEXT                    measured, of chi, see `recipes/peaks.py`
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from diffusion.measure import (
    Estimate,
    LineGeometry,
    bootstrap,
    correlation,
    correlation_length,
    locate_peak,
    mean_estimate,
    susceptibility,
)
from phasetree.experiment import Finding, Findings, curve_findings
from phasetree.recipes.peaks import peak_findings


def analyse(dataset: xr.Dataset) -> Findings:
    """Findings of the text, then of its control."""
    findings = []
    for text in map(str, dataset.text.values):
        findings += _measured(dataset, text)
    times = jnp.asarray(dataset.t.values, float)
    findings += curve_findings(("chi-all", "real"), times, curve(dataset, "real", chi_all), "measured", "tokens")
    geometry = LineGeometry(dataset.sizes["distance"])
    for index in shown_levels(dataset):
        decay = curve(dataset, "real", lambda sums, i=index: correlation(across_words(sums[i]), geometry))
        where = ("correlation", "real", float(dataset.t[index]))
        findings += curve_findings(where, dataset.distance.values, decay, "measured", "1")
    return Findings(findings)


def _measured(dataset: xr.Dataset, text: str) -> list[Finding]:
    times, rows = dataset.t.values, sums_of(dataset, text)
    changed = dataset.fraction.sel(text=text).transpose("datum", "t").values
    changed = mean_estimate(jnp.asarray(changed[~np.isnan(changed).any(1)], float))
    locate = jax.jit(lambda rows: locate_peak(jax.random.key(1), jnp.asarray(times, float), rows, chi_across))
    peak = locate(rows)
    return [
        *curve_findings(("chi", text), times, curve(dataset, text, chi_across), "measured", "tokens"),
        *curve_findings(("xi", text), times, curve(dataset, text, xi_across), "measured", "tokens"),
        *curve_findings(("changed", text), times, changed, "measured", "1"),
        *peak_findings(peak, text, "tokens", "masked fraction"),
    ]


def across_words(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid distances"]:
    """S(0), and S(r) of pairs across words: the sums of all pairs (row 0) minus those of pairs within words (row 1)."""
    every, within = sums[..., 0, :], sums[..., 1, :]
    return every - within.at[..., 0].set(0)


def chi_across(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return susceptibility(across_words(sums))


def xi_across(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return correlation_length(across_words(sums), LineGeometry(sums.shape[-1]))


def chi_all(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return susceptibility(sums[..., 0, :])


def curve(dataset: xr.Dataset, text: str, statistic) -> Estimate:
    """A function of the mean sums at every noise level, with its bootstrap error over passages."""
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(sums_of(dataset, text))


def shown_levels(dataset: xr.Dataset) -> list[int]:
    """Noise levels at which C(r) is shown: at the peak of chi and around it."""
    top, last = int(jnp.nanargmax(curve(dataset, "real", chi_across).value)), dataset.sizes["t"] - 1
    return sorted({top // 2, top, (top + last) // 2})


def sums_of(dataset: xr.Dataset, text: str) -> Float[Array, "passages t 2 distances"]:
    """Sums of all pairs, and of pairs within words, of every passage."""
    part = dataset.sel(text=text)
    both = np.stack([part[name].transpose("datum", "t", "distance").values for name in ("sums", "within")], 2)
    return jnp.asarray(both[~np.isnan(both).any((1, 2, 3))], float)
