r"""Gaussian mixtures whose means are the leaves of a tree.

The root is 0; each of the b_l children of a node of level l - 1 is offset from it by a vector of length m_l, towards
the corners of a regular simplex (b = 2: plus and minus one direction). With directions of its own for every node,
orthogonal to all others, two leaves whose paths part at level l are at the squared distance

    2 b_l/(b_l - 1) m_l^2 + 2 sum_{j > l} m_j^2,                                                                    (1)

which depends on l alone, and falls with it, so that the means are ultrametric, where offsets shrink fast enough:
m_{l+1}^2 < m_l^2 (b_{l+1} - 1) b_l/(b_l - 1), for binary trees m_{l+1}^2 < 2 m_l^2; other offsets are refused. With
directions shared by all nodes of a level the means are the corners of a product of simplices: fewer dimensions are
needed, and paths that have parted may take equal steps afterwards.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..arguments import AnyKey
from ..law import AbstractLaw, Sample, Shape
from .gaussian import GaussianMixture


class TreeMixture(AbstractLaw):
    """A mixture, and which node of each level a component is below."""

    mixture: GaussianMixture
    branching: tuple[int, ...] = eqx.field(static=True)
    """Children of a node, first level first."""
    offsets: tuple[float, ...] = eqx.field(static=True)
    """m_l, first level first."""

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Points; `latent` is the component (a leaf of the tree) that each is from."""
        return self.mixture.sample(key, shape)

    def ancestors(self, level: int) -> Int[np.ndarray, " K"]:
        """The node of `level` (0: the root, `len(branching)`: the components) that each component is below."""
        return np.arange(math.prod(self.branching)) // math.prod(self.branching[level:])

    def node_posterior(self, component_posterior: Float[Array, "*batch K"], level: int) -> Float[Array, "*batch nodes"]:
        """Posteriors of components summed below each node of `level`."""
        nodes = math.prod(self.branching[:level])
        return component_posterior.reshape(*component_posterior.shape[:-1], nodes, -1).sum(-1)


def tree_mixture(
    key: Key[Array, ""],
    dimension: int,
    offsets: tuple[float, ...],
    *,
    branching: int | tuple[int, ...] = 2,
    variance: float = 1.0,
    shared: bool = False,
) -> TreeMixture:
    """Draw the directions of a tree of means; all components have equal weight and isotropic `variance`.

    Args:
      offsets: m_l > 0, first level (nearest the root) first.
      branching: children of a node, one number or one for each level, at least 2.
      shared: whether all nodes of a level have the same directions.

    Raises:
      ValueError: if an argument is out of range, offsets of a tree with directions of its own do not shrink as said
        above, or `dimension` cannot hold that many orthogonal directions.
    """
    branching = (branching,) * len(offsets) if isinstance(branching, int) else tuple(branching)
    if not offsets or len(branching) != len(offsets) or min(branching) < 2 or min(offsets) <= 0 or variance < 0:
        raise ValueError(
            f"offsets = {offsets}, branching = {branching}, variance = {variance}: give as many of both, offsets "
            f"above 0, 2 children or more, a variance not below 0"
        )
    for (above, m), (below, n) in itertools.pairwise(zip(branching, offsets, strict=True)):
        if not shared and n**2 >= m**2 * (below - 1) * above / (above - 1):
            raise ValueError(f"offset {n} below {m}: siblings would be as far apart as cousins, lower the deeper one")
    fans = [1 if shared else math.prod(branching[:level]) for level in range(len(branching))]
    needed = sum(fan * (b - 1) for fan, b in zip(fans, branching, strict=True))
    if needed > dimension:
        raise ValueError(
            f"the tree needs {needed} orthogonal directions, dimension = {dimension}: raise it, or share them"
        )
    directions, _ = jnp.linalg.qr(jax.random.normal(key, (dimension, needed)))
    means, used = jnp.zeros((1, dimension), directions.dtype), 0
    for fan, b, offset in zip(fans, branching, offsets, strict=True):
        bundle = directions[:, used : used + fan * (b - 1)].T.reshape(fan, b - 1, dimension)
        steps = offset * jnp.einsum("cs,fsd->fcd", jnp.asarray(_simplex(b), bundle.dtype), bundle)
        means = (means[:, None] + steps).reshape(-1, dimension)
        used += fan * (b - 1)
    weights = jnp.full(len(means), 1 / len(means), means.dtype)
    return TreeMixture(GaussianMixture(weights, means, variance), branching, tuple(map(float, offsets)))


def _simplex(corners: int) -> np.ndarray:
    """Unit vectors to the corners of a regular simplex, (corners, corners - 1)."""
    centred = np.eye(corners) - 1 / corners
    basis = np.linalg.svd(centred)[2][:-1]  # of the hyperplane of vectors that sum to 0
    found = centred @ basis.T
    return found / np.linalg.norm(found, axis=1, keepdims=True)
