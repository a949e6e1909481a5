r"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors.

With Q an orthonormal basis of a space, the eigenpairs (theta, y) of Q' A Q give the best that the space holds,

    A u = theta u + r,      u = Q y,      r orthogonal to the space                     (Rayleigh-Ritz),            (1)

and |r| bounds how far the nearest eigenvalue is from theta; for the largest, theta errs by |r|^2 over the gap to the
next. The space is that of random vectors Z and what A makes of them, Z, A Z, A^2 Z, .. (block Lanczos): it finds the
largest eigenvalues long before they separate in a power of A, and as many equal ones as Z has columns. Each block is
made orthogonal to all before it, twice, so that rounding does not bring back what is there. Where A leads nowhere new,
the block becomes an arbitrary one. Source: Saad, Numerical Methods for Large Eigenvalue Problems, 2011.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Times = Callable[[Float[Array, "d columns"]], Float[Array, "d columns"]]


class RitzPairs(NamedTuple):
    """Approximate eigenpairs, equation (1), the largest value first."""

    values: Float[Array, " pairs"]
    vectors: Float[Array, "d pairs"]
    residuals: Float[Array, " pairs"]
    """|A u - theta u|."""


def ritz_pairs(basis: Float[Array, "d q"], image: Float[Array, "d q"], num_pairs: int) -> RitzPairs:
    """Equation (1), of orthonormal columns and what A makes of them."""
    values, small = jnp.linalg.eigh(compressed(basis, image))
    values, small = values[::-1][:num_pairs], small[:, ::-1][:, :num_pairs]
    vectors = jnp.matmul(basis, small, precision="highest")
    rest = jnp.matmul(image, small, precision="highest") - values[None] * vectors
    return RitzPairs(values, vectors, jnp.linalg.norm(rest, axis=0))


def compressed(basis: Float[Array, "*batch d q"], image: Float[Array, "*batch d q"]) -> Float[Array, "*batch q q"]:
    """Q' A Q, made symmetric."""
    small = jnp.einsum("...dq,...dp->...qp", basis, image, precision="highest")
    return (small + jnp.swapaxes(small, -1, -2)) / 2


def lanczos(
    times: Times, start: Float[Array, "d block"], num_blocks: int
) -> tuple[Float[Array, "d q"], Float[Array, "d q"]]:
    """An orthonormal basis of Z, A Z, .., q = block num_blocks columns, at most d, and what A makes of it."""
    d, block = start.shape
    nothing = jnp.zeros((d, block * num_blocks), start.dtype)

    def step(number, state):
        basis, image, ahead = state
        new = _orthonormal(basis, ahead)
        ahead, place = times(new), (0, number * block)
        return (
            jax.lax.dynamic_update_slice(basis, new, place),
            jax.lax.dynamic_update_slice(image, ahead, place),
            ahead,
        )

    basis, image, _ = jax.lax.fori_loop(0, num_blocks, step, (nothing, nothing, start))
    return basis, image


def _orthonormal(basis: Float[Array, "d q"], block: Float[Array, "d block"]) -> Float[Array, "d block"]:
    """Orthonormal columns for a block's part across the basis, whose columns not yet there are 0."""
    for _ in range(2):
        along = jnp.matmul(basis.T, block, precision="highest")
        block = jnp.linalg.qr(block - jnp.matmul(basis, along, precision="highest"))[0]
    return block
