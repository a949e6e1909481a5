r"""Density evolution: the law of upward messages in an infinitely deep hierarchy under a true noise channel.

Mean field follows one number per level; under a channel (masks, uniform noise, Gaussian noise) the messages are random
and their law is broad, so the law itself must be followed. A node's upward message is, for fresh random rules,

    u(y) = sum over rules (y -> x_1 .. x_s) of prod_i u_i(x_i) / (the same summed over y),                        (1)

with u_1 .. u_s independent messages of the level below, given their true symbols; leaves have u(x) ~ q(x_t | x). The
law of (1) is represented by a population of messages, each relabelled so that its truth is symbol 0. Its mean belief in
the truth, E u(0), is the overlap. "Deep hierarchy, fresh rules" is the *annealed* ensemble: rules are drawn anew at
every node. A given grammar shares one rule table per level among all its nodes and has a threshold of its own, which
does not average out with depth: at (8, 3, 2) under masks .449 +- .002 with a scatter of .02 to .03 between grammars,
where the annealed one is .438. `quenched` follows a given grammar.

One update, and why it is unbiased. Rule tables are drawn exactly from the model: v m distinct tuples, uniformly without
replacement, dealt to the parents. Members of the new population share `rule_sets` tables, but each picks its own true
rule (y, x_1 .. x_s) uniformly in its table and its own children, relabelled 0 -> x_i (and y -> 0 afterwards) by a
cyclic shift. Given its true tuple a table is uniform over all tables that hold it, whatever the other symbols are
called: so each member alone has exactly the law (1), the population's expected update is that of infinitely many, and
sharing costs only correlation between members, an error of order 1 / rule_sets. Re-drawing the truth matters: with one
truth per table the spread of thresholds is several times larger at equal cost. Each old member is used once at each
child position.

Leaves are the largest source of noise (the realised masked fraction shifts the threshold one to one), so the population
of leaves is every 8th of a pool sorted by belief in the truth, from a random start: also unbiased.

Common random numbers. All times share rules, parentage and the channel's random numbers, so a population has one
smooth, practically decreasing curve of overlap against t, at every level. Rules and parentage are drawn once for all
times, `Ancestry`, since drawing them costs more than a level of (1).

The threshold. 1 (class certain) and 1/v (class lost) attract; their linear stability is that of mean field, because the
first moment is exact there (`mean_field.transition_exists`). Between them a departure from the critical law grows by a
factor lambda > 1 per level, so the curve steepens as lambda^L and its crossing of 1/2, or of any other level between,
converges to t* as lambda^-L. A finite population of N members drifts at random by O(N^-1/2) per level, which is then
amplified in the same way: near t* it tips either way, and its crossing sits O(N^-1/2) off t*. Hence the estimator:
each of several independent populations has its own crossing, found by refining the grid with that population's random
numbers frozen; the estimate is their mean, and its standard error comes from their spread and from the width of the
last cell (over the square root of 12), which they may all share. A bias of O(1/N) and the finite number of levels are
not in that error: double `population` or `levels` to see them.

Precision. Messages are normalised probabilities and (1) needs no logarithms: a channel's beliefs are calibrated, so the
true tuple has weight below delta with probability at most v^s delta and the normaliser does not underflow.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffusion.measure import Estimate, mean_estimate
from diffusion.noise.process import AbstractTokenProcess
from hierarchical import draw_rules

from ..domain import inside
from . import mean_field

_LEAF_POOL = 8  # leaves drawn per leaf kept


class Ancestry(eqx.Module):
    """What a population's levels are made of, whatever the noise: drawn once, and used for all times."""

    rules: Int[Array, "*levels sets v m s"]
    true_rule: Int[Array, "*levels sets members"]
    """In a table read as a list of v * m rules."""
    member: Int[Array, "*levels s population"]
    """Which of the level below is the child at each position; a permutation."""


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


