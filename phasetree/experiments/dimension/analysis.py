"""The findings of the experiment `dimension`. K is the true dimension, `unknown` of data of one's own.

dimension/SET/K/DENOISER/ESTIMATOR   measured: mean over the data of that dimension
error/SET/K/DENOISER/ESTIMATOR       difference of that and K
alone/SET/METHOD                     measured, from data alone
noise/SET/DENOISER                   measured: the noise s that was chosen
flagged/SET/DENOISER/FLAG            measured: how many of the data are marked
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings
from phasetree.findings import path


def analyse(dataset: xr.Dataset) -> Findings:
    """Set by set."""
    found: list[Finding] = []
    for name in dataset.set.values.tolist():
        for kind in kinds(dataset, name):
            found += _of_denoiser(dataset.sel(set=name, denoiser=kind), name, kind)
        part = dataset.sel(set=name)
        for method in dataset.source.values.tolist():
            value, error = (float(part[column].sel(source=method)) for column in ("alone", "alone_stderr"))
            found.append(Finding(path("alone", name, method), _estimate(value, error), "measured", "dimensions"))
    return Findings(found)


def kinds(dataset: xr.Dataset, name: str) -> list[str]:
    """The denoisers that a set has been measured with."""
    if "denoiser" not in dataset.dims:
        return []
    known = dataset.dimension.sel(set=name).notnull().any(("estimator", "datum"))
    return dataset.denoiser.values[known.values].tolist()


def truths(dataset: xr.Dataset, name: str) -> list[float]:
    """The dimensions that occur in a set; NaN if they are not known."""
    values = np.asarray(dataset.truth.sel(set=name, denoiser=kinds(dataset, name)[0])).ravel()
    known = values[~np.isnan(values)]
    return np.unique(known).tolist() if len(known) else [np.nan]


def named(truth: float) -> str:
    """A true dimension in a name."""
    return "unknown" if np.isnan(truth) else f"{truth:g}"


def _of_denoiser(part: xr.Dataset, name: str, kind: str) -> list[Finding]:
    found, truth = [], part.truth.values
    for k in np.unique(truth[~np.isnan(truth)]).tolist() or [np.nan]:
        rows = part.dimension.values[:, (truth == k) | np.isnan(k)]
        for estimator, values in zip(part.estimator.values.tolist(), rows, strict=True):
            values = values[~np.isnan(values)]
            mean = mean_estimate(values) if len(values) else _estimate(np.nan, np.nan)
            found.append(Finding(path("dimension", name, named(k), kind, estimator), mean, "measured", "dimensions"))
            if not np.isnan(k):
                error = Estimate(mean.value - k, mean.stderr)
                found.append(Finding(path("error", name, named(k), kind, estimator), error, "difference", "dimensions"))
    found.append(Finding.exact(path("noise", name, kind), float(part.chosen), "measured", "of the data"))
    for flag in part.flag.values.tolist():
        count = float(part.flagged.sel(flag=flag))
        found.append(Finding.exact(path("flagged", name, kind, flag), count, "measured", "data"))
    return found


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(jnp.asarray(value, float), jnp.asarray(error, float))
