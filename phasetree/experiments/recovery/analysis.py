"""The findings of the experiment `recovery`. STATISTIC is what is counted, DEPTH that of the tree, LEVEL 0 the root's.

agreement/STATISTIC/DEPTH/LEVEL/P      measured: adjusted Rand index of a level from P strings, mean over grammars
strings/STATISTIC/DEPTH                measured: P at which the index of the root's children crosses 1/2
growth/STATISTIC                       measured: strings at the largest depth over those at the smallest
strings/predicted/DEPTH                predicted: n m^L, for labels
growth/predicted                       predicted: the same ratio of n m^L, a power of m
rules/SOURCE/LEVEL/P                   measured: share of the rules found, by clusters alone and after learning
loss/P                                 measured: loss of held-out strings under the learned rules over their entropy
score/SPACE/KIND/DEPTH                 measured: tree scores of distances between leaves, given and embedded
stress/SPACE/DEPTH                     measured
information/SOURCE/LEVEL               measured, of a file: what a symbol tells of its sibling, and shuffled ones do
known/LEVEL                            measured, of a file: share of the held-out windows whose tuples all occurred

Errors are over grammars. A crossing is read for each grammar between the first number of strings at which the index is
1/2 and the one before, linearly in ln P, and averaged in ln P; it is not resolved if a grammar has none.
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings, config_of
from phasetree.findings import path
from phasetree.recipes.sample_numbers import crossing, geometric_mean, geometric_ratio


def analyse(dataset: xr.Dataset) -> Findings:
    """Agreement, strings that are needed, rules, tree scores; or the information of siblings."""
    if "information" in dataset:
        return _of_file(dataset)
    found = [finding for name in dataset.statistic.values for finding in _of_statistic(dataset, str(name))]
    about = config_of(dataset)
    n, m, depths = about.num_symbols, about.num_synonyms, dataset.depth.values
    found += [Finding.exact(path("strings", "predicted", d), float(n * m**d), "predicted", "strings") for d in depths]
    ratio = float(m) ** (depths[-1] - depths[0])
    found.append(Finding.exact(path("growth", "predicted"), ratio, "predicted", "1"))
    return Findings([*found, *_of_rules(dataset), *_of_trees(dataset)])


def _of_statistic(dataset: xr.Dataset, name: str) -> list[Finding]:
    found, crossings = [], []
    for depth in dataset.depth.values:
        part = dataset.agreement.sel(statistic=name, depth=depth).transpose("grammar", "samples", "level")
        for level in range(depth):
            for at, n in enumerate(dataset.samples.values):
                rows = part.values[:, at, level]
                if np.isfinite(rows).all():
                    found.append(_mean(path("agreement", name, depth, level, n), rows, "1"))
        crossings.append(np.array([crossing(dataset.samples.values, row[:, 1]) for row in part.values]))
        found.append(Finding(path("strings", name, depth), geometric_mean(crossings[-1]), "measured", "strings"))
    growth = geometric_ratio(crossings[-1], crossings[0])
    return [*found, Finding(path("growth", name), growth, "measured", "1")]


def _of_rules(dataset: xr.Dataset) -> list[Finding]:
    if "rules" not in dataset:
        return []
    found = []
    for at, n in enumerate(dataset.samples.values):
        for source in dataset.source.values:
            for level in dataset.level.values:
                rows = dataset.rules.sel(source=source, level=level).isel(samples=at).values
                if np.isfinite(rows).all():
                    found.append(_mean(path("rules", source, level, n), rows, "1"))
        losses = dataset.loss.isel(samples=at).values
        if np.isfinite(losses).all():
            found.append(_mean(path("loss", n), losses, "entropy"))
    return found


def learned_samples(dataset: xr.Dataset, findings: Findings) -> list[int]:
    """Numbers of strings from which rules were learned."""
    return [n for n in dataset.samples.values.tolist() if ("loss", n) in findings]


def _of_trees(dataset: xr.Dataset) -> list[Finding]:
    found = []
    for depth in dataset.depth.values:
        for space in dataset.space.values:
            part = dataset.sel(depth=depth, space=space)
            for kind in dataset.kind.values:
                found.append(_mean(path("score", space, kind, depth), part.score.sel(kind=kind).values, "1"))
            found.append(_mean(path("stress", space, depth), part.stress.values, "1"))
    return found


def _of_file(dataset: xr.Dataset) -> Findings:
    found = []
    for source in dataset.source.values:
        for level in dataset.level.values:
            part = dataset.sel(source=source, level=level)
            estimate = Estimate(*(jnp.asarray(float(part[name])) for name in ("information", "information_stderr")))
            found.append(Finding(path("information", source, level), estimate, "measured", "nats"))
    for level in dataset.level.values:
        known = float(dataset.known.sel(level=level))
        found.append(Finding.exact(path("known", level), known, "measured", "of the windows"))
    return Findings(found)


def _mean(name: str, rows: Float[np.ndarray, " grammars"], unit: str) -> Finding:
    return Finding(name, mean_estimate(rows), "measured", unit)
