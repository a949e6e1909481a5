r"""The order in which the levels of a tree of clusters are decided, and the window of time around each decision.

Given that its parent is kept, the node of level l is kept with probability phi(S_l), S_l the signal of clusters at
+-m_l (`theory.speciation`): the level speciates at S_l = 1. Its critical window is the range of times in which the
total variation between two components at distance 2m,

    TV = 2 Phi(S^(1/2)) - 1,                                                                                       (1)

falls from near 1 to near 0.
"""

import math

import numpy as np
from scipy import special

from hierarchical import TreeMixture

from ..domain import Number, between, not_negative, number
from .speciation import CriticalTime, clone_probability, signal, speciation_time, time_of_signal


def level_times(tree: TreeMixture) -> list[CriticalTime]:
    """Speciation (S = 1) of each level of a binary tree, first level first: 1/2 ln(m_l^2 + 1 - s^2).

    Raises:
      ValueError: if a node has more than two children, or clusters differ in variance.
    """
    variance = _common_variance(tree)
    return [speciation_time(offset**2, variance) for offset in tree.offsets]


def level_retention_prediction(tree: TreeMixture, t: Number) -> np.ndarray:
    """Retention of every level of a binary tree with well separated levels, prod_{j <= l} phi(S_j).

    Raises:
      ValueError: as in `level_times`, or if t is negative or not finite.
    """
    variance, t = _common_variance(tree), number("t", t)
    return np.cumprod([clone_probability(float(signal(offset**2, variance, t))) for offset in tree.offsets])


def total_variation(distance: Number, variance: Number, t: Number) -> float:
    """Equation (1), for components of equal variance whose means are `distance` apart, in [0, 1].

    Raises:
      ValueError: if the distance, the variance or t is negative or not finite.
    """
    half = not_negative("distance", distance) / 2
    return float(2 * special.ndtr(math.sqrt(float(signal(half**2, variance, number("t", t))))) - 1)


def window_time(distance: Number, variance: Number, total_variation: Number) -> float:
    """The time at which the total variation of two components has a value in (0, 1): an end of a critical window.

    The inverse of `total_variation`; NaN if the components are nearer than that from the start.

    Raises:
      ValueError: if the distance or the variance is negative or not finite, or the value is not between 0 and 1.

    Source: Li & Chen, arXiv:2403.01633, for the window.
    """
    half = not_negative("distance", distance) / 2
    value = between("total_variation", total_variation, 0, 1)
    return time_of_signal(half**2, variance, float(special.ndtri((1 + value) / 2)) ** 2)


def _common_variance(tree: TreeMixture) -> float:
    if set(tree.branching) != {2}:
        raise ValueError(f"branching = {tree.branching}: the levels of a binary tree have closed forms, others do not")
    variances = np.asarray(tree.mixture.variances)
    if np.ptp(variances) > 1e-12 * variances.max():
        raise ValueError("the components differ in their variances: closed forms need equal ones")
    return float(variances.flat[0])
