"""The findings of the experiment `windows`: when each level is decided, measured and by theory.

kept/DENOISER/LEVEL/OFFSET     measured: the level is kept where the level above is, around its own time
decided/DENOISER/LEVEL         measured, noise time at which that falls through .775; `theory` is predicted
delay/DENOISER/LEVEL           difference of the two
window-start/theory/LEVEL, window-end/theory/LEVEL    predicted: total variation of the children .95 and .05
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from diffusion.measure import Estimate, locate_transition
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.findings import path
from theory.gaussian.speciation import clone_probability, speciation_time
from theory.gaussian.windows import window_time

THRESHOLD = clone_probability(1.0)  # .775, at S = 1
EDGES = 0.95, 0.05  # total variation of a level's two children at the ends of its window


def analyse(dataset: xr.Dataset) -> Findings:
    """Theory first, then every denoiser."""
    levels = dataset.level.values.tolist()
    found = [finding for level in levels for finding in _predicted(dataset, level)]
    for kind in dataset.denoiser.values.tolist():
        found += [finding for level in levels for finding in _measured(dataset, kind, level)]
    return Findings(found)


def _predicted(dataset: xr.Dataset, level: int) -> list[Finding]:
    early, late = (window_time(2 * level_offset(dataset, level), variance(dataset), edge) for edge in EDGES)
    return [
        Finding.exact(path("decided/theory", level), predicted(dataset, level), "predicted", "OU time"),
        Finding.exact(path("window-start/theory", level), np.nan_to_num(early), "predicted", "OU time"),
        Finding.exact(path("window-end/theory", level), np.nan_to_num(late), "predicted", "OU time"),
    ]


def _measured(dataset: xr.Dataset, kind: str, level: int) -> list[Finding]:
    rows, found = conditional(dataset, kind, level, level), crossing(dataset, kind, level)
    mean = Estimate(
        jnp.asarray([row.mean() for row in rows]), jnp.asarray([row.std() / len(row) ** 0.5 for row in rows])
    )
    delay = Estimate(found.value - predicted(dataset, level), found.stderr)
    return [
        *curve_findings(("kept", kind, level), dataset.offset.values, mean, "measured", "1"),
        Finding(path("decided", kind, level), found, "measured", "OU time"),
        Finding(path("delay", kind, level), delay, "difference", "OU time"),
    ]


def conditional(
    dataset: xr.Dataset, denoiser: str, window: int, level: int
) -> list[Float[np.ndarray, " trajectories"]]:
    """Whether the level is kept, for trajectories whose level above is, at each time of a window."""
    part = dataset.kept.sel(denoiser=denoiser, window=window)
    here = part.sel(level=level).transpose("offset", "trajectory").values.astype(float)
    above = np.ones_like(here) if level == 1 else part.sel(level=level - 1).transpose("offset", "trajectory").values
    return [np.asarray(row[kept == 1]) for row, kept in zip(here, above, strict=True)]


def crossing(dataset: xr.Dataset, denoiser: str, level: int) -> Estimate:
    """The time at which a level's conditional retention falls through .775."""
    rows = conditional(dataset, denoiser, level, level)
    count = min(map(len, rows))  # trajectories of different times are independent
    table = jnp.asarray(np.stack([row[:count] for row in rows], 1))
    return locate_transition(
        jax.random.key(level), jnp.asarray(dataset.t.sel(window=level).values), table, THRESHOLD, chance=0.5
    )


def predicted(dataset: xr.Dataset, level: int) -> float:
    """S_l = 1."""
    return speciation_time(level_offset(dataset, level) ** 2, variance(dataset)).time


def level_offset(dataset: xr.Dataset, level: int) -> float:
    """m_l."""
    return float(config_of(dataset).level_offsets[level - 1])


def variance(dataset: xr.Dataset) -> float:
    """s^2, of the clusters."""
    return config_of(dataset).std ** 2
