r"""Is a set of distances between leaves a tree's, and is it the right tree? For distances of any origin.

Covariances of leaves that a tree correlates fall with the height of their lowest common ancestor, so that

    D_ij  =  -ln ( |C_ij| / sqrt(|C_ii| |C_jj|) ),      C_ij the covariance of the symbols of two leaves, one-hot,  (1)

grows with it. Three scores: the *cophenetic correlation*, of distances with those at which average linkage joins the
leaves, 1 for every tree whose leaves are equally deep; the *ultrametric violation*, the mean over triples of (largest -
second largest) / largest, 0 for such a tree; and the share of *triplets* whose closest pair is the one that the true
tree joins first, 1/3 by chance.
"""

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from hierarchical.arguments import Given, Whole, as_whole
from hierarchical.files.memory import check_memory

from .levels import as_strings

Distances = Float[np.ndarray, "leaves leaves"]


class TreeScore(eqx.Module):
    """How much distances are a tree's."""

    cophenetic: float
    """In [-1, 1]; NaN if all distances are equal."""
    violation: float
    """In [0, 1]."""
    triplets: float
    """In [0, 1]."""


def leaf_distances(strings: Given, num_symbols: Whole | None = None) -> Distances:
    """Equation (1) of strings (n, leaves), with covariances over the strings; inf between leaves that are independent.

    Args:
      num_symbols: v; default the largest symbol + 1.

    Raises:
      ValueError: if there are fewer than two strings, a leaf has the same symbol in all of them, or the covariances do
        not fit into memory.
    """
    rows = as_strings(strings)
    v = int(rows.max()) + 1 if num_symbols is None else as_whole("num_symbols", num_symbols, int(rows.max()) + 1)
    if len(rows) < 2 or np.any(rows.min(0) == rows.max(0)):
        raise ValueError(f"strings of shape {rows.shape}: give two or more, and leaves whose symbol varies")
    n, leaves = rows.shape
    check_memory(8 * leaves * v * (2 * n + leaves * v), f"covariances of {leaves} leaves of {v} symbols")
    shown = (rows[..., None] == np.arange(v)).reshape(n, -1).astype(float)
    shown -= shown.mean(0)
    covariance = (shown.T @ shown / n).reshape(leaves, v, leaves, v)
    norms = np.sqrt(np.einsum("ixjy,ixjy->ij", covariance, covariance))
    own = np.sqrt(np.diag(norms))
    with np.errstate(divide="ignore"):
        result = -np.log(norms / (own[:, None] * own))
    np.fill_diagonal(result, 0.0)
    return result


def tree_score(distances: Given, branching: Sequence[Whole]) -> TreeScore:
    """The three scores of distances between the leaves of a tree, see the head.

    Args:
      distances: (leaves, leaves), symmetric, 0 on the diagonal, finite.
      branching: children of a node of each level of the true tree, root first.

    Raises:
      ValueError: if the distances are none, the tree has other leaves, or fewer than three or too many for memory.
    """
    given, branching = np.asarray(distances, float), [as_whole("branching", s, 2) for s in branching]
    leaves = int(np.prod(branching))
    if given.shape != (leaves, leaves) or leaves < 3:
        raise ValueError(
            f"distances of shape {given.shape}, branching = {branching}: give a row for each leaf, 3 or more"
        )
    if not np.isfinite(given).all() or not np.allclose(given, given.T) or np.diag(given).any() or given.min() < 0:
        raise ValueError("distances are not finite, symmetric, 0 on the diagonal and 0 or more elsewhere")
    check_memory(12 * 8 * math.comb(leaves, 3), f"scoring all triples of {leaves} leaves")
    flat = squareform(given, checks=False)
    with np.errstate(invalid="ignore", divide="ignore"):
        joined = hierarchy.cophenet(hierarchy.linkage(flat, "average"))
        correlation = float(np.corrcoef(flat, joined)[0, 1]) if np.ptp(flat) > 0 else float("nan")
    triples = np.array(list(itertools.combinations(range(leaves), 3)))
    own, true = _of_triples(given, triples), _of_triples(_heights(branching), triples)
    largest = np.sort(own, 1)[:, ::-1]
    with np.errstate(invalid="ignore"):
        relative = np.where(largest[:, 0] > 0, (largest[:, 0] - largest[:, 1]) / largest[:, 0], 0.0)
    resolved = np.sort(true, 1)[:, 0] < np.sort(true, 1)[:, 1]
    right = np.argmin(own, 1) == np.argmin(true, 1)
    return TreeScore(correlation, float(relative.mean()), float(right[resolved].mean()))


def _heights(branching: Sequence[int]) -> Int[np.ndarray, "leaves leaves"]:
    """Levels from the leaves to the lowest common ancestor of each pair."""
    leaves = int(np.prod(branching))
    place, height = np.arange(leaves), np.zeros((leaves, leaves), int)
    for s in reversed(branching):
        height += place[:, None] != place
        place = place // s
    return height


def _of_triples(table: np.ndarray, triples: Int[np.ndarray, "triples 3"]) -> np.ndarray:
    """The entries of the three pairs of each triple."""
    a, b, c = triples.T
    return np.stack([table[a, b], table[a, c], table[b, c]], 1)
