"""Peaks of a curve against noise, as findings and in words.

peak-time/OF                              where the curve is largest
peak-above-first/OF, peak-above-last/OF   how much it stands above the lowest and the highest noise
peak-significance/OF                      the smaller of the two, in standard errors
"""

import jax.numpy as jnp

from diffusion.measure import Estimate, Peak
from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings
from phasetree.findings import path

SIGNIFICANT = 3.0  # standard errors from which a peak is called significant


def peak_findings(peak: Peak, of: str, unit: str, time_unit: str) -> list[Finding]:
    """Time, heights and significance of a peak; `unit` is that of the curve."""
    return [
        Finding(path("peak-time", of), peak.time, "measured", time_unit),
        Finding(path("peak-above-first", of), peak.above_first, "measured", unit),
        Finding(path("peak-above-last", of), peak.above_last, "measured", unit),
        Finding.exact(path("peak-significance", of), float(peak.significance), "measured", "standard errors"),
    ]


def peak_words(findings: Findings, curve: tuple[str, ...], of: str, inside: str) -> str:
    """Where in the grid a curve is largest, by how much it stands above both ends, and whether that is significant."""
    values, significance = findings.curve(*curve), findings["peak-significance", of].value
    top = int(jnp.nanargmax(values.value))
    where = inside if 0 < top < len(values.value) - 1 else "at an END of the grid"
    verdict = "" if significance >= SIGNIFICANT else ", no significant peak"  # also where it is NaN
    highest = with_error(Estimate(values.value[top], values.stderr[top]))
    first, last = (with_error(findings[f"peak-above-{end}", of].estimate) for end in ("first", "last"))
    return (
        f"{where}, {highest}, {first} above the lowest and {last} above the highest noise ({significance:.1f} standard "
        f"errors{verdict})"
    )
