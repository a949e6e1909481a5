"""The findings of the experiment `collapse`: weights, entropies and returns beside the exact curves of finite size.

collapse-time/theory/D              predicted, noise time
weight/measured/D/T                 measured at T collapse times; `entropy` (nats) and `returned` likewise
weight/exact/D/T, entropy/exact/D/T predicted
deviation/QUANTITY/D                the largest difference of a curve from its exact one, standard errors over sets
crossing/measured/D1-D2             where the weights of two dimensions cross, in collapse times; `exact` predicted
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import optimize

from diffusion.measure import Estimate, locate_crossing, mean_estimate
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.findings import path
from theory.gaussian.seed_weight import isotropic_seed_weight

EXACT = {"weight": "exact_weight", "returned": "exact_weight", "entropy": "exact_entropy"}
UNITS = {"weight": "1", "returned": "1", "entropy": "nats"}


def analyse(dataset: xr.Dataset) -> Findings:
    """Every dimension, then the crossings of neighbouring dimensions."""
    sizes = dataset.dimension.values.tolist()
    found = [finding for d in sizes for finding in _of_dimension(dataset, d)]
    for small, large in itertools.pairwise(sizes):
        pair, want = f"{small}-{large}", exact_crossing(dataset, small, large)
        found.append(Finding(path("crossing/measured", pair), crossing(dataset, small, large), "measured", "t_C"))
        found.append(Finding.exact(path("crossing/exact", pair), want, "predicted", "t_C"))
    worst = max(f.value for f in found if f.name.startswith(("deviation/weight", "deviation/returned")))
    return Findings([*found, Finding.exact("largest-deviation", worst, "difference", "standard errors")])


def _of_dimension(dataset: xr.Dataset, d: int) -> list[Finding]:
    part, times = dataset.sel(dimension=d), dataset.t.values
    found = [Finding.exact(path("collapse-time/theory", d), float(part.collapse_time), "predicted", "OU time")]
    for name, exact in EXACT.items():
        values = mean_estimate(jnp.asarray(part[name].transpose("set", "t").values, float))
        found += curve_findings((name, "measured", d), times, values, "measured", UNITS[name])
        if name != "returned":
            known = Estimate(jnp.asarray(part[exact].values), jnp.zeros(len(times)))
            found += curve_findings((name, "exact", d), times, known, "predicted", UNITS[name])
        worst = deviation(dataset, name, exact, d)
        found.append(Finding.exact(path("deviation", name, d), worst, "difference", "standard errors"))
    return found


def deviation(dataset: xr.Dataset, name: str, exact: str, dimension: int) -> float:
    """The largest difference of a measured curve from its exact one, in standard errors over sets."""
    part, about = dataset.sel(dimension=dimension), config_of(dataset)
    found = mean_estimate(part[name].transpose("set", "t").values.astype(float))
    # where all agree their spread is no error: one more point, or return, could have been another
    drawn = part.sizes["set"] * (about.num_trajectories if name == "returned" else about.num_data)
    least = 1 / (drawn * (dimension if name == "entropy" else 1))
    return float(np.max(abs(found.value - part[exact].values) / np.maximum(found.stderr, least)))


def crossing(dataset: xr.Dataset, smaller: int, larger: int) -> Estimate:
    """Where the weight curves of two dimensions cross, over the collapse time."""
    small, large = (dataset.weight.sel(dimension=d).transpose("set", "t").values for d in (smaller, larger))
    # backwards from where the larger one is most behind: earlier both weights are 1, later 0, and which is larger noise
    behind = small - large.astype(float)
    last = max(int(np.argmax(behind.mean(0))) + 1, 6)  # the locator fits 6 points
    falls, times = behind[:, :last][:, ::-1], dataset.t.values[:last][::-1]
    found = locate_crossing(jax.random.key(0), -jnp.asarray(times), jnp.asarray(falls))
    return Estimate(-found.value, found.stderr)


def exact_crossing(dataset: xr.Dataset, smaller: int, larger: int) -> float:
    """Where the exact curves cross: the root between the last two of the times that have it between them, or NaN."""
    parts = [dataset.sel(dimension=d) for d in (smaller, larger)]
    variance = config_of(dataset).std ** 2

    def difference(time: float) -> float:
        small, large = (
            isotropic_seed_weight(int(part.points), int(part.dimension), time * float(part.collapse_time), variance)[0]
            for part in parts
        )
        return large - small

    ahead = parts[1].exact_weight.values >= parts[0].exact_weight.values
    (last,) = np.nonzero(ahead[:-1] & ~ahead[1:])
    if not len(last):
        return float("nan")
    early, late = dataset.t.values[last[-1] : last[-1] + 2].tolist()
    return optimize.root_scalar(difference, bracket=(early, late), xtol=1e-5).root