def critical_noise(
    key: Key[Array, ""],
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
    if min(replicas - 1, points, refinements) < 1:
        raise ValueError(
            f"replicas, points, refinements = {replicas, points, refinements}: need at least 2 replicas for a standard "
            "error, 1 point and 1 refinement"
        )
    grammar = (num_symbols, num_synonyms, branching)
    if levels is None:
        levels = _deep(*grammar)

    _check(*grammar, process, levels, population, rule_sets)

    def search(key):
        leaves_key, levels_key = jax.random.split(key)
        ancestry = draw_ancestry(levels_key, *grammar, levels, population, rule_sets)

        def curve(times):
            return evolve(jax.random.clone(leaves_key), ancestry, process, times)[-1]

        return refined_crossing(curve, process.max_time, points, refinements)

    searches = [search(k) for k in jax.random.split(key, replicas)]
    crossings, noise_times, overlaps = map(jnp.stack, zip(*searches, strict=True))
    resolution = process.max_time / (points + 1) ** refinements
    return CriticalNoise(
        value=crossings.mean(),
        stderr=jnp.sqrt(crossings.var(ddof=1) / replicas + resolution**2 / 12),
        crossings=crossings,
        noise_times=noise_times,
        overlaps=overlaps,
        resolution=resolution,
        levels=levels,
        population=population,
        rule_sets=rule_sets,
    )


def overlap(
    key: Key[Array, ""],
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    noise_times: Float[Array, " times"],
    depth: int,
    population: int = 4096,
    rule_sets: int = 64,
) -> Float[Array, "levels times"]:
    """Mean belief in the true symbol, E u(0), of a node with 0 .. depth levels of rules below it: leaves first.

    The last row is the class overlap of a hierarchy of that depth with as many classes as symbols. `noise_times` lie in
    [0, max_time], above 0 for Gaussian noise; their dtype is that of the computation.

    Raises:
      ValueError: if the grammar is impossible, the process has another alphabet, depth < 0, `rule_sets` does not
        divide `population`, or a time lies outside its range.

    Time is about population * times * v m per level, memory (s + 2) * population * v * times numbers. One population
    has one error, common to all times: average over keys.
    """
    grammar = (num_symbols, num_synonyms, branching)
    _check(*grammar, process, depth, population, rule_sets)
    inside("noise_times", noise_times, 0.0, process.max_time)
    leaves_key, levels_key = jax.random.split(key)
    ancestry = draw_ancestry(levels_key, *grammar, depth, population, rule_sets)
    return evolve(leaves_key, ancestry, process, noise_times)


def growth_per_level(
    key: Key[Array, ""],
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
    """By which factor the slope of the overlap against t grows per level at the threshold t*: lambda of this channel.

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

    return mean_estimate(jnp.stack([growth(k) for k in jax.random.split(key, replicas)]))


def _check(
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    process: AbstractTokenProcess,
    depth: int,
    population: int,
    rule_sets: int,
) -> None:
    mean_field.transition_exists(num_symbols, num_synonyms, branching)  # raises if the grammar is impossible
    if process.num_symbols != num_symbols:
        raise ValueError(f"the process noises {process.num_symbols} symbols, the grammar has {num_symbols}")
    if depth < 0:
        raise ValueError(f"depth = {depth}: give 0 or more levels of rules")
    if rule_sets < 1 or population < 1 or population % rule_sets:
        raise ValueError(f"population = {population} is not a positive multiple of rule_sets = {rule_sets}")


@functools.partial(jax.jit, static_argnums=range(1, 7))
def draw_ancestry(
    key: Key[Array, ""],
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    levels: int,
    population: int,
    rule_sets: int,
) -> Ancestry:
    members = (rule_sets, population // rule_sets)

    def table(key):
        return draw_rules(key, num_symbols, num_synonyms, branching, num_symbols)

    def level(key):
        rules_key, truth_key, order_key = jax.random.split(key, 3)
        rules = jax.vmap(table)(jax.random.split(rules_key, rule_sets))
        true_rule = jax.random.randint(truth_key, members, 0, num_symbols * num_synonyms, jnp.int32)
        order = jax.vmap(lambda k: jax.random.permutation(k, population))(jax.random.split(order_key, branching))
        return Ancestry(rules, true_rule, order.astype(jnp.int32))

    return jax.lax.map(level, jax.random.split(key, levels))


@eqx.filter_jit
def evolve(
    key: Key[Array, ""], ancestry: Ancestry, process: AbstractTokenProcess, noise_times: Float[Array, " times"]
) -> Float[Array, "levels_and_leaves times"]:
    def ascend(messages, level):
        messages = _parents(messages, level)
        return messages, _belief_in_truth(messages)

    leaves = leaf_messages(key, process, noise_times, ancestry.member.shape[-1])
    _, overlaps = jax.lax.scan(ascend, leaves, ancestry)
    return jnp.concatenate([_belief_in_truth(leaves)[None], overlaps])


def _belief_in_truth(messages: Float[Array, "population v times"]) -> Float[Array, " times"]:
    return messages[:, 0].mean(0)


@jax.named_scope("leaves")
def leaf_messages(
    key: Key[Array, ""], process: AbstractTokenProcess, noise_times: Float[Array, " times"], population: int
) -> Float[Array, "population v times"]:
    """Leaves of truth 0: every `_LEAF_POOL`-th of a pool sorted by belief in the truth, from a random start."""
    noise_key, start_key = jax.random.split(key)
    truth = jnp.zeros(population * _LEAF_POOL, int)
    start = jax.random.randint(start_key, (), 0, _LEAF_POOL)

    def at(t):
        x_t = process.corrupt(jax.random.clone(noise_key), truth, t)  # one key for all times, on purpose
        beliefs = jax.nn.softmax(process.log_likelihood(x_t, t))
        order = jnp.argsort(beliefs[:, 0]).reshape(population, _LEAF_POOL)
        return beliefs[order[:, start]]

    return jnp.moveaxis(jax.lax.map(at, noise_times), 0, -1)


@jax.named_scope("levels")
def _parents(messages: Float[Array, "population v times"], level: Ancestry) -> Float[Array, "population v times"]:
    """One level of equation (1): as many parents as there were messages."""
    sets, num_symbols, num_synonyms, branching = level.rules.shape
    rules = level.rules.reshape(sets, -1, branching)  # rule r has parent r // m
    true_tuples = jnp.take_along_axis(rules, level.true_rule[..., None], 1)  # (sets, members, s)
    children = _children(messages, level.member, true_tuples)
    parents = jax.vmap(_apply_rules, (0, 1))(level.rules, children)
    truth = (level.true_rule // num_synonyms)[:, None]  # (sets, 1, members)
    relabelled = (jnp.arange(num_symbols, dtype=jnp.int32)[None, :, None] + truth) % num_symbols
    parents = jnp.take_along_axis(parents, relabelled[..., None], 1)  # (sets, v, members, times), truth 0
    return jnp.swapaxes(parents, 1, 2).reshape(messages.shape)


def _children(
    messages: Float[Array, "population v times"],
    member: Int[Array, "s population"],
    true_tuples: Int[Array, "sets members s"],
) -> Float[Array, "s sets v members times"]:
    """The messages of each position's child, relabelled so that the truth is the true tuple's symbol."""
    num_symbols = messages.shape[1]
    sets, members, branching = true_tuples.shape
    truth = jnp.moveaxis(true_tuples, -1, 0)[:, :, None]  # (s, sets, 1, members)
    symbol = (jnp.arange(num_symbols, dtype=jnp.int32)[None, None, :, None] - truth) % num_symbols
    return messages[member.reshape(branching, sets, 1, members), symbol]


def _apply_rules(
    rules: Int[Array, "v m s"], children: Float[Array, "s v members times"]
) -> Float[Array, "v members times"]:
    """Equation (1), one synonym of every parent at a time to bound memory."""

    def add(total, rule):  # rule: (v, s)
        weight = children[0][rule[:, 0]]
        for i in range(1, len(children)):
            weight = weight * children[i][rule[:, i]]
        return total + weight, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(children[0]), jnp.swapaxes(rules, 0, 1))
    return total / total.sum(0, keepdims=True)


def refined_crossing(curve, max_time, points, refinements):
    """Where a smooth falling curve crosses 1/2, and its values at all times tried: (t, times, overlaps)."""
    low, high = 0.0, max_time
    times, overlaps = [], []

    for _ in range(refinements):
        edges = jnp.linspace(low, high, points + 2)
        times.append(edges[1:-1])
        overlaps.append(curve(times[-1]))
        kept = int(jnp.argmin(jnp.append(overlaps[-1] > 0.5, False)))  # how many points lie before the first loss
        low, high = float(edges[kept]), float(edges[kept + 1])

    tried, overlap_there = jnp.concatenate(times), jnp.concatenate(overlaps)
    order = jnp.argsort(tried)
    return jnp.asarray((low + high) / 2), tried[order], overlap_there[order]


def _deep(num_symbols: int, num_synonyms: int, branching: int) -> int:
    """Levels after which a departure from the mean-field fixed point has grown a thousandfold."""
    grammar = (num_symbols, num_synonyms, branching)
    slope = mean_field.up_slope(mean_field.fixed_point(*grammar), *grammar)
    return math.ceil(math.log(1000) / math.log(slope))
