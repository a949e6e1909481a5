r"""Ratios and logarithms of modified Bessel functions I_nu, of any order and any argument, without overflow.

What a uniform law on a sphere needs. The ratio A_nu(x) = I_{nu+1}(x) / I_nu(x) obeys

    A_nu(x) = x / (2 (nu + 1) + x A_{nu+1}(x)),                                                                    (1)

downward, where every step multiplies an error by A^2 < 1. It begins at an order N that is so large that the uniform
expansion (DLMF 10.41.3) is precise for all x: with S = (N^2 + x^2)^(1/2) and t = N / S,

    ln I_N(x) = S - N asinh(N / x) - ln(2 pi S) / 2 + ln sum_k u_k(t) / N^k.                                       (2)

Steps (1) add up to the logarithm of the lower order: with F_nu(x) = ln[ Gamma(nu + 1) (2 / x)^nu I_nu(x) ], which is 0
at x = 0 and grows as x,

    F_nu = F_{nu+1} + ln(1 + x A_{nu+1} / (2 (nu + 1))).                                                           (3)
"""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TERMS = 8  # u_0 .. u_8 of equation (2)
LEAST_ORDER, STEPS = 48, 16  # the expansion begins at this order or above, and so many steps above nu


def bessel_ratio(order: float, x: Float[Array, "*batch"]) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """A_nu(x) and A_nu(x) / x, the latter finite at x = 0, where it is 1 / (2 (nu + 1)); x >= 0."""
    above = _ratios_above(order, x)[0]
    share = 1 / (2 * (order + 1) + x * above)
    return x * share, share


def log_bessel(order: float, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """F_nu(x) of equation (3): ln of I_nu over the first term of its power series; x >= 0."""
    above = _ratios_above(order, x)  # A of orders nu + 1 .. N
    orders = order + jnp.arange(len(above), dtype=x.dtype).reshape(-1, *(1,) * x.ndim)
    steps = jnp.sum(jnp.log1p(x[None] * above / (2 * (orders + 1))), 0)
    return _log_of_high_order(order + len(above), x) + steps


def _ratios_above(order: float, x: Float[Array, "*batch"]) -> Float[Array, "steps *batch"]:
    """A of the orders nu + 1, nu + 2, .. N."""
    steps = max(STEPS, math.ceil(LEAST_ORDER - order))
    first = _ratio_of_high_order(order + steps, x)

    def down(above, at):
        ratio = x / (2 * (at + 1) + x * above)
        return ratio, ratio

    orders = order + jnp.arange(steps - 1, 0, -1, dtype=x.dtype)
    _, below = jax.lax.scan(down, first, orders)  # A of nu + steps - 1 .. nu + 1
    return jnp.concatenate([below[::-1], first[None]])


def _ratio_of_high_order(order: float, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """exp of the difference of (2) at N + 1 and N; the large parts are subtracted by hand."""
    tiny = jnp.finfo(x.dtype).tiny
    x = jnp.maximum(x, tiny ** (1 / 4))
    s, t = jnp.hypot(order, x), jnp.hypot(order + 1, x)
    exponent = (2 * order + 1) / (s + t)
    exponent -= (order + 1) * jnp.arcsinh((order + 1) / x) - order * jnp.arcsinh(order / x)
    return jnp.exp(exponent) * jnp.sqrt(s / t) * _series(order + 1, x) / _series(order, x)


def _log_of_high_order(order: float, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """F_N by equation (2): its value at 0 is subtracted, so that it vanishes there."""
    s = jnp.hypot(order, x)
    grown = x**2 / (order + s)  # S - N
    value = grown - order * jnp.log1p(grown / (2 * order)) - jnp.log1p(grown / order) / 2
    return value + jnp.log(_series(order, x) / _series(order, jnp.zeros_like(x)))


def _series(order: float, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    t, total = order / jnp.hypot(order, x), jnp.ones_like(x)
    for k, coefficients in enumerate(_polynomials()[1:], 1):
        total += jnp.polyval(jnp.asarray(coefficients / order**k, x.dtype), t)
    return total


@functools.cache
def _polynomials() -> list[np.ndarray]:
    """u_k(t), highest power first: u_{k+1} = t^2 (1 - t^2) u_k' / 2 + (1/8) int_0^t (1 - 5 s^2) u_k(s) ds."""
    u, result = [Fraction(1)], []
    for _ in range(TERMS + 1):
        result.append(np.array([float(c) for c in reversed(u)]))
        new = [Fraction(0)] * (len(u) + 3)
        for power, c in enumerate(u):
            for shift, factor in ((1, Fraction(power, 2)), (3, -Fraction(power, 2))):
                new[power + shift] += factor * c
            new[power + 1] += c / (8 * (power + 1))
            new[power + 3] -= 5 * c / (8 * (power + 3))
        u = new
    return result
