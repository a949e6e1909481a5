r"""How evenly data use the dimensions that they have, from the eigenvalues of their covariance.

With p_1 >= p_2 >= .. the eigenvalues in D dimensions, divided by their sum, and S_k = p_1 + .. + p_k,

    early enrichment       EEE = (2/D) sum_k (S_k - k/D),       0 for a ball, 1 - 1/D for a line,                  (1)
    participation ratio    1 / sum_k p_k^2,                     D for a ball, 1 for a line,                        (2)
    effective rank         exp(-sum_k p_k ln p_k),              the same.                                          (3)

The eigenvalue of axis v_k is the mean of (v_k . x)^2 of centred data. So a function f of eigenvalues has, to first
order, the error of the rows

    f + sum_k df/d lambda_k ((v_k . x)^2 - lambda_k).                                                              (4)

Of n data the eigenvalues are spread by about sqrt(D/n), which makes all three less even than the law's: take n >> D.

Sources: (1) Marbut, McKinney-Bock & Wheeler, arXiv:2212.08172; (3) Roy & Vetterli, EUSIPCO 2007; (4) is ours.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical.arguments import Given, as_numbers

from ..estimate import Estimate, mean_estimate


def early_enrichment(states: Given) -> Estimate:
    """EEE, equation (1), of data (..., n, D); one for each place of leading axes. Large where few axes hold most.

    NaN, as of the other two, where all data are the same.

    Raises:
      ValueError: if there are fewer than two data, or a known number is not finite.
    """
    return _of_spectrum(states, _enrichment)


def participation_ratio(states: Given) -> Estimate:
    """The number of dimensions, equation (2). Args and errors as of `early_enrichment`."""
    return _of_spectrum(states, _participation)


def effective_rank(states: Given) -> Estimate:
    """The number of dimensions by entropy, equation (3), at least that of (2). As of `early_enrichment`."""
    return _of_spectrum(states, _exp_entropy)


def _enrichment(values: Float[Array, " D"]) -> Float[Array, ""]:
    size, shares = len(values), values[::-1] / jnp.sum(values)
    return 2 / size * jnp.sum(jnp.cumsum(shares) - jnp.arange(1, size + 1, dtype=values.dtype) / size)


def _participation(values: Float[Array, " D"]) -> Float[Array, ""]:
    return jnp.sum(values) ** 2 / jnp.sum(values**2)


def _exp_entropy(values: Float[Array, " D"]) -> Float[Array, ""]:
    shares = values / jnp.sum(values)
    inside = jnp.where(shares > 0, shares, 1.0)  # 0 ln 0 is 0, and so is what it adds to (4)
    return jnp.exp(-jnp.sum(inside * jnp.log(inside)))


def _of_spectrum(states: Given, of: Callable[[Float[Array, " D"]], Float[Array, ""]]) -> Estimate:
    x = as_numbers(states)
    if x.ndim < 2 or x.shape[-2] < 2 or 0 in x.shape:
        raise ValueError(f"states have shape {x.shape}: give (..., n, width), at least two data")
    if not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all():
        raise ValueError("the states hold NaN or infinite numbers: leave those data out")
    return mean_estimate(jnp.moveaxis(_rows(x, of), -1, 0))


@eqx.filter_jit
def _rows(x: Float[Array, "*batch n D"], of: Callable) -> Float[Array, "*batch n"]:
    """Equation (4): rows whose mean is the value."""

    def rows(x: Float[Array, "n D"]) -> Float[Array, " n"]:
        inside = x - jnp.mean(x, 0, keepdims=True)
        values, axes = jnp.linalg.eigh(inside.T @ inside / len(x))
        squares = (inside @ axes) ** 2
        values = jnp.mean(squares, 0)  # the eigenvalues, none below 0
        value, slope = jax.value_and_grad(of)(values)
        return value + (squares - values[None]) @ slope

    return jnp.vectorize(rows, signature="(n,d)->(n)")(x)
