r"""What is counted of a tuple to tell which symbol it stands for.

Tuples of symbols that a grammar derives from the same symbol a are synonyms: all that lies outside a tuple depends on
it only through a,

    p(outside | tuple)  =  p(outside | a).                                                                         (1)

So rows of counts of anything outside, one row for each tuple, have one law for all synonyms, and exact rows fall on as
many points as there are symbols with different laws. What differs is how many strings are needed until the rows of n
tuples stand apart (v symbols, m synonyms, s children, L levels):

    Labels          class of the string, at each place of the tuple           grows with depth, at most as n m^L
    SiblingTokens   leaves below each sibling                                 grows with depth
    SiblingTuples   the siblings' tuples, v m values                          does not grow with depth
    SiblingLatents  the siblings' symbols, v values, themselves recovered     does not grow with depth, and is fewer

(docs/recovery.md has the numbers.)

Sources: Cagnetta et al., arXiv:2307.02129 (labels); arXiv:2605.27734 (prediction of siblings' latents).
"""

import abc
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

Counts = Float[np.ndarray, "tuples features"]
Clusters = Int[np.ndarray, " tuples"]


class Tuples(NamedTuple):
    """The tuples of one level in all strings."""

    table: Int[np.ndarray, "tuples s"]
    """Each tuple that occurs, once."""
    ids: Int[np.ndarray, "n parents"]
    """Which tuple stands below each node of the level above: its row in the table."""
    leaves: Int[np.ndarray, "n leaves"]
    """The strings."""
    labels: Int[np.ndarray, " n"] | None
    """Classes of the strings, 0 .. n_c - 1, if they are known."""
    family: int
    """Nodes with one parent, a tuple's node and its siblings; 1 at the root."""

    @classmethod
    def read(
        cls,
        symbols: Int[np.ndarray, "n nodes"],
        branching: int,
        family: int,
        leaves: Int[np.ndarray, "n leaves"],
        labels: Int[np.ndarray, " n"] | None = None,
    ) -> "Tuples":
        """Those of the symbols of a level, `branching` symbols each."""
        rows = symbols.reshape(-1, branching)
        table, ids = np.unique(rows, axis=0, return_inverse=True)
        return cls(table, ids.reshape(len(symbols), -1), leaves, labels, family)


class AbstractStatistic(eqx.Module):
    """What is counted of the tuples of a level."""

    needs_labels = False
    """Whether the strings' classes must be known."""
    reads_clusters = False
    """Whether the counts depend on the clusters of the tuples, and so are counted again when these are."""

    @abc.abstractmethod
    def features(self, tuples: Tuples) -> int:
        """Numbers counted for each tuple."""

    @abc.abstractmethod
    def counts(self, tuples: Tuples, clusters: Clusters | None) -> Counts:
        """One row for each tuple of the table.

        Args:
          clusters: of the tuples, as far as they are known.
        """


class Labels(AbstractStatistic):
    """How often a tuple stands at each place in strings of each class."""

    needs_labels = True

    def features(self, tuples):
        return tuples.ids.shape[1] * int(_labels(tuples).max() + 1)

    def counts(self, tuples, clusters):
        labels, places = _labels(tuples), tuples.ids.shape[1]
        classes = int(labels.max() + 1)
        seen = np.arange(places) * classes + labels[:, None]
        return _counted(tuples, tuples.ids, seen, places * classes)


class SiblingTuples(AbstractStatistic):
    """Which tuples stand below the siblings of a tuple's node: for each place among siblings and each other place."""

    to_the_right: bool = False
    """Count only siblings to the right of the node: what a prediction of the next tuple learns from."""

    def features(self, tuples):
        return _pairs(tuples.family) * len(tuples.table)

    def counts(self, tuples, clusters):
        return _of_siblings(tuples, tuples.ids[..., None], len(tuples.table), self.to_the_right)


class SiblingLatents(AbstractStatistic):
    """Which symbols the siblings have, as clusters of tuples: those found before, until nothing changes."""

    reads_clusters = True

    def features(self, tuples):
        return _pairs(tuples.family) * len(tuples.table)  # of the first round

    def counts(self, tuples, clusters):
        if clusters is None:
            return SiblingTuples().counts(tuples, None)
        return _of_siblings(tuples, clusters[tuples.ids][..., None], int(clusters.max()) + 1)


class SiblingTokens(AbstractStatistic):
    """Which symbols the leaves below the siblings have: what predicting tokens learns from."""

    def features(self, tuples):
        below = tuples.leaves.shape[1] // tuples.ids.shape[1]
        return _pairs(tuples.family) * below * int(tuples.leaves.max() + 1)

    def counts(self, tuples, clusters):
        below = tuples.leaves.reshape(*tuples.ids.shape, -1)
        return _of_siblings(tuples, below, int(tuples.leaves.max()) + 1)


def _labels(tuples: Tuples) -> Int[np.ndarray, " n"]:
    assert tuples.labels is not None  # `recover` refuses a statistic that needs them without them
    return tuples.labels


def _pairs(family: int) -> int:
    """Ordered pairs of places among siblings."""
    return family * (family - 1)


def _of_siblings(
    tuples: Tuples, seen: Int[np.ndarray, "n parents things"], values: int, to_the_right: bool = False
) -> Counts:
    """Counts of the `things` of siblings, each in 0 .. values - 1, for each ordered pair of places."""
    family, things = tuples.family, seen.shape[-1]
    own = tuples.ids.reshape(-1, family)
    others = seen.reshape(-1, family, things)
    blocks = []
    for j in range(family):
        for k in range(family):
            if k > j or (k < j and not to_the_right):
                value = np.arange(things) * values + others[:, k]
                blocks.append(_counted(tuples, own[:, j, None], value, things * values))
    return np.concatenate(blocks, 1)


def _counted(tuples: Tuples, ids: Int[np.ndarray, "*shape"], seen: Int[np.ndarray, "*shape2"], values: int) -> Counts:
    """How often each tuple and value occur together."""
    ids, seen = np.broadcast_arrays(ids, seen)
    flat = ids.reshape(-1).astype(np.int64) * values + seen.reshape(-1)
    return np.bincount(flat, minlength=len(tuples.table) * values).reshape(-1, values).astype(float)
