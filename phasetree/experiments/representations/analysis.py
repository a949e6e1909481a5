"""The findings of the experiment `representations`. KIND is tree, transformer or causal, WEIGHTS trained or random.

true/KIND/WEIGHTS/LAYER/LEVEL/T         measured: R^2 of probes of the true symbols, mean over the nodes of a level
posterior/KIND/WEIGHTS/LAYER/LEVEL/T    measured: of the exact posterior
upward/.., cavity/..                    measured: CKA with the messages of belief propagation
window/KIND/WEIGHTS/LAYER/T             measured: level of the window whose posterior a layer's probe is nearest to
rank/KIND/WEIGHTS/LAYER/T               measured: effective rank of the states of a node
participation/.., enrichment/..         measured: their participation ratio and early enrichment
rate/KIND/WEIGHTS/LAYER/T               measured: their coding rate, nats
neighbours/KIND/WEIGHTS/LAYER/LEVEL     measured: neighbours in common with the exact posterior, in the middle
f1/KIND/WEIGHTS/LEVEL                   measured: sparse features of the last layer beside the symbols of a level
gain/KIND/LEVEL                         difference: `posterior` of the best layer, trained less random, in the middle
followed/KIND/WEIGHTS/LAYER/LEVEL/FORCED/STRENGTH
                                        measured: how far a network goes to the exact posterior if a node's symbol is
                                        forced, true or wrong (`steering.py`, equation (1)), in the middle
moved/KIND/WEIGHTS/LAYER/LEVEL/FORCED/STRENGTH
                                        measured: the mean probability that it then gives to the leaves' true symbols
rest/KIND/WEIGHTS/LEVEL                 measured: the same with nothing forced
exact-moved/KIND/LEVEL/FORCED, exact-rest/KIND/LEVEL
                                        predicted: by exact inference
loss/KIND, bayes/KIND, excess/KIND      measured, predicted, difference: nats per masked site

All errors are those over grammars, not known for a single one. What a causal network is asked for is given the sites up
to each (`beliefs.py`).
"""

import numpy as np
import xarray as xr

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings, config_of
from phasetree.experiments.representations.config import layer_names, steered_layers
from phasetree.findings import Kind, path

LEVELS = ("true", "posterior", "upward", "cavity")
SPREAD = {"rank": "dimensions", "participation": "dimensions", "enrichment": "1", "rate": "nats"}
LOSSES: dict[str, Kind] = {"loss": "measured", "bayes": "predicted", "excess": "difference"}
NATS = "nats per masked site"


def analyse(dataset: xr.Dataset) -> Findings:
    """Every reading, averaged over grammars."""
    found: list[Finding] = []
    window = dataset.window_distance.argmin("window", skipna=False).where(
        dataset.window_distance.notnull().all("window")
    )
    for kind in kinds(dataset):
        for name, sort in LOSSES.items():
            value = _over_grammars(dataset[name].sel(network=kind))
            found.append(Finding(path(name, kind), value, sort, NATS))
        for name in ("exact-rest", "exact-moved"):
            found += _of_places(dataset[name.replace("-", "_")].sel(network=kind), (name, kind), "1", "predicted")
        for weights in dataset.weights.values.tolist():
            at = {"network": kind, "weights": weights}
            for layer in layers(dataset, kind):
                for name in LEVELS:
                    found += _measured(dataset[name].sel(**at, layer=layer), (name, kind, weights, layer), "1")
                found += _measured(window.sel(**at, layer=layer), ("window", kind, weights, layer), "level")
                found += _measured(dataset.neighbours.sel(**at, layer=layer), ("neighbours", kind, weights, layer), "1")
                for name, unit in SPREAD.items():
                    found += _measured(dataset[name].sel(**at, layer=layer), (name, kind, weights, layer), unit)
            found += _measured(dataset.f1.sel(**at), ("f1", kind, weights), "1")
            found += _steered(dataset.sel(**at), kind, weights)
        found += [_gain(dataset, kind, level) for level in dataset.level.values.tolist()]
    return Findings(found)


def _steered(part: xr.Dataset, kind: str, weights: str) -> list[Finding]:
    found, about = _measured(part.rest, ("rest", kind, weights), "1"), config_of(part)
    for level in part.inner.values.tolist():
        for layer in steered_layers(kind, level, about.depth, about.num_layers):
            for name in ("followed", "moved"):
                cell = part[name].sel(layer=layer, inner=level, drop=True)
                found += _measured(cell, (name, kind, weights, layer, level), "1")
    return found


def kinds(dataset: xr.Dataset) -> list[str]:
    """The networks."""
    return dataset.network.values.tolist()


def layers(dataset: xr.Dataset, kind: str) -> list[str]:
    """Names of the states of a network, first layer first."""
    return layer_names(kind, config_of(dataset).depth, config_of(dataset).num_layers)


def middle(dataset: xr.Dataset) -> float:
    """The time of the figure and the tables."""
    return float(dataset.t.values[dataset.sizes["t"] // 2])


def best_layer(dataset: xr.Dataset, kind: str, level: int) -> str:
    """Whose probes read the posterior of a level best, trained, at the time in the middle."""
    part = dataset.posterior.sel(network=kind, weights="trained", level=level, t=middle(dataset)).mean("grammar")
    return max(layers(dataset, kind), key=lambda layer: float(part.sel(layer=layer)))


def _gain(dataset: xr.Dataset, kind: str, level: int) -> Finding:
    part = dataset.posterior.sel(network=kind, layer=best_layer(dataset, kind, level), level=level, t=middle(dataset))
    difference = part.sel(weights="trained", drop=True) - part.sel(weights="random", drop=True)
    return Finding(path("gain", kind, level), _over_grammars(difference), "difference", "1")


def _measured(part: xr.DataArray, name: tuple, unit: str) -> list[Finding]:
    return _of_places(part, name, unit, "measured")


def _of_places(part: xr.DataArray, name: tuple, unit: str, sort: Kind) -> list[Finding]:
    """A finding for each level, forced symbol, strength and time that the part has."""
    rest = [dim for dim in ("level", "inner", "forced", "strength", "t") if dim in part.dims]
    part = part.transpose("grammar", *rest)
    whole, found = _over_grammars(part), []
    for place in np.ndindex(whole.value.shape):
        where = (part[dim].values[i].item() for dim, i in zip(rest, place, strict=True))
        found.append(Finding(path(*name, *where), Estimate(whole.value[place], whole.stderr[place]), sort, unit))
    return found


def _over_grammars(part: xr.DataArray) -> Estimate:
    return mean_estimate(np.asarray(part.values, np.float64))
