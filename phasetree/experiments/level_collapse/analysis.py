"""The findings of the experiment `level-collapse`. NETWORK is linear or dense, SOURCE law or data: whose eigenvalues.

threshold/LEVEL                    predicted: the tau at which the latents of a level fall silent, by the law
active/NETWORK/TAU                 measured: latents whose mean has a variance above 1%
active/SOURCE/TAU                  predicted
relevance/NETWORK/LEVEL/TAU        measured: mean over the latents of a level, with its standard error over data
relevance/SOURCE/LEVEL/TAU         predicted
free-energy/NETWORK/TAU            measured, of a datum; free-energy/SOURCE/TAU predicted
agreeing/NETWORK                   measured: values of tau at which the active latents are as many as predicted
relative-error/NETWORK             difference: the largest of a level's relevance + 1 (lambda / tau) from the predicted
deviation/linear                   difference: the largest of a relevance from that of the law, standard errors

What a linear network has to meet in the two before the last is predicted by its data; what a dense one has to, which is
trained on fresh data, by the law.
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from diffusion.measure import Estimate
from phasetree.experiment import Finding, Findings, curve_findings
from phasetree.findings import path
from theory import linear_vae

ACTIVE = 0.01  # of the prior's variance, the usual convention
SOURCES = ("law", "data")
VARIANCE = "variance of the data"


def analyse(dataset: xr.Dataset) -> Findings:
    """Thresholds, then active latents, relevance by level and free energy, each trained beside predicted."""
    found = [
        Finding.exact(path("threshold", level), float(dataset.law[dataset.level == level][0]), "predicted", VARIANCE)
        for level in levels(dataset)
    ]
    for name in (*SOURCES, *networks(dataset)):
        kind = "predicted" if name in SOURCES else "measured"
        taus, counts = dataset.tau.values, active(dataset, name)
        found += curve_findings(("active", name), taus, _exact(counts.astype(float)), kind, "latents")
        for level in levels(dataset):
            found += curve_findings(
                ("relevance", name, level), taus, relevance_of_level(dataset, name, level), kind, "1"
            )
        found += curve_findings(("free-energy", name), taus, free_energy(dataset, name), kind, VARIANCE)
    return Findings([*found, *(finding for name in networks(dataset) for finding in _comparisons(dataset, name))])


def networks(dataset: xr.Dataset) -> list[str]:
    """Those that were trained."""
    return dataset.network.values.tolist()


def levels(dataset: xr.Dataset) -> list[int]:
    """Levels of the tree that have latents, the root's 0 first."""
    return np.unique(dataset.level.values[: dataset.sizes["latent"]]).tolist()


def reference(name: str) -> str:
    """Whose eigenvalues a network has to meet: those of the set that it is trained on, or of the law of fresh data."""
    return "data" if name == "linear" else "law"


def active(dataset: xr.Dataset, name: str) -> np.ndarray:
    """Active latents at every tau, of a network or predicted from a source."""
    if name in SOURCES:
        return np.asarray(linear_vae.active(dataset[name].values, dataset.tau.values, dataset.sizes["latent"]))
    return (dataset.variance.sel(network=name) > ACTIVE).sum("latent").values


def relevance_of_level(dataset: xr.Dataset, name: str, level: int) -> Estimate:
    """Mean relevance of the latents of a level at every tau; those of one level have independent errors.

    Measured on its own training data a network follows their eigenvalues, rho + 1 = lambda / tau. So the relative error
    that data give to the rho of a fixed network is here that of rho + 1.
    """
    chosen = dataset.level.values[: dataset.sizes["latent"]] == level
    if name in SOURCES:
        values = linear_vae.relevance(dataset[name].values, dataset.tau.values, dataset.sizes["latent"])
        return _exact(np.asarray(values, float)[:, chosen].mean(1))
    values, errors = (
        dataset[column].sel(network=name).transpose("tau", "latent").values[:, chosen]
        for column in ("relevance", "relevance_stderr")
    )
    if name == "linear":
        used = dataset.variance.sel(network=name).transpose("tau", "latent").values[:, chosen] > ACTIVE
        errors = errors * np.divide(values + 1, values, out=np.ones_like(values), where=used)
    return Estimate(jnp.asarray(values.mean(1)), jnp.asarray(np.sqrt(np.mean(errors**2, 1) / chosen.sum())))


def free_energy(dataset: xr.Dataset, name: str) -> Estimate:
    """Of a datum, at every tau."""
    if name in SOURCES:
        values = linear_vae.least_free_energy(dataset[name].values, dataset.tau.values, dataset.sizes["latent"])
        return _exact(np.asarray(values, float))
    part = dataset.sel(network=name)
    return Estimate(jnp.asarray(part.free_energy.values), jnp.asarray(part.free_energy_stderr.values))


def _comparisons(dataset: xr.Dataset, name: str) -> list[Finding]:
    agreeing = int(np.sum(active(dataset, name) == active(dataset, reference(name))))
    found = [Finding.exact(path("agreeing", name), agreeing, "measured", "values of tau")]
    errors, deviations = [], []
    for level in levels(dataset):
        got, want, law = (relevance_of_level(dataset, which, level) for which in (name, reference(name), "law"))
        errors += (np.abs(np.asarray(got.value) - np.asarray(want.value)) / (np.asarray(want.value) + 1)).tolist()
        known = np.asarray(law.value) > 0  # elsewhere measured and predicted are 0, without an error
        apart = np.abs(np.asarray(got.value) - np.asarray(law.value))[known]
        deviations += (apart / np.asarray(got.stderr)[known]).tolist()
    found.append(Finding.exact(path("relative-error", name), max(errors), "difference", "1"))
    if name == "linear":
        worst = max(deviations, default=0.0)
        found.append(Finding.exact(path("deviation", name), worst, "difference", "standard errors"))
    return found


def _exact(values: Float[np.ndarray, " tau"]) -> Estimate:
    return Estimate(jnp.asarray(values), jnp.zeros(len(values)))
