r"""Gaussian mixtures whose means are the leaves of a tree.

The root is 0. Each of the b_l children of a node of level l - 1 is offset from it by a vector of length m_l, towards
the corners of a regular simplex (b = 2: plus and minus one direction). If every node has directions of its own,
orthogonal to all others, two leaves whose paths part at level l have the squared distance

```
2 b_l/(b_l - 1) m_l^2 + 2 sum_{j > l} m_j^2,                                                                         (1)
```

which depends on l alone. The means are ultrametric if (1) falls with l, that is if the offsets shrink fast enough:

```
m_{l+1}^2 < m_l^2 (b_{l+1} - 1) b_l/(b_l - 1),     for binary trees  m_{l+1}^2 < 2 m_l^2.                            (2)
```

Other offsets are refused. If all nodes of a level share their directions, the means are the corners of a product of
simplices: fewer dimensions are needed, and paths that have parted may take equal steps afterwards.
"""

import itertools
import math
from collections.abc import Sequence
from typing import SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..arguments import AnyKey, Given, as_key, as_numbers, as_whole, as_wholes
from ..files.memory import check_memory
from ..law import AbstractLaw, Sample, Shape
from .gaussian import GaussianMixture

_BYTES = 4 * 8  # of a coordinate in float64: means, steps, and what they are made of


class TreeMixture(AbstractLaw):
    """A mixture whose components are the leaves of a tree, in the order of the tree."""

    mixture: GaussianMixture
    branching: tuple[int, ...] = eqx.field(static=True)
    """Children of a node, first level first."""
    offsets: tuple[float, ...] = eqx.field(static=True)
    """m_l, first level first."""

    def __check_init__(self):
        components = len(self.mixture.weights)
        if math.prod(self.branching) != components or len(self.offsets) != len(self.branching):
            raise ValueError(
                f"a tree with branching = {self.branching} and offsets = {self.offsets} for {components} components: "
                f"give as many offsets as levels, and a component for each leaf"
            )

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Points; `latent` is the component of each, a leaf of the tree."""
        return self.mixture.sample(key, shape)

    def ancestors(self, level: int) -> Int[np.ndarray, " K"]:
        """For each component the node of `level` above it; level 0 is the root, `len(branching)` the components.

        Raises:
          ValueError: if the tree has no such level.
        """
        self._check_level(level)
        return np.arange(math.prod(self.branching)) // math.prod(self.branching[level:])

    def node_posterior(self, component_posterior: Given, level: int) -> Float[Array, "*batch nodes"]:
        """Posterior of each node of `level`, from that of the components, (..., K): the sum over those below it.

        Raises:
          ValueError: if the tree has no such level, or the last axis does not have the K components.
        """
        self._check_level(level)
        posterior, components = as_numbers(component_posterior), len(self.mixture.weights)
        if posterior.shape[-1:] != (components,):
            raise ValueError(f"posterior of shape {posterior.shape}: its last axis needs {components} entries")
        return posterior.reshape(*posterior.shape[:-1], math.prod(self.branching[:level]), -1).sum(-1)

    def _check_level(self, level: int) -> None:
        if not 0 <= level <= len(self.branching):
            raise ValueError(f"level = {level}: the tree has the levels 0 (root) .. {len(self.branching)} (components)")


def tree_mixture(
    key: AnyKey,
    dimension: int,
    offsets: Sequence[float],
    *,
    branching: SupportsIndex | Sequence[SupportsIndex] = 2,
    variance: float = 1.0,
    shared: bool = False,
) -> TreeMixture:
    """Draw the directions of a tree of means; all components have equal weight and isotropic `variance`.

    Args:
      offsets: m_l, finite and above 0, first level (nearest the root) first.
      branching: children of a node, one integer or one for each level, at least 2.
      variance: of every component, finite and not negative.
      shared: whether all nodes of a level have the same directions.

    Raises:
      ValueError: if an argument is out of range, offsets of a tree with directions of its own violate (2), or
        `dimension` has too few orthogonal directions; if the means need more memory than there is.
    """
    offsets = tuple(map(float, offsets))
    branching = as_wholes("branching", branching if isinstance(branching, Sequence) else (branching,) * len(offsets))
    dimension = as_whole("dimension", dimension)
    _check_tree(offsets, branching, variance, shared)
    fans = [1 if shared else math.prod(branching[:level]) for level in range(len(branching))]
    needed = sum(fan * (b - 1) for fan, b in zip(fans, branching, strict=True))
    if needed > dimension:
        raise ValueError(
            f"the tree needs {needed} orthogonal directions, dimension = {dimension}: raise it, or share them"
        )
    check_memory(_BYTES * dimension * (math.prod(branching) + needed), f"a tree with branching = {branching}")
    directions, _ = jnp.linalg.qr(jax.random.normal(as_key(key), (dimension, needed)))
    means, used = jnp.zeros((1, dimension), directions.dtype), 0
    for fan, b, offset in zip(fans, branching, offsets, strict=True):
        bundle = directions[:, used : used + fan * (b - 1)].T.reshape(fan, b - 1, dimension)
        steps = offset * jnp.einsum("cs,fsd->fcd", jnp.asarray(_simplex(b), bundle.dtype), bundle)
        means = (means[:, None] + steps).reshape(-1, dimension)
        used += fan * (b - 1)
    weights = jnp.full(len(means), 1 / len(means), means.dtype)
    return TreeMixture(GaussianMixture(weights, means, variance), branching, offsets)


def _check_tree(offsets: tuple[float, ...], branching: tuple[int, ...], variance: float, shared: bool) -> None:
    if not offsets or len(branching) != len(offsets) or min(branching) < 2:
        raise ValueError(
            f"offsets = {offsets}, branching = {branching}: give one offset and 2 children or more for each level"
        )
    if not all(0 < offset < math.inf for offset in offsets):
        raise ValueError(f"offsets = {offsets}: give finite lengths above 0")
    if not 0 <= variance < math.inf:
        raise ValueError(f"variance = {variance}: give a finite number that is not negative")
    for (above, m), (below, n) in itertools.pairwise(zip(branching, offsets, strict=True)):
        if not shared and n >= m * math.sqrt((below - 1) * above / (above - 1)):  # equation (2)
            raise ValueError(f"offset {n} below {m}: siblings would be as far apart as cousins, lower the deeper")


def _simplex(corners: int) -> np.ndarray:
    """Unit vectors from the centre of a regular simplex to its corners, (corners, corners - 1)."""
    centred = np.eye(corners) - 1 / corners
    basis = np.linalg.svd(centred)[2][:-1]  # of the hyperplane of vectors that sum to 0
    vectors = centred @ basis.T
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
