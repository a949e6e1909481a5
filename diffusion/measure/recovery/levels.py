r"""Climb a hierarchy from its leaves: cluster the tuples of a level, write each cluster for its tuple, repeat.

Clusters stand for symbols up to their names. A level of symbols that is wrong makes the levels above it wrong too, so
the number of strings needed is that of the level that needs most. With statistics of siblings the climb ends at the
children of the root, which has none; with labels it ends at the root.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, Key

from hierarchical.arguments import NO_SYMBOL, AnyKey, Given, Whole, as_key, as_whole
from hierarchical.files.memory import check_memory
from hierarchical.grammar.sizes import whole_per_level

from .clusters import AbstractClustering, PMIEmbedding
from .statistics import AbstractStatistic, Clusters, SiblingLatents, Tuples

ROUNDS = 30  # of clusters that read clusters, at most


class Level(eqx.Module):
    """What was found of one level of rules: the symbols of its parents, as clusters of the tuples below them."""

    table: Int[np.ndarray, "tuples s"]
    """Each tuple that occurred, in symbols of the level below."""
    ids: Int[np.ndarray, "n parents"]
    """Which of them stands below each node of the strings."""
    clusters: Clusters
    """The cluster of each tuple."""
    rounds: int
    """How often they were clustered; with statistics that read clusters, until nothing changed."""
    converged: bool
    """False if they still changed in the last round."""

    def symbols(self, below: Int[np.ndarray, "n nodes"]) -> Int[np.ndarray, "n parents"]:
        """The clusters of the tuples of other strings, -1 for a tuple that did not occur."""
        s = self.table.shape[1]
        rows = np.concatenate([self.table, below.reshape(-1, s)])
        _, numbers = np.unique(rows, axis=0, return_inverse=True)
        numbers = numbers.reshape(-1)
        known = np.full(len(rows), NO_SYMBOL, np.int64)
        known[numbers[: len(self.table)]] = self.clusters
        return known[numbers[len(self.table) :]].reshape(len(below), -1)


class Recovered(eqx.Module):
    """Hidden levels, found from strings."""

    found: Mapping[int, Level]
    """For each level of rules, 0 that of the root, what was found; from `top` to the last."""
    levels: Mapping[int, Int[np.ndarray, "n nodes"]]
    """The symbols of every level in the strings themselves, the leaves' among them: {level: (n, nodes)}."""

    @property
    def top(self) -> int:
        """The highest level that was found: 0 the root's, 1 that of its children."""
        return min(self.levels)

    def of(self, strings: Given) -> dict[int, Int[np.ndarray, "n nodes"]]:
        """The levels of other strings, (n, leaves); -1 above a tuple that did not occur."""
        result = {max(self.levels): as_strings(strings)}
        for level in sorted(self.found, reverse=True):
            result[level] = self.found[level].symbols(result[level + 1])
        return result


def recover(
    key: AnyKey,
    strings: Given,
    branching: Sequence[Whole],
    num_symbols: Whole | Sequence[Whole],
    *,
    statistic: AbstractStatistic | None = None,
    labels: Given | None = None,
    clustering: AbstractClustering | None = None,
) -> Recovered:
    """The hidden levels of strings of a hierarchy whose tree is known, and whose rules are not; not inside `jax.jit`.

    Args:
      strings: (n, leaves) symbols 0 .. v - 1.
      branching: children of a node of each level, root first; their product is the number of leaves.
      num_symbols: symbols of the hidden levels, root first, or one number for all. Where a level has fewer different
        tuples, or symbols whose laws are equal, fewer clusters can be told apart.
      statistic: what is counted of a tuple; default `SiblingLatents`.
      labels: (n,) classes of the strings, for a statistic that needs them.
      clustering: default `PMIEmbedding`.

    Raises:
      ValueError: if a shape does not fit, symbols are negative or no whole numbers, labels are missing, or the counts
        do not fit into memory.
      ImportError: if scikit-learn is not installed.
    """
    statistic = SiblingLatents() if statistic is None else statistic
    clustering = PMIEmbedding() if clustering is None else clustering
    leaves, branching = as_strings(strings), tuple(as_whole("branching", s, 2) for s in branching)
    depth = len(branching)
    if leaves.shape[1] != int(np.prod(branching)):
        raise ValueError(f"strings of {leaves.shape[1]} leaves, branching = {branching}: its product must be that")
    sizes = whole_per_level("num_symbols", num_symbols, depth, 1)
    classes = _as_labels(labels, statistic, len(leaves))
    levels, found = {depth: leaves}, {}
    top = 0 if statistic.needs_labels else 1
    for level, level_key in zip(range(depth - 1, top - 1, -1), jax.random.split(as_key(key), depth), strict=False):
        family = branching[level - 1] if level else 1
        tuples = Tuples.read(levels[level + 1], branching[level], family, leaves, classes)
        found[level] = _clustered(level_key, tuples, sizes[level], statistic, clustering)
        levels[level] = found[level].clusters[tuples.ids]
    return Recovered(found, levels)


def _clustered(
    key: Key[Array, ""], tuples: Tuples, num_symbols: int, statistic: AbstractStatistic, clustering: AbstractClustering
) -> Level:
    """Clusters of the tuples of a level."""
    total = len(tuples.table)
    if total <= num_symbols:
        return Level(tuples.table, tuples.ids, np.arange(total), 0, True)
    check_memory(24 * total * statistic.features(tuples), f"counting what stands beside {total} different tuples")
    keys = jax.random.split(key, ROUNDS)
    clusters = clustering.groups(keys[0], statistic.counts(tuples, None), num_symbols)
    if not statistic.reads_clusters:
        return Level(tuples.table, tuples.ids, clusters, 1, True)
    for number in range(1, ROUNDS):
        before, clusters = clusters, clustering.groups(keys[number], statistic.counts(tuples, clusters), num_symbols)
        if _same(before, clusters):
            return Level(tuples.table, tuples.ids, clusters, number + 1, True)
    return Level(tuples.table, tuples.ids, clusters, ROUNDS, False)


def _same(before: Clusters, after: Clusters) -> bool:
    """Whether two clusterings differ in names alone."""
    pairs = np.unique(np.stack([before, after], 1), axis=0)
    return len(pairs) == len(np.unique(before)) == len(np.unique(after))


def as_strings(strings: Given) -> Int[np.ndarray, "n leaves"]:
    """Strings as integers.

    Raises:
      ValueError: if they are not (n, leaves) whole numbers of 0 or more.
    """
    rows = np.asarray(strings)
    if rows.ndim != 2 or not rows.size or not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0:
        raise ValueError(f"strings of shape {rows.shape} and {rows.dtype}: give (n, leaves) symbols, 0 or more")
    return rows.astype(np.int64)


def _as_labels(labels: Given | None, statistic: AbstractStatistic, n: int) -> Int[np.ndarray, " n"] | None:
    if labels is None:
        if statistic.needs_labels:
            raise ValueError(f"{type(statistic).__name__} counts classes: give the labels of the strings")
        return None
    rows = np.asarray(labels)
    if rows.shape != (n,) or not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0:
        raise ValueError(f"labels of shape {rows.shape} and {rows.dtype}: give ({n},) classes, 0 or more")
    return rows.astype(np.int64)
