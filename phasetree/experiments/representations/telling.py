"""Report of the experiment `representations`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.representations.analysis import best_layer, kinds, layers, middle


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Losses, probes, messages, windows and features, then a sentence on the root."""
    about, t = config_of(dataset), middle(dataset)
    sizes = f"v = {about.num_symbols}, m = {about.num_synonyms}, s = {about.branching}, L = {about.depth}"
    title = (
        f"Grammars with {sizes}: {about.num_grammars}, each with networks of width {about.width} trained for "
        f"{about.train.steps} steps; {about.num_data} strings; errors over grammars, seed {about.seed}."
    )
    parts: list[Table | str] = ["Loss, nats per masked site, beside the least possible.", _losses(dataset, findings)]
    for weights in ("trained", "random"):
        parts += [
            f"R^2 of probes of the exact posterior at t = {t:g}, {weights} weights.",
            _of_levels(dataset, findings, "posterior", weights),
        ]
    parts += ["The same of the true symbols, trained.", _of_levels(dataset, findings, "true", "trained")]
    for name, direction in (("upward", "upward"), ("cavity", "downward")):
        parts += [f"CKA with {direction} messages, trained.", _of_levels(dataset, findings, name, "trained")]
    parts += ["Window whose posterior a layer is nearest to (0: the whole string).", _windows(dataset, findings)]
    parts += [f"F1 of sparse features of the last layer at t = {t:g}.", _features(dataset, findings)]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _losses(dataset: xr.Dataset, findings: Findings) -> Table:
    names = ("loss", "bayes", "excess")
    rows = tuple((kind, *(findings[name, kind] for name in names)) for kind in kinds(dataset))
    return Table(("network", "loss", "exact", "excess"), rows)


def _of_levels(dataset: xr.Dataset, findings: Findings, name: str, weights: str) -> Table:
    levels, t = dataset.level.values.tolist(), middle(dataset)
    rows = [
        (kind, layer, *(findings[name, kind, weights, layer, level, t] for level in levels))
        for kind in kinds(dataset)
        for layer in layers(dataset, kind)
    ]
    return Table(("network", "layer", *(f"level {level}" for level in levels)), tuple(rows))


def _windows(dataset: xr.Dataset, findings: Findings) -> Table:
    times = dataset.t.values.tolist()
    rows = [
        (kind, layer, *(findings["window", kind, "trained", layer, t] for t in times))
        for kind in kinds(dataset)
        for layer in layers(dataset, kind)
    ]
    return Table(("network", "layer", *(f"t = {t:g}" for t in times)), tuple(rows))


def _features(dataset: xr.Dataset, findings: Findings) -> Table:
    levels = dataset.level.values.tolist()
    rows = [
        (kind, weights, *(findings["f1", kind, weights, level] for level in levels))
        for kind in kinds(dataset)
        for weights in ("trained", "random")
    ]
    return Table(("network", "weights", *(f"level {level}" for level in levels)), tuple(rows))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    t, clauses = middle(dataset), []
    for kind in kinds(dataset):
        layer = best_layer(dataset, kind, 0)
        value, gain = (
            with_error(findings[parts].estimate)
            for parts in (("posterior", kind, "trained", layer, 0, t), ("gain", kind, 0))
        )
        clauses.append(f"{value} off the {kind} network ({layer}; {gain} above random weights)")
    return (
        f"At a masked fraction of {t:g} linear probes read the exact posterior of the root with R^2 = "
        f"{', '.join(clauses)} (seed {config_of(dataset).seed})."
    )
