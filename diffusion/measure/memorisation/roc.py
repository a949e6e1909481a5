r"""How well a score tells members of a training set from other data, large scores meaning members.

With scores a of n members and b of m others,

    AUC  = P(a > b) + P(a = b) / 2,       over all n m pairs (Mann & Whitney),                                     (1)
    TPR  = P(a > c),  c the smallest of the b that at most a fraction `rate` of the others exceeds.                (2)

(1) is 1/2 for a score that knows nothing, whatever its scale. (2) is what matters where few of many data are members:
it asks for members that almost nothing else resembles (Carlini et al., arXiv:2112.03570). Errors are spreads over
members and others drawn again, each among themselves; they vanish where the two do not overlap.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hierarchical.arguments import Given, as_widest

from ..estimate import Estimate, spread_of_resamples

Members = Float[Array, " members"]
Others = Float[Array, " others"]


def auc(members: Given, others: Given) -> Float[Array, "*batch"]:
    """Equation (1), the area under the curve of true against false positives; NaN where a score is NaN.

    Args:
      members, others: scores (..., n) and (..., m), of the same batch axes.

    Raises:
      ValueError: if there are no scores, or batch axes differ.
    """
    return jnp.vectorize(_area, signature="(n),(m)->()")(*_scores(members, others))


def true_positive_rate(members: Given, others: Given, rate: float | int = 0.01) -> Float[Array, "*batch"]:
    """Equation (2), the part of the members that is found when at most `rate` of the others are taken for members.

    Args:
      members, others: as of `auc`.
      rate: of false positives, in [0, 1); with fewer than 1 / rate others, none may be one.

    Raises:
      ValueError: as `auc`, or if `rate` is not in [0, 1).
    """
    found = functools.partial(_found, rate=check_rate(rate))
    return jnp.vectorize(found, signature="(n),(m)->()")(*_scores(members, others))


def check_rate(rate: float | int) -> float:
    """A rate of false positives.

    Raises:
      ValueError: if it is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate = {rate}: give a rate of false positives in [0, 1)")
    return float(rate)


@eqx.filter_jit
def rates_with_errors(
    key: Key[Array, ""],
    members: Float[Array, "scores members"],
    others: Float[Array, "scores others"],
    rate: float,
    num_resamples: int,
) -> tuple[Estimate, Estimate]:
    """(1) and (2) of several scores of the same data, with errors; the same data are drawn again for all scores."""

    def rates(members: Float[Array, "scores members"], others: Float[Array, "scores others"]):
        return jax.vmap(_area)(members, others), jax.vmap(functools.partial(_found, rate=rate))(members, others)

    def again(key: Key[Array, ""]):
        member_key, other_key = jax.random.split(key)
        return rates(_drawn_again(member_key, members), _drawn_again(other_key, others))

    resampled = jax.lax.map(again, jax.random.split(key, num_resamples))
    rows = min(members.shape[1], others.shape[1])
    value, spread = rates(members, others), [spread_of_resamples(drawn, rows) for drawn in resampled]
    return Estimate(value[0], spread[0]), Estimate(value[1], spread[1])


def _area(members: Members, others: Others) -> Float[Array, ""]:
    """Of each member, how many others are below, and how many are not above."""
    ordered = jnp.sort(others)
    below = jnp.searchsorted(ordered, members, side="left") + jnp.searchsorted(ordered, members, side="right")
    return _known(members, others, jnp.mean(below.astype(members.dtype)) / (2 * len(others)))


def _found(members: Members, others: Others, *, rate: float) -> Float[Array, ""]:
    allowed = math.floor(rate * len(others) + 1e-9)  # .29 * 100 is 28.999..
    cut = jnp.sort(others)[len(others) - 1 - allowed]
    return _known(members, others, jnp.mean((members > cut).astype(members.dtype)))


def _known(members: Members, others: Others, value: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(jnp.any(jnp.isnan(members)) | jnp.any(jnp.isnan(others)), jnp.nan, value)


def _drawn_again(key: Key[Array, ""], scores: Float[Array, "scores data"]) -> Float[Array, "scores data"]:
    data = scores.shape[1]
    return scores[:, jax.random.randint(key, (data,), 0, data)]


def _scores(members: Given, others: Given) -> list[Float[Array, "..."]]:
    one, other = as_widest(members, others)
    if not one.ndim or not other.ndim or 0 in (*one.shape, *other.shape) or one.shape[:-1] != other.shape[:-1]:
        raise ValueError(f"scores have shapes {one.shape} and {other.shape}: give (..., n) and (..., m), at least one")
    return [one, other]
