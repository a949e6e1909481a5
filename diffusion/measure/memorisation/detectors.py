r"""Detectors of memorisation, each a score of a datum, compared on members of the training set and on other data.

At noise s, with g the score of the denoiser, n uniform directions and R = s d^(1/2),

| detector          | its score, large = memorised                                    | passes for a datum            |
|-------------------|-----------------------------------------------------------------|-------------------------------|
| 1-Laplace         | -E g . n / abs(g)           at x + R n                          | 2 num_pairs scores, shared    |
| 2-Laplace         | -E g . n                    at x + R n                          | of the same                   |
| noise residual    | -E abs(d^(1/2) n + s g)^2   at x + R n                          | of the same                   |
| score norm        | -abs(g)                     at x                                | 1 score                       |
| FLIPD             | -(d + s^2 (tr dg/dx + abs(g)^2))  at x                          | d derivatives, or num_probes  |
| nearest neighbour | -(distance to the nearest of `data`) / (to the second nearest)  | none                          |

All directions are fixed in advance, never chosen from the data: an AUC below 1/2 is a detector that errs. 2-Laplace is
the antithetic trace of `dimension` with z on the sphere of radius d^(1/2): trace = d - s d^(1/2) (2-Laplace), so that
the two rank data alike; the noise residual is `dsm` there, likewise.

Sources: Brokman et al., arXiv:2505.08246 (1-Laplace); Kamkari et al., FLIPD (NeurIPS 2024); Yeats et al.,
arXiv:2510.12975 (noise residual, as a dimension).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole, as_widest

from ...denoise.denoiser import AbstractDenoiser
from ..dimension.pointwise import flipd
from ..estimate import Estimate
from ..field.local import LocalField, local_field
from .copies import nearest_two
from .p_laplace import directions, inward, sphere_radius
from .roc import check_rate, rates_with_errors


class Detector(eqx.Module):
    """A score of memorisation on both sets, and how well it tells them apart."""

    auc: Estimate
    true_positive_rate: Estimate
    """At the rate of false positives that was asked for."""
    members: Float[Array, " members"]
    """The score of each member, large = memorised."""
    others: Float[Array, " others"]


class Detection(eqx.Module):
    """Detectors by name, on the same data; its string is a table."""

    detectors: dict[str, Detector]
    rate: float = eqx.field(static=True)
    """Of false positives, for the true-positive rate."""

    def __getitem__(self, name: str) -> Detector:
        return self.detectors[name]

    def __str__(self) -> str:
        lines = [f"| detector | AUC | found at {self.rate:g} false positives |", "|---|---|---|"]
        for name, row in self.detectors.items():
            lines.append(f"| {name} | {_written(row.auc)} | {_written(row.true_positive_rate)} |")
        return "\n".join(lines)


def detect(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    members: Given,
    others: Given,
    t: Given,
    *,
    data: Given | None = None,
    num_pairs: Whole = 16,
    num_probes: Whole | None = None,
    rate: float | int = 0.01,
    num_resamples: Whole = 400,
) -> Detection:
    """Every detector of the table on members and on others, at one noise.

    Args:
      members: training data (n, *denoiser.shape).
      others: held-out data of the same law, (m, *denoiser.shape).
      t: one noise time in (0, max_time].
      data: where neighbours are searched, (N, *denoiser.shape), at least 2. In generated data they tell whether the
        model returns a datum; in the training set members have distance 0, AUC 1, whatever the model. None: no such
        detector.
      num_pairs, num_probes: scores and derivatives for each datum, see the table.
      rate: of false positives, for the true-positive rate.
      num_resamples: of the data, for errors.

    Raises:
      ValueError: as `local_field`, `flipd` and `nearest_two`; if a set holds fewer than two data or data of another
        shape, `t` is several numbers, or `rate` is not in [0, 1).
    """
    both, count = both_sets(denoiser, members, others)
    if np.ndim(t):
        raise ValueError(f"t has shape {np.shape(t)}: give one noise time, and call again for another")
    field, pairs, rate = local_field(denoiser, both, t), as_whole("num_pairs", num_pairs, 2), check_rate(rate)
    sphere_key, probe_key, error_key = jax.random.split(as_key(key), 3)
    scores = _on_sphere(sphere_key, field, pairs)
    scores["FLIPD"] = -flipd(probe_key, denoiser, both, t, num_probes=num_probes).value
    if data is not None:
        nearest, second = nearest_two(both, data)
        scores["nearest neighbour"] = -(nearest / second).astype(field.points.dtype)
    rows = jnp.stack(list(scores.values()))
    of_members, of_others = rows[:, :count], rows[:, count:]
    resamples = as_whole("num_resamples", num_resamples, 2)
    auc, found = rates_with_errors(error_key, of_members, of_others, rate, resamples)

    def detector(i: int) -> Detector:
        return Detector(_entry(auc, i), _entry(found, i), of_members[i], of_others[i])

    return Detection({name: detector(i) for i, name in enumerate(scores)}, rate)


def both_sets(denoiser: AbstractDenoiser, members: Given, others: Given) -> tuple[Float[Array, "both *datum"], int]:
    """Members and others in a row, and how many are members.

    Raises:
      ValueError: if a set holds fewer than two data, or data of another shape than the denoiser's.
    """
    sets = as_widest(members, others)
    for name, rows in zip(("members", "others"), sets, strict=True):
        if rows.shape[1:] != denoiser.shape or rows.ndim < 1 or len(rows) < 2:
            wanted = ", ".join(["n", *map(str, denoiser.shape)])
            raise ValueError(f"{name} have shape {rows.shape}: give ({wanted}), at least two data")
    return jnp.concatenate(sets), len(sets[0])


@eqx.filter_jit
def _on_sphere(key: Key[Array, ""], field: LocalField, num_pairs: int) -> dict[str, Float[Array, " points"]]:
    """The detectors that need scores only, by one set of passes."""
    points, radius = field.points, sphere_radius(field)
    one, two = jnp.ones((), points.dtype), jnp.full((), 2, points.dtype)

    def terms(key: Key[Array, ""]) -> Float[Array, "3 points"]:
        n = directions(key, points)
        total = jnp.zeros((3, len(points)), points.dtype)
        for sign in (1, -1):
            g = field.score(points + sign * radius * n)
            residual = sign * n * math.sqrt(points.shape[1]) + field.noise * g
            total += jnp.stack([inward(g, sign * n, one), inward(g, sign * n, two), -jnp.sum(residual**2, 1)]) / 2
        return total

    means = jnp.mean(field.over_draws(terms, jax.random.split(key, num_pairs)), 0)
    named = dict(zip(("1-Laplace", "2-Laplace", "noise residual"), means, strict=True))
    return named | {"score norm": -jnp.linalg.norm(field.score(points), axis=1)}


def _entry(rows: Estimate, i: int) -> Estimate:
    return Estimate(rows.value[i], rows.stderr[i])


def _written(number: Estimate) -> str:
    return f"{float(number.value):.3f} +- {float(number.stderr):.3f}"
