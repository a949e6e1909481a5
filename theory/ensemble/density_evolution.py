r"""Density evolution: the law of upward messages in an infinitely deep hierarchy under a true noise channel.

Mean field follows one number per level; under a channel (masks, uniform noise, Gaussian noise) the messages are random
and their law is broad, so the law itself must be followed. A node's upward message is, for fresh random rules,

    u(y) = sum over rules (y -> x_1 .. x_s) of prod_i u_i(x_i) / (the same summed over y),                        (1)

with u_1 .. u_s independent messages of the level below, given their true symbols; leaves have u(x) ~ q(x_t | x). The
law of (1) is represented by a population of messages, each relabelled so that its truth is symbol 0. Its mean belief in
the truth, E u(0), is the overlap. "Deep hierarchy, fresh rules" is the *annealed* ensemble: rules are drawn anew at
every node. A given grammar shares one rule table per level among all its nodes and has a threshold of its own, which
does not average out with depth: at (8, 3, 2) under masks .449 +- .002 with a scatter of .02 to .03 between grammars,
where the annealed one is .438. `quenched` follows a given grammar. `population` does one level of (1).

The threshold. 1 (class certain) and 1/v (class lost) attract; their linear stability is that of mean field, because the
first moment is exact there (`mean_field.transition_exists`). Between them a departure from the critical law grows by a
factor lambda > 1 per level, so the curve steepens as lambda^L and its crossing of 1/2, or of any other level between,
converges to t* as lambda^-L. A finite population of N members drifts at random by O(N^-1/2) per level, which is then
amplified in the same way: near t* it tips either way, and its crossing sits O(N^-1/2) off t*. Hence the estimator:
each of several independent populations has its own crossing, found by refining the grid with that population's random
numbers frozen; the estimate is their mean, and its standard error comes from their spread and from the width of the
last cell (over the square root of 12), which they may all share. A bias of O(1/N) and the finite number of levels are
not in that error: double `population` or `levels` to see them.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion.measure import Estimate, mean_estimate
from diffusion.noise.process import AbstractTokenProcess
from hierarchical.arguments import AnyKey, as_key

from ..domain import Grid, grid
from . import mean_field
from .crossing_search import check_search, search_crossings
from .population import draw_ancestry, evolve
from .sizes import takes_sizes


class CriticalNoise(eqx.Module):
    """A threshold with what is needed to judge it.

    `crossings` holds each population's own threshold, located to within `resolution` / 2; `value` is their mean and
    `stderr` its standard error. `overlaps` are E u(0) at `noise_times` after `levels` levels, per population, times
    increasing: wide at first, dense around the crossing.
    """

    value: Float[Array, ""]
    stderr: Float[Array, ""]
    crossings: Float[Array, " replicas"]
    noise_times: Float[Array, "replicas points"]
    overlaps: Float[Array, "replicas points"]
    resolution: float
    levels: int = eqx.field(static=True)
    population: int = eqx.field(static=True)
    rule_sets: int = eqx.field(static=True)


@takes_sizes
def critical_noise(
    key: AnyKey,
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    *,
    levels: int | None = None,
    population: int = 4096,
    rule_sets: int = 64,
    replicas: int = 8,
    points: int = 8,
    refinements: int = 4,
) -> CriticalNoise:
    """Noise time t* above which a channel destroys the class of an infinitely deep hierarchy: overlap crosses 1/2.

    t is the process's own time: the masked or replaced fraction (keep-probability a* = 1 - t*), or OU time with
    signal-to-noise ratio 1 / (e^{2 t*} - 1).

    Args:
      levels: depth that stands for infinity; by default a departure from criticality would grow a thousandfold by the
        mean-field slope F'(p*), e.g. 19 levels at (32, 8, 2) and 72 at (8, 2, 2). Through a channel it grows less, at
        (32, 8, 2) under masks a hundredfold (`growth_per_level`).
      replicas: independent populations, at least 2.
      points, refinements: each population's crossing is located to a cell of `max_time` / (points + 1)^refinements.
    Raises:
      ValueError: if a size is too small or does not fit the others, if the grammar is impossible, or if `levels` is not
        given and the grammar has no transition. (With `levels` given such a grammar is measured all the same: t* comes
        out at 0 or at `max_time`, to within the resolution and the finite number of levels.)

    Time and memory are those of `overlap` with `points` noise times, times replicas * refinements for the time.
    """
    check_search(replicas, points, refinements)
    grammar = (num_symbols, num_synonyms, branching)
    levels = _deep(*grammar) if levels is None else levels
    _check(*grammar, process, levels, population, rule_sets)

    def curve_of(key):
        leaves_key, levels_key = jax.random.split(key)
        ancestry = draw_ancestry(levels_key, *grammar, levels, population, rule_sets)
        return lambda times: evolve(jax.random.clone(leaves_key), ancestry, process, times)[-1]

    search = search_crossings(jax.random.split(as_key(key), replicas), curve_of, process.max_time, points, refinements)
    return CriticalNoise(**search._asdict(), levels=levels, population=population, rule_sets=rule_sets)


@takes_sizes
def overlap(
    key: AnyKey,
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    noise_times: Grid,
    depth: int,
    population: int = 4096,
    rule_sets: int = 64,
) -> Float[Array, "levels *times"]:
    """Mean belief in the true symbol, E u(0), of a node with 0 .. depth levels of rules below it: leaves first.

    The last row is the class overlap of a hierarchy of that depth with as many classes as symbols. `noise_times`, one
    or an array, lie in [0, max_time], above 0 for Gaussian noise; the computation has their dtype. Inside jit others
    give NaN.

    Raises:
      ValueError: if the grammar is impossible, the process has another alphabet, depth < 0, `rule_sets` does not
        divide `population`, or a time lies outside its range.

    Time is about population * times * v m per level, memory (s + 2) * population * v * times numbers. One population
    has one error, common to all times: average over keys.
    """
    grammar = (num_symbols, num_synonyms, branching)
    _check(*grammar, process, depth, population, rule_sets)
    times = grid("noise_times", noise_times, 0, process.max_time)
    leaves_key, levels_key = jax.random.split(as_key(key))
    ancestry = draw_ancestry(levels_key, *grammar, depth, population, rule_sets)
    return evolve(leaves_key, ancestry, process, times.reshape(-1)).reshape(-1, *times.shape)


@takes_sizes
def growth_per_level(
    key: AnyKey,
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    noise_time: float,
    *,
    levels: tuple[int, int] = (3, 9),
    step: float = 0.005,
    population: int = 16384,
    rule_sets: int = 256,
    replicas: int = 8,
) -> Estimate:
    """Factor by which the slope of the overlap against t grows per level at the threshold t*: lambda of this channel.

    The slope of each level is a difference quotient of two curves with the same random numbers; lambda is the geometric
    mean of its growth from the first to the last of `levels`. Exponents follow: nu = ln s / ln lambda, and the
    susceptibility diverges with the depth only if lambda > sqrt(s), as in `pair_correlation` with F'(p*) for lambda.
    Above t* by more than lambda^-levels the growth is no longer that of the threshold: `noise_time` must be close to
    it.

    Args:
      noise_time: t*, as from `critical_noise`.
      levels: levels above the leaves, between which growth is measured.
      step: t* +- step are compared.
    Returns:
      lambda, with the standard error of the mean over independent populations; that of t* is not in it.
    Raises:
      ValueError: as in `overlap`, and if levels are not increasing.
    """
    first, last = levels
    if not 0 <= first < last:
        raise ValueError(f"levels = {levels}: give two, increasing")
    times = jnp.array([noise_time - step, noise_time + step])
    grammar = (num_symbols, num_synonyms, branching)

    def growth(key):
        drop = -jnp.diff(overlap(key, *grammar, process, times, last, population, rule_sets), axis=1)[:, 0]
        return (drop[last] / drop[first]) ** (1 / (last - first))

    return mean_estimate(jnp.stack([growth(k) for k in jax.random.split(as_key(key), replicas)]))


def _check(
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    depth: int,
    population: int,
    rule_sets: int,
) -> None:
    if process.num_symbols != num_symbols:
        raise ValueError(f"the process noises {process.num_symbols} symbols, the grammar has {num_symbols}")
    if depth < 0:
        raise ValueError(f"depth = {depth}: give 0 or more levels of rules")
    if rule_sets < 1 or population < 1 or population % rule_sets:
        raise ValueError(f"population = {population} is not a positive multiple of rule_sets = {rule_sets}")


def _deep(num_symbols: int, num_synonyms: int, branching: int) -> int:
    """Levels after which a departure from the mean-field fixed point has grown a thousandfold."""
    grammar = (num_symbols, num_synonyms, branching)
    slope = mean_field.up_slope(mean_field.fixed_point(*grammar), *grammar)
    return math.ceil(math.log(1000) / math.log(slope))
