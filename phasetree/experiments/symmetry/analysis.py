"""The findings of the experiment `symmetry`.

count/SET/linear, intrinsic          measured: rank of the data's covariance, rank of the map's Jacobian
count/SET/dimension                  measured: dimension of the set from data alone
count/SET/autoencoder                measured: active latents of the dense network of least free energy
free-energy/SET                      measured: its free energy, of a datum
true/SET/linear, intrinsic, embedding   predicted: degrees of freedom by the law
rotations/SET/SCORE                  measured: rotations of the law broken below .01, of true/SET/rotations; of data of
                                     one's own linear generators, as their features are rescaled
generators/SET/SCORE                 measured: generators of the set broken below .02, of true/SET/generators
angle/SET/SCORE/law, set             measured: the largest angle with the true ones, degrees
knob/SET/theory, linear, dense       the knob at which a latent switches: predicted, and of trained networks
knob-error/SET/linear                difference, % of the prediction
closed-form/SET/PART                 difference: the largest relative one of 1 + relevance, linear networks and formula;
                                     of all latents at knob 0 (spectrum), and where the knob was swept of those that
                                     it switches (switching) and of the others, whose eigenvalues are many tau (others)
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from diffusion.measure import Estimate, mean_estimate
from diffusion.measure.symmetry import UNBROKEN, UNBROKEN_SET
from phasetree.experiment import Finding, Findings
from phasetree.experiments.symmetry.sets import CASES, OWN, Case, switching
from phasetree.findings import path

SEEN = 0.02  # relevance from which a latent is near its line


def analyse(dataset: xr.Dataset) -> Findings:
    """Set by set."""
    found: list[Finding] = []
    for name in dataset.set.values.tolist():
        part = dataset.sel(set=name)
        found += _counts(part, name)
        for score in scores(part):
            found += _generators(part.sel(score=score), name, score)
        if "linear_knob" in part and part.linear_knob.notnull().any():
            found += _knobs(part, name)
        if "spectrum_relevance" in part:
            found += _closed_form(part, name)
    return Findings(found)


def scores(part: xr.Dataset) -> list[str]:
    """The scores that a set has been asked with."""
    return part.score.values[part.law_searched.notnull().values | part.set_searched.notnull().values].tolist()


def _counts(part: xr.Dataset, name: str) -> list[Finding]:
    unit = "degrees of freedom"
    found = [
        Finding.exact(path("count", name, "linear"), float(part["rank"]), "measured", unit),
        Finding(path("count", name, "dimension"), _estimate(part.dimension, part.dimension_stderr), "measured", unit),
    ]
    if "active" in part:
        found.append(Finding.exact(path("count", name, "autoencoder"), float(part.active), "measured", unit))
        energy = _estimate(part.free_energy, part.free_energy_stderr)
        found.append(Finding(path("free-energy", name), energy, "measured", "unit of the features, squared"))
    if name != OWN:
        found.append(Finding.exact(path("count", name, "intrinsic"), float(part.jacobian_rank), "measured", unit))
        true = CASES[name].law(0.0).counts
        found += [Finding.exact(path("true", name, f), getattr(true, f), "predicted", unit) for f in true._fields]
        for what in ("rotations", "generators"):
            number = part[f"{'law' if what == 'rotations' else 'set'}_true"].max().item()
            found.append(Finding.exact(path("true", name, what), number, "predicted", "generators"))
    return found


def _generators(part: xr.Dataset, name: str, score: str) -> list[Finding]:
    found = []
    for what, of, threshold in (("rotations", "law", UNBROKEN), ("generators", "set", UNBROKEN_SET)):
        count = float((part[f"{of}_breaking"] < threshold).sum())
        if part[f"{of}_searched"].notnull():
            found.append(Finding.exact(path(what, name, score), count, "measured", "generators"))
            if f"{of}_angle" in part and part[f"{of}_angle"].notnull():
                angle = float(part[f"{of}_angle"])
                found.append(Finding.exact(path("angle", name, score, of), angle, "measured", "degrees"))
    return found


def _knobs(part: xr.Dataset, name: str) -> list[Finding]:
    """Where the line of 1 + relevance against the knob, or its square, meets 1."""
    case = CASES[name]
    switch = switching(name, case.tau)
    assert switch is not None  # of a set whose knob was swept
    unit = case.knob.rpartition(", ")[2] if ", " in case.knob else "dimensionless"
    places = list(switch.places)
    values, errors = (part[f"linear_relevance{e}"].isel(latent=places).mean("latent") for e in ("", "_stderr"))
    linear = _crossing(part.linear_knob.values, values.values, errors.values, case, switch.knob)
    percent = Estimate(100 * (linear.value / switch.knob - 1), 100 * linear.stderr / switch.knob)
    found = [
        Finding.exact(path("knob", name, "theory"), switch.knob, "predicted", unit),
        Finding(path("knob", name, "linear"), linear, "measured", unit),
        Finding(path("knob-error", name, "linear"), percent, "difference", "%"),
    ]
    if "dense_relevance" in part and part.dense_relevance.notnull().any():
        found.append(Finding(path("knob", name, "dense"), _of_seeds(part, case, switch.knob), "measured", unit))
    return found


def _of_seeds(part: xr.Dataset, case: Case, critical: float) -> Estimate:
    """The crossing of the next latent after those that networks use at knob 0, over seeds; NaN if a seed has none."""
    rows = part.dense_relevance.isel(latent=next_latent(part)).dropna("dense_factor")
    knobs = critical * rows.dense_factor.values
    errors = part.dense_relevance_stderr.isel(latent=next_latent(part)).sel(dense_factor=rows.dense_factor)
    each = [
        _crossing(knobs, rows.sel(seed=seed).values, errors.sel(seed=seed).values, case, critical, most=2).value
        for seed in rows.seed
    ]
    return mean_estimate(jnp.stack(each))


def next_latent(part: xr.Dataset) -> int:
    """The place of the latent after those that half of the dense networks use at knob 0."""
    used = (part.dense_relevance.sel(dense_factor=0.0) > SEEN).sum("latent")
    return int(used.median())


def _crossing(
    knobs: np.ndarray, values: np.ndarray, errors: np.ndarray, case: Case, critical: float, most: int = 3
) -> Estimate:
    """A straight line through the points with a relevance nearest to the prediction; NaN with fewer than two."""
    seen = np.flatnonzero((values > SEEN) & (knobs > 0))
    seen = seen[np.argsort(np.abs(knobs[seen] - critical))][:most]
    if len(seen) < 2:
        return _estimate(np.nan, np.nan)
    power = knobs[seen] ** case.order
    weights = 1 / np.maximum(errors[seen], 1e-6)
    (slope, start), scatter = np.polyfit(power, values[seen], 1, w=weights, cov="unscaled") if len(seen) > 2 else (
        np.polyfit(power, values[seen], 1), _scatter_of_two(power, errors[seen])
    )  # fmt: skip
    zero = -start / slope
    gradient = np.array([start / slope**2, -1 / slope])
    if not zero > 0:
        return _estimate(np.nan, np.nan)
    error = float(np.sqrt(gradient @ scatter @ gradient))
    return _estimate(zero ** (1 / case.order), error * zero ** (1 / case.order - 1) / case.order)


def _scatter_of_two(power: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The covariance of slope and start of the line through two points with errors."""
    inverse = np.linalg.inv(np.stack([power, np.ones(2)], 1))
    return inverse @ np.diag(errors**2) @ inverse.T


def _closed_form(part: xr.Dataset, name: str) -> list[Finding]:
    """Beside the closed form of the data's own eigenvalues."""
    worst = {"spectrum": _worst(part.spectrum_relevance, part.spectrum_eigenvalue, part.tau)}
    switch = None if name == OWN else switching(name, CASES[name].tau)
    if switch is not None and part.linear_relevance.notnull().any():
        for what, places in (("switching", True), ("others", False)):
            chosen = part.latent.isin(switch.places) == places
            measured, values = (part[f"linear_{c}"][..., chosen.values] for c in ("relevance", "eigenvalue"))
            worst[what] = _worst(measured, values, CASES[name].tau)
    return [Finding.exact(path("closed-form", name, what), w, "difference", "relative") for what, w in worst.items()]


def _worst(measured: xr.DataArray, eigenvalue: xr.DataArray, tau: xr.DataArray | float) -> float:
    predicted = np.maximum(eigenvalue / tau, 1)
    return float(np.abs((1 + measured) / predicted - 1).max())


def _estimate(value: float | xr.DataArray, error: float | xr.DataArray) -> Estimate:
    return Estimate(jnp.asarray(float(value), float), jnp.asarray(float(error), float))
