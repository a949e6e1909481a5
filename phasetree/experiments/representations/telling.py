"""Report of the experiment `representations`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.representations.analysis import best_layer, kinds, layers, middle
from phasetree.experiments.representations.config import FORCED, shown_layer, steered_layers
from phasetree.experiments.representations.readings import NEIGHBOURS


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Losses, probes, messages, windows, spread, features and steering, then a sentence on the root."""
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
    parts += [
        f"Shares of the {NEIGHBOURS} nearest strings in common with the exact posterior at t = {t:g}, trained.",
        _of_levels(dataset, findings, "neighbours", "trained", ()),
        f"Dimensions that the states of a node use at t = {t:g}, and their coding rate in nats, trained.",
        _spread(dataset, findings),
    ]
    parts += [f"F1 of sparse features of the last layer at t = {t:g}.", _features(dataset, findings)]
    for forced, words in (("wrong", "another possible symbol"), ("true", "its true symbol")):
        parts += [
            f"How far networks follow if a node is forced to {words}, by strength.",
            _followed(dataset, findings, forced),
        ]
    parts += [
        "Mean probability of the true symbols of the masked leaves below the node, at strength 1.",
        _costs(dataset, findings),
    ]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _losses(dataset: xr.Dataset, findings: Findings) -> Table:
    names = ("loss", "bayes", "excess")
    rows = tuple((kind, *(findings[name, kind] for name in names)) for kind in kinds(dataset))
    return Table(("network", "loss", "exact", "excess"), rows)


def _of_levels(
    dataset: xr.Dataset, findings: Findings, name: str, weights: str, times: tuple[float, ...] | None = None
) -> Table:
    """At the time in the middle, which findings at one time alone do not name."""
    levels, at = dataset.level.values.tolist(), (middle(dataset),) if times is None else times
    rows = [
        (kind, layer, *(findings[name, kind, weights, layer, level, *at] for level in levels))
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


def _spread(dataset: xr.Dataset, findings: Findings) -> Table:
    names, t = ("rank", "participation", "enrichment", "rate"), middle(dataset)
    rows = [
        (kind, layer, *(findings[name, kind, "trained", layer, t] for name in names))
        for kind in kinds(dataset)
        for layer in layers(dataset, kind)
    ]
    return Table(("network", "layer", "effective rank", "participation ratio", "early enrichment", "rate"), tuple(rows))


def _followed(dataset: xr.Dataset, findings: Findings, forced: str) -> Table:
    strengths, about = dataset.strength.values.tolist(), config_of(dataset)
    rows = [
        (
            *(kind, layer, level),
            *(findings["followed", kind, "trained", layer, level, forced, strength] for strength in strengths),
            findings["followed", kind, "random", layer, level, forced, 1.0],
        )
        for kind in kinds(dataset)
        for level in dataset.inner.values.tolist()
        for layer in steered_layers(kind, level, about.depth, about.num_layers)
    ]
    columns = *(f"{strength:g}" for strength in strengths), "1, random weights"
    return Table(("network", "layer", "level", *columns), tuple(rows))


def _costs(dataset: xr.Dataset, findings: Findings) -> Table:
    """Of the middle one of the layers."""
    rows, about = [], config_of(dataset)
    for kind in kinds(dataset):
        for level in dataset.inner.values.tolist():
            layer = shown_layer(kind, level, about.depth, about.num_layers)
            moved = (findings["moved", kind, "trained", layer, level, forced, 1.0] for forced in FORCED)
            exact = (findings["exact-moved", kind, level, forced] for forced in FORCED)
            cells = findings["rest", kind, "trained", level], *moved, findings["exact-rest", kind, level], *exact
            rows.append((kind, layer, level, *cells))
    cases = "nothing forced", "true", "wrong"
    return Table(("network", "layer", "level", *cases, *(f"exact: {case}" for case in cases)), tuple(rows))


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
        f"{', '.join(clauses)}; {_wrong(dataset, findings)} (seed {config_of(dataset).seed})."
    )


def _wrong(dataset: xr.Dataset, findings: Findings) -> str:
    """On the highest level that has states of its own in every network."""
    about = config_of(dataset)
    level = min(1, about.depth - 1)
    shares = [
        f"{with_error(findings['followed', kind, 'trained', layer, level, 'wrong', 1.0].estimate)} ({kind}, {layer})"
        for kind in kinds(dataset)
        for layer in [shown_layer(kind, level, about.depth, about.num_layers)]
    ]
    return f"forced to a wrong symbol at level {level} they follow exact inference by {', '.join(shares)}"
