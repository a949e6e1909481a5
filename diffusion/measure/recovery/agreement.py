r"""How good recovered levels are: against the truth where it is known, and by what they tell of each other where not.

*Agreement* is the adjusted Rand index over the different tuples of a level: are two tuples taken at random synonyms,
and are they said to be? 1 for the true symbols under any names, 0 on average for clusters at random. The true symbol of
a tuple is that of most of its nodes, of all of them where the levels below are right.

*Information of siblings.* Symbols of a hierarchy tell of their siblings, and clusters that mix symbols tell less. With
p the frequencies of pairs of clusters at two places among siblings, and N pairs,

    I  =  sum p_ab ln (p_ab / p_a p_b)  -  (cells - rows - columns + 1) / 2N                                       (1)

is their mutual information, nats, with the bias of few pairs taken off to first order in 1/N (Miller and Madow);
`cells` are those that are not empty. Its error is that of the mean of ln (p_ab / p_a p_b) over strings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from hierarchical import Derivation
from hierarchical.arguments import Given, Whole, as_whole

from ..estimate import Estimate, mean_estimate
from .clusters import sklearn_part
from .levels import Recovered, as_strings


def level_agreement(found: Recovered, truth: Derivation | Sequence[Given]) -> dict[int, float]:
    """Adjusted Rand index of every recovered level, {level: index}, 0 the root's.

    Args:
      truth: the derivations of the same strings, levels (n, nodes), root first.

    Raises:
      ValueError: if a level has another shape than the truth.
    """
    levels = truth.levels if isinstance(truth, Derivation) else truth
    score = sklearn_part("metrics").adjusted_rand_score
    result = {}
    for level in sorted(found.found):
        step, true = found.found[level], np.asarray(levels[level])
        if step.ids.shape != true.shape:
            raise ValueError(f"level {level} has {step.ids.shape} nodes, the truth {true.shape}: make them agree")
        votes = np.zeros((len(step.table), int(true.max()) + 1), int)
        np.add.at(votes, (step.ids, true), 1)
        result[level] = float(score(votes.argmax(1), step.clusters))
    return result


def sibling_information(symbols: Given, family: Whole) -> Estimate:
    """What a symbol tells of a sibling, equation (1), nats: the mean over pairs of places among siblings.

    Args:
      symbols: (n, nodes) of one level, of strings that did not decide its clusters, or the information is too large.
      family: siblings with one parent, 2 or more.

    Raises:
      ValueError: if the nodes are no whole number of families, or there are fewer than two strings.
    """
    rows, s = as_strings(symbols), as_whole("family", family, 2)
    if rows.shape[1] % s or len(rows) < 2:
        raise ValueError(f"symbols of shape {rows.shape}, family = {s}: give strings, and nodes in families of that")
    families = rows.reshape(len(rows), -1, s)
    pairs = [(i, j) for i in range(s) for j in range(i)]
    told, bias = zip(*(_pointwise(families[..., i], families[..., j]) for i, j in pairs), strict=True)
    found = mean_estimate(np.mean(told, 0).mean(-1))
    return Estimate(found.value - float(np.mean(bias)), found.stderr)


def _pointwise(a: Int[np.ndarray, "n families"], b: Int[np.ndarray, "n families"]) -> tuple[Any, float]:
    """ln (p_ab / p_a p_b) of every pair, and the bias of its mean; only pairs that occur take memory."""
    seen = (a, b, a * (b.max() + 1) + b)
    counts, cells = zip(*(_counted(numbers) for numbers in seen), strict=True)
    first, second, both = counts
    return np.log(both * a.size / (first * second)), (cells[2] - cells[0] - cells[1] + 1) / (2 * a.size)


def _counted(numbers: Int[np.ndarray, "n families"]) -> tuple[Any, int]:
    """How often the number at each place occurs, and how many different ones there are."""
    different, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return counts[places].reshape(numbers.shape).astype(float), len(different)
