r"""Whether two representations of the same data agree: by neighbours, and by inner products.

*Neighbourhood agreement* is the mean over data of the share of the k nearest neighbours, by Euclidean distance, that a
datum has in both; k / (n - 1) for unrelated ones.

*Linear CKA* is a cosine of the covariances: with C_ab the covariance of a and b,

    CKA = h_xy / sqrt(h_xx h_yy),        h_ab = |C_ab|^2 (Frobenius),                                              (1)

1 if one representation is a rotation and scaling of the other, 0 if no linear function of one is correlated with one
of the other. Of n data |C_ab|^2 is too large, and with it the CKA of wide representations. So h is the unbiased
estimate, with K = a a' and L = b b' whose diagonals are set to 0,

    h_ab = [tr K L + (1'K1)(1'L1) / ((n-1)(n-2)) - 2/(n-2) 1'K L1] / (n (n-3)),                                    (2)

which may be below 0. Its error follows from the rows

    CKA (1 + 2 u_xy - u_xx - u_yy),       u_ab = a' C_ab b / mean(a' C_ab b) - 1                                   (3)

of centred data (the delta method; a row moves |C|^2 by twice its own part).

Sources: (1) Kornblith, Norouzi, Lee & Hinton, arXiv:1905.00414; (2) Song, Smola, Gretton, Bedo & Borgwardt, JMLR 13
(2012) 1393; (3) is ours.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from hierarchical.arguments import Given, Whole, as_whole, as_widest

from ..estimate import Estimate, mean_estimate

First = Float[Array, "n p"]
Second = Float[Array, "n q"]


def linear_cka(first: Given, second: Given) -> Estimate:
    """CKA of two representations of the same data, equations (1) and (2).

    Args:
      first, second: (..., n, p) and (..., n, q), finite; leading axes broadcast.

    NaN where one of them is the same for all data.

    Raises:
      ValueError: if shapes do not fit, there are fewer than four data, or a known number is not finite.
    """
    return mean_estimate(jnp.moveaxis(_cka_rows(*_checked(first, second, 4)), -1, 0))


def neighbourhood_agreement(first: Given, second: Given, num_neighbours: Whole = 10) -> Estimate:
    """The share of nearest neighbours in common, in [0, 1].

    Its error takes the shares of different data as independent. Of neighbours at the same distance those that come
    first in the data are taken, in both: beliefs that many data share agree by that alone.

    Args:
      first, second: (..., n, p) and (..., n, q), finite; leading axes broadcast.
      num_neighbours: k, below n.

    Raises:
      ValueError: if shapes do not fit, k is not in 1 .. n - 1, or a known number is not finite.
    """
    x, y = _checked(first, second, 2)
    k = as_whole("num_neighbours", num_neighbours, 1)
    if k >= x.shape[-2]:
        raise ValueError(f"num_neighbours = {k} of {x.shape[-2]} data: give fewer")
    return mean_estimate(jnp.moveaxis(_shares(x, y, k), -1, 0))


@eqx.filter_jit
@functools.partial(jnp.vectorize, signature="(n,p),(n,q)->(n)")
def _cka_rows(x: First, y: Second) -> Float[Array, " n"]:
    """Equation (3): rows whose mean is the CKA."""
    x, y = (numbers - jnp.mean(numbers, 0, keepdims=True) for numbers in (x, y))
    moved = {"xy": (x, y), "xx": (x, x), "yy": (y, y)}
    unbiased = {name: _unbiased(*pair) for name, pair in moved.items()}
    rows = {name: jnp.sum((a @ (a.T @ b)) * b, 1) for name, (a, b) in moved.items()}
    changes = {name: row / jnp.mean(row) - 1 for name, row in rows.items()}
    cka = unbiased["xy"] / jnp.sqrt(unbiased["xx"] * unbiased["yy"])
    return cka * (1 + 2 * changes["xy"] - changes["xx"] - changes["yy"])


def _unbiased(x: First, y: Second) -> Float[Array, ""]:
    """Equation (2), from products of features: n x n matrices are not made."""
    n = len(x)
    x_sum, y_sum = x @ jnp.sum(x, 0) - jnp.sum(x**2, 1), y @ jnp.sum(y, 0) - jnp.sum(y**2, 1)  # K 1, L 1
    trace = jnp.sum((x.T @ y) ** 2) - jnp.sum(jnp.sum(x**2, 1) * jnp.sum(y**2, 1))
    both = jnp.sum(x_sum) * jnp.sum(y_sum) / ((n - 1) * (n - 2))
    return (trace + both - 2 / (n - 2) * jnp.sum(x_sum * y_sum)) / (n * (n - 3))


@eqx.filter_jit
def _shares(x: Float[Array, "*batch n p"], y: Float[Array, "*more n q"], k: int) -> Float[Array, "*all n"]:
    @functools.partial(jnp.vectorize, signature="(n,p),(n,q)->(n)")
    def shares(x: First, y: Second) -> Float[Array, " n"]:
        def share(i: Array) -> Float[Array, ""]:
            common = _nearest(x, i, k) & _nearest(y, i, k)
            return jnp.sum(common).astype(x.dtype) / k

        return jax.lax.map(share, jnp.arange(len(x)), batch_size=16)

    return shares(x, y)


def _nearest(x: First, i: Array, k: int) -> Bool[Array, " n"]:
    """Whether each row is among the k nearest of row i, itself not counted."""
    squares = jnp.sum((x - x[i][None]) ** 2, 1).at[i].set(jnp.inf)
    return jnp.zeros(len(x), bool).at[jax.lax.top_k(-squares, k)[1]].set(True)


def _checked(first: Given, second: Given, least: int) -> list[Float[Array, "..."]]:
    both = as_widest(first, second)
    if any(x.ndim < 2 or 0 in x.shape for x in both) or both[0].shape[-2] != both[1].shape[-2]:
        shapes = " and ".join(str(x.shape) for x in both)
        raise ValueError(f"representations of shapes {shapes}: give (..., n, width) of the same n data")
    if both[0].shape[-2] < least:
        raise ValueError(f"{both[0].shape[-2]} data: give at least {least}")
    if any(not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all() for x in both):
        raise ValueError("a representation holds NaN or infinite numbers: leave those data out")
    axes = max(x.ndim for x in both)
    return [jnp.expand_dims(x, range(axes - x.ndim)) for x in both]
