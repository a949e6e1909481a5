"""The findings of the experiment `text-demo`.

bits/MODEL                        measured, bits per character: unigram, bigram, trigram; `bound` of the network
masked-bits/T                     measured, of tokens masked at fraction T
tokens-changed/T, words-changed/T measured, with errors over passages
gap/bound-trigram                 difference, bound minus trigram
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings, curve_findings
from phasetree.findings import path

UNIT = "bits per character"


def analyse(dataset: xr.Dataset) -> Findings:
    """Bits, then changes."""
    rows = zip(dataset.ngram.values, dataset.ngram_bits.values, dataset.ngram_bits_stderr.values, strict=True)
    findings = [
        Finding(path("bits", str(name)), _estimate(value, error), "measured", UNIT) for name, value, error in rows
    ]
    bound = _estimate(dataset.bound, dataset.bound_stderr)
    findings.append(Finding("bits/bound", bound, "measured", UNIT, "an upper bound"))
    gap = float(dataset.bound - dataset.ngram_bits[-1])
    note = "errors of the two are not independent"
    findings.append(Finding("gap/bound-trigram", _estimate(gap, np.nan), "difference", UNIT, note))
    masked = Estimate(jnp.asarray(dataset.bits.values), jnp.asarray(dataset.bits_stderr.values))
    findings += curve_findings(("masked-bits",), dataset.t.values, masked, "measured", UNIT)
    for kind in ("tokens", "words"):
        changed = over_passages(dataset[f"{kind}_changed"])
        findings += curve_findings((f"{kind}-changed",), dataset.t.values, changed, "measured", "1")
    return Findings(findings)


def over_passages(changed: xr.DataArray) -> Estimate:
    """Mean over regenerations, at every noise level, with its standard error over passages."""
    return mean_estimate(jnp.asarray(changed.mean("trajectory").transpose("datum", "t").values))


def _estimate(value, stderr) -> Estimate:
    return Estimate(jnp.asarray(float(value)), jnp.asarray(float(stderr)))
