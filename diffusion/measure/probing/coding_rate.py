r"""How many nats a representation takes at a given precision, and how many it saves by knowing the class.

The rate that codes n vectors in d dimensions up to a mean squared error eps^2 is, for Gaussian data,

    R(Z) = 1/2 ln det(I + d/(n eps^2) Z'Z)      nats per datum,                                                    (1)

and with Z_k the n_k vectors of class k the *rate reduction*

    dR = R(Z) - sum_k (n_k/n) R(Z_k)                                                                               (2)

is large for a representation that fills many dimensions as a whole and few with each class. For K classes of equal
size, each a standard Gaussian in q dimensions of its own, and many data,

    dR = (K q / 2) ln(1 + d/(eps^2 K)) - (q / 2) ln(1 + d/eps^2).                                                  (3)

Vectors are not centred: take their mean off first where it carries nothing. As a function of the mean M = Z'Z/n the
error of R is that of the rows R + (c/2) (z' A z - tr A M), A = (I + c M)^-1, c = d/eps^2 (the delta method). Of n data
R is too small by about d^2/(4 n) nats where c is large: take n >> d.

Source: Yu, Chan, You, Song & Ma, arXiv:2006.08558; (3) follows from (1) and (2).
"""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from hierarchical.arguments import Given, as_numbers, as_symbols, as_whole

from ..estimate import Estimate, mean_estimate


def coding_rate(states: Given, epsilon: Given = 0.5) -> Estimate:
    """R, equation (1), nats, of data (..., n, d); one for each place of leading axes.

    Args:
      epsilon: the root of the mean squared error of a vector, positive, in the unit of the states; one number.

    Raises:
      ValueError: if there are fewer than two data, a known number is not finite, or epsilon is not one positive number.
    """
    x, precision = _checked(states, epsilon)
    return mean_estimate(jnp.moveaxis(_rows(x, precision, jnp.ones(x.shape[-2:-1], x.dtype)), -1, 0))


def rate_reduction(states: Given, labels: Given, num_classes: int | np.integer, epsilon: Given = 0.5) -> Estimate:
    """dR, equation (2), nats, of data (..., n, d) with the classes (n,) that they belong to.

    A class without data counts nothing. Args and errors as of `coding_rate`; the shares n_k/n are taken as known.

    Raises:
      ValueError: as `coding_rate`, or if the labels are not n classes 0 .. num_classes - 1.
    """
    x, precision = _checked(states, epsilon)
    classes = as_whole("num_classes", num_classes, 1)
    known = as_symbols(labels, classes, "labels")
    if known.shape != x.shape[-2:-1]:
        raise ValueError(f"labels have shape {known.shape}, states {x.shape}: give one label for each of the n data")
    return mean_estimate(jnp.moveaxis(_reduction(x, precision, known, classes), -1, 0))


@eqx.filter_jit
def _rows(
    x: Float[Array, "*batch n d"], epsilon: Float[Array, ""], inside: Float[Array, " n"]
) -> Float[Array, "*batch n"]:
    """Rows whose mean is R of the data that are `inside` (1, others 0) times the share of these."""

    @functools.partial(jnp.vectorize, signature="(n,d),(n)->(n)")
    def rows(z: Float[Array, "n d"], inside: Float[Array, " n"]) -> Float[Array, " n"]:
        count = jnp.maximum(jnp.sum(inside), 1)
        c, z = z.shape[1] / epsilon**2, z * inside[:, None]
        mean = z.T @ z / count
        whole = jnp.eye(z.shape[1], dtype=z.dtype) + c * mean
        rate = jnp.linalg.slogdet(whole)[1] / 2
        moved = jnp.sum(z * jnp.linalg.solve(whole, z.T).T, 1)  # z' A z
        return inside * (rate + c / 2 * (moved - jnp.sum(moved) / count))

    return rows(x, jnp.broadcast_to(inside, x.shape[:-1]))


@eqx.filter_jit
def _reduction(x: Float[Array, "*batch n d"], epsilon: Array, labels: Int[Array, " n"], classes: int) -> Array:
    whole = _rows(x, epsilon, jnp.ones(len(labels), x.dtype))
    return whole - sum(_rows(x, epsilon, (labels == k).astype(x.dtype)) for k in range(classes))


def _checked(states: Given, epsilon: Given) -> tuple[Float[Array, "*batch n d"], Float[Array, ""]]:
    x = as_numbers(states)
    precision = as_numbers(epsilon, x.dtype)
    if x.ndim < 2 or x.shape[-2] < 2 or 0 in x.shape:
        raise ValueError(f"states have shape {x.shape}: give (..., n, width), at least two data")
    if not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all():
        raise ValueError("the states hold NaN or infinite numbers: leave those data out")
    if precision.ndim or (not isinstance(precision, Tracer) and not 0 < float(precision) < float("inf")):
        raise ValueError(f"epsilon = {epsilon}: give one positive number")
    return x, precision
