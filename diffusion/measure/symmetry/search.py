r"""The linear generators that a law's denoiser breaks least, by least squares.

Equations (1) and (2) of `lie` are linear in A. In coordinates in which E D D' = 1 the mean of the square is a' M a, a
being the numbers of A: eigenvectors of M of eigenvalue near 0 are symmetries. Rotations alone, A antisymmetric, are the
same problem in fewer numbers. Half of the data find generators, the other half tell how much each is broken, equation
(3) of `lie`: otherwise the smallest of many eigenvalues would flatter itself. Known arrays are needed, no traced ones.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, as_numbers

from ..estimate import Estimate
from ..field.local import local_field
from .lie import Terms, broken, terms_of

UNBROKEN = 0.01  # the breaking below which a generator is called a symmetry of the law
UNBROKEN_SET = 0.02  # of the set, which noise alone breaks by about the square of noise over size
DATA_PER_NUMBER = 4  # that the search needs, for each number of a generator


class Generators(eqx.Module):
    """Generators in order of how much they are broken, the least first."""

    matrices: Float[Array, "g d d"]
    """Of Frobenius norm 1, acting within the span of the data."""
    breaking: Estimate
    """Equation (3) of `lie`, (g,), from data that the search did not see."""

    def unbroken(self, threshold: float = UNBROKEN) -> Float[Array, "found d d"]:
        """Those whose breaking is below the threshold, by default that of laws; of sets give `UNBROKEN_SET`."""
        return self.matrices[np.asarray(self.breaking.value) < threshold]


def search(key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, of_set: bool = False) -> Generators:
    """All linear generators of the span of the data, by how much they are broken.

    Args:
      x, t: clean data, independent draws, and noise times, as of `local_field`; noise is added once to each. In a span
        of q dimensions 8 q^2 data or more are needed. Transformations are about the origin of x.
      of_set: whether symmetries of the set of the data are searched, in place of those of their law.

    Raises:
      ValueError: as `local_field`, or for too few data.
    """
    terms = terms_of(key, local_field(denoiser, x, t), of_set)
    q = len(terms.variances)
    return _ordered(terms, np.eye(q**2).reshape(-1, q, q))


def search_rotations(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, t: Given, *, of_set: bool = False
) -> Generators:
    """`search` among rotations of the span; 4 q (q - 1) data or more are needed. None in a span of one dimension."""
    terms = terms_of(key, local_field(denoiser, x, t), of_set)
    q = len(terms.variances)
    unit = np.eye(q)
    planes = [np.outer(unit[i], unit[j]) - np.outer(unit[j], unit[i]) for i in range(q) for j in range(i)]
    return _ordered(terms, np.reshape(planes, (-1, q, q)))


def principal_angles(found: Given, true: Given) -> Float[Array, " smaller"]:
    """The angles between two spaces of generators, degrees, the largest first: (g,), g of the smaller.

    Args:
      found, true: (g, d, d), independent; signs, sizes and the choice of a basis do not count.

    Raises:
      ValueError: if one is empty, or the matrices are not of one size.
    """
    spaces = [np.asarray(as_numbers(matrices), np.float64) for matrices in (found, true)]
    if any(space.ndim != 3 or not len(space) for space in spaces) or spaces[0].shape[1:] != spaces[1].shape[1:]:
        shapes = " and ".join(str(space.shape) for space in spaces)
        raise ValueError(f"generators of shapes {shapes}: give (g, d, d), at least one of each, of one size")
    flat = [space.reshape(len(space), -1).T for space in spaces]
    return jnp.asarray(np.degrees(scipy.linalg.subspace_angles(*flat)))


def _ordered(terms: Terms, basis: Float[np.ndarray, "b q q"]) -> Generators:
    """Combinations of basis generators in order of their breaking."""
    count = len(terms.means) // 2
    if count < DATA_PER_NUMBER * len(basis):
        needed = 2 * DATA_PER_NUMBER * len(basis)
        raise ValueError(f"{len(terms.means)} data for {len(basis)} numbers of a generator: give {needed} or more")
    seen, held = (_part(terms, half) for half in (slice(count), slice(count, None)))
    rows = np.asarray(seen.products, np.float64).reshape(-1, *basis.shape[1:])  # of all points
    products = np.einsum("bij,nij->nb", basis, rows)
    moved = np.einsum("aij,bij,j->ab", basis, basis, np.asarray(terms.variances, np.float64))  # E (A D) . (B D)
    weights = scipy.linalg.eigh(products.T @ products / count, moved)[1].T if len(basis) else np.zeros((0, 0))
    inside = np.einsum("gb,bij->gij", weights, basis)
    inside /= np.linalg.norm(inside, axis=(1, 2), keepdims=True)
    inside = jnp.asarray(inside, terms.means.dtype)
    found = broken(held, inside)
    order = jnp.argsort(found.value)
    outside = jnp.einsum("iq,gqr,jr->gij", terms.span, inside[order], terms.span)
    return Generators(outside, jax.tree.map(lambda part: part[order], found))


def _part(terms: Terms, rows: slice) -> Terms:
    return terms._replace(products=terms.products[rows], means=terms.means[rows])
