r"""A tree of Gaussians whose leaves are the data: each leaf is the sum of what its ancestors contribute.

Every node of a tree with s children per node and depth L carries an independent g ~ N(0, sigma_h^2), h its height: 0 of
the leaves, L of the root. A datum is the s^L leaves, each the sum of g over itself and all nodes above it, so that

    C_ij = sum of sigma_h^2 over h from the height of the last common ancestor of i and j to L.                    (1)

Vectors that are constant below every node of height h, and sum to 0 over the children of every node of height h + 1,
are eigenvectors of (1): a contribution of height k <= h adds s^k sigma_k^2, one from above adds nothing. Hence

    lambda_h = sum_{k <= h} s^k sigma_k^2       (s - 1) s^(L-h-1) times for h < L, once for the root h = L,         (2)

which rises with h: the eigenvectors of the s^(L-h) largest eigenvalues say the means over all subtrees of height h.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from ..arguments import AnyKey, Given, Whole, as_numbers, as_whole
from ..files.memory import check_memory
from ..law import AbstractLaw, Sample, Shape, sample_each
from .gaussian import GaussianMixture

_BYTES = 8


class TreeGaussian(AbstractLaw):
    """The leaves of a tree of independent Gaussian contributions, in the order of the tree."""

    variances: Float[Array, " heights"]
    """sigma_h^2, the leaves' first, the root's last."""
    branching: int = eqx.field(static=True)
    """s, children of a node."""

    def __init__(self, branching: Whole, variances: Given):
        """Everything is in the dtype of the variances; whole numbers become floats.

        Args:
          branching: s, at least 2.
          variances: sigma_h^2, (L + 1,), the leaves' first; finite and not negative.

        Raises:
          ValueError: if an argument is out of range, or a datum needs more memory than there is.
        """
        self.branching, self.variances = as_whole("branching", branching, 2), as_numbers(variances)
        if self.variances.ndim != 1 or len(self.variances) < 2:
            raise ValueError(
                f"variances have shape {self.variances.shape}: give one for each height, of the leaves and above"
            )
        if not isinstance(self.variances, Tracer):
            wrong = np.asarray(self.variances)
            wrong = wrong[~(np.isfinite(wrong) & (wrong >= 0))]
            if wrong.size:
                raise ValueError(f"variances hold {wrong[0]:g}: give finite numbers that are not negative")
        check_memory(_BYTES * 2 * self.num_leaves, f"a tree with branching = {self.branching}, depth = {self.depth}")

    @property
    def depth(self) -> int:
        """L."""
        return len(self.variances) - 1

    @property
    def num_leaves(self) -> int:
        """s^L, numbers of a datum."""
        return self.branching**self.depth

    @property
    def eigenvalues(self) -> Float[Array, " heights"]:
        """lambda_h of equation (2), from h = 0 to the root's: they do not fall."""
        sizes = jnp.asarray(float(self.branching) ** np.arange(self.depth + 1), self.variances.dtype)
        return jnp.cumsum(sizes * self.variances)

    @property
    def multiplicities(self) -> Int[np.ndarray, " heights"]:
        """How often each of the `eigenvalues` occurs."""
        nodes = self.branching ** np.arange(self.depth, -1, -1)
        return nodes - np.append(nodes[1:], 0)

    @property
    def heights(self) -> Int[np.ndarray, " leaves"]:
        """The height to which each eigenvalue of the covariance belongs, largest eigenvalue first."""
        return np.repeat(np.arange(self.depth, -1, -1), self.multiplicities[::-1])

    @property
    def spectrum(self) -> Float[Array, " leaves"]:
        """All eigenvalues of the covariance, largest first: `eigenvalues[heights]`."""
        return self.eigenvalues[self.heights]

    @property
    def covariance(self) -> Float[Array, "leaves leaves"]:
        """Equation (1).

        Raises:
          ValueError: if it needs more memory than there is.
        """
        check_memory(_BYTES * 2 * self.num_leaves**2, f"the covariance of {self.num_leaves} leaves")
        nodes = np.arange(self.num_leaves)
        covariance = jnp.zeros((self.num_leaves, self.num_leaves), self.variances.dtype)
        for height in range(self.depth + 1):
            above = nodes // self.branching**height  # the ancestor of each leaf at this height
            shared = jnp.asarray(above[:, None] == above[None], covariance.dtype)
            covariance = covariance + self.variances[height] * shared
        return covariance

    @property
    def gaussian(self) -> GaussianMixture:
        """The same law as one Gaussian, with density, score and noised law."""
        covariance = self.covariance
        means = jnp.zeros((1, self.num_leaves), covariance.dtype)
        return GaussianMixture(jnp.ones(1, covariance.dtype), means, covariance[None])

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Leaves; `latent` is what the nodes contribute, a tuple over levels, the root's first and the leaves' last."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key: Key[Array, ""]) -> Sample:
        keys, nodes = jax.random.split(key, self.depth + 1), []
        for level in range(self.depth + 1):
            noise = jax.random.normal(keys[level], (self.branching**level,), self.variances.dtype)
            nodes.append(jnp.sqrt(self.variances[self.depth - level]) * noise)
        leaves = sum(jnp.repeat(g, self.num_leaves // len(g)) for g in nodes)
        return Sample(jnp.asarray(leaves), tuple(nodes))
