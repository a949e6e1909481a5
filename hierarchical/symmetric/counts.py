r"""Counting degrees of freedom, and the linear transformations that keep a set of data in its place.

The rank of df/du is the same at almost every parameter, and lower elsewhere: so the largest over random parameters is
the dimension of the set. A linear transformation exp(A) keeps the set in its place if A x is a tangent at every x,

    (1 - T T') A x = 0,        the columns of T an orthonormal basis of the range of df/du,                        (1)

which is linear in A: its solutions at many points are found by one eigenvalue problem. Derived here.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..arguments import AnyKey, Given, Whole, as_numbers, as_whole
from .law import AbstractSymmetric

RELATIVE = 2 / 3  # singular values below the largest times rounding to this power count as 0


def linear_rank(covariance: Given) -> int:
    """The rank of a covariance (d, d): its eigenvalues above rounding, which counts as 0.

    Raises:
      ValueError: if it is not a square matrix of finite numbers.
    """
    matrix = np.asarray(as_numbers(covariance))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"covariance of shape {matrix.shape}: give (d, d) finite numbers")
    return int(_rank(np.linalg.eigvalsh(matrix)))


def intrinsic_dimension(key: AnyKey, law: AbstractSymmetric, num_points: Whole = 64) -> int:
    """The rank of df/du, the largest over random parameters, by its singular values."""
    parameters = law.sample(key, (as_whole("num_points", num_points, 1),)).latent
    return int(_rank(np.linalg.svd(np.asarray(law.jacobian(parameters)), compute_uv=False)).max())


def tangent_generators(key: AnyKey, law: AbstractSymmetric, num_points: Whole | None = None) -> Float[Array, "g d d"]:
    """The linear transformations of equation (1): the generators that keep the set of the data in its place.

    Those that vanish on the data's linear span, or leave it, are left out: A = P A P, P the projector on the span of
    the data as they are, their mean not taken off.

    Args:
      num_points: at which (1) is asked; None: four for each number of A.

    Returns:
      Matrices orthonormal as vectors of d^2 numbers; none if the set has no such symmetry.
    """
    d = len(law.feature_names)
    count = as_whole("num_points", 4 * d**2 if num_points is None else num_points, 1)
    drawn = law.sample(key, (count,))
    x, jacobian = np.asarray(drawn.x, np.float64), np.asarray(law.jacobian(drawn.latent), np.float64)
    values, axes = np.linalg.eigh(x.T @ x / count)
    span = axes[:, d - _rank(values) :]
    across = _across(span.T @ jacobian)
    inside = x @ span
    q = inside.shape[1]
    equations = np.einsum("nij,nk->nijk", across, inside).reshape(-1, q**2)
    values, vectors = np.linalg.eigh(equations.T @ equations / count)
    size = values[::-1].clip(0) ** 0.5 / np.mean(inside**2) ** 0.5  # of the part of A x across the set
    free = vectors[:, : np.sum(size < np.finfo(np.float64).eps ** (RELATIVE / 2))].T.reshape(-1, q, q)
    return jnp.asarray(np.einsum("iq,gqr,jr->gij", span, free, span))


def _rank(values: np.ndarray) -> Int[np.ndarray, "..."]:
    """How many of the last axis are above rounding."""
    size = np.abs(values)
    largest = size.max(-1, keepdims=True)
    return np.asarray(np.sum(size > largest * np.finfo(values.dtype).eps ** RELATIVE, -1))


def _across(jacobian: np.ndarray) -> np.ndarray:
    """The projectors across the range of each Jacobian (n, q, p)."""
    left, size, _ = np.linalg.svd(jacobian, full_matrices=False)
    kept = size > size[:, :1] * np.finfo(np.float64).eps ** RELATIVE
    tangent = left * kept[:, None]
    return np.eye(jacobian.shape[1]) - tangent @ tangent.transpose(0, 2, 1)
