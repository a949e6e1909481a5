r"""Quenched density evolution: the law of upward messages of one given grammar, however deep.

`density_evolution` draws rules anew at every node, which is the *annealed* average. A grammar has one table per level,
shared by all nodes of that level, and its own, *quenched*, curve: this file follows it. Given their true symbols, the
messages of sibling subtrees are independent, and the message of a node of true symbol a with true rule k is

    u(b) = sum_k' p(k' | b) prod_j u_j(x_j^{b k'}) / (the same summed over b),   u_j of truth x_j^{a k},             (1)

so the laws of all symbols of a level, together, follow from those of the level below: a population of messages per true
symbol. For a finite tree this is exact as the population grows (no average over grammars, no truncation), and costs
levels * symbols * population instead of s^depth: a tree of 30 levels is no harder than its 30 tables. Its class overlap
is that of belief propagation, E P(class = truth).

True rules are spread over their probabilities by systematic resampling, and every member of a symbol's population is
used once by each parent and position: unbiased, and less noisy than independent draws. All times share the random
numbers, so the curve of overlap against t is smooth. A finite population drifts at random, by O(population^-1/2) per
level, and near the threshold the drift grows as any departure does: `critical_noise` repeats and gives the spread.

The threshold is not self-averaging: tables of a new level move it about, whatever the depth. A grammar's own threshold
is where its class overlap crosses 1/2; over grammars of (8, 3, 2) under masks these scatter by .02 to .03 around .45.

Source: derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffusion.noise.process import AbstractTokenProcess
from hierarchical import RandomHierarchyModel
from hierarchical.arguments import AnyKey, as_key
from hierarchical.grammar.rules import RuleLogProbs, Rules

from ..domain import Grid, grid
from .crossing_search import check_search, search_crossings
from .population import leaf_messages


class QuenchedThreshold(eqx.Module):
    """Where one grammar loses its class: the mean of independent populations and its standard error."""

    value: Float[Array, ""]
    stderr: Float[Array, ""]
    crossings: Float[Array, " replicas"]
    """The crossing of each population, to within `resolution` / 2."""
    resolution: float


def overlap(
    key: AnyKey,
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    noise_times: Grid,
    *,
    population: int = 512,
) -> Float[Array, "levels *times"]:
    """Belief in the truth from the evidence below a node, E u(truth), mean over the symbols of its level: root first.

    The first row is the class overlap, what `theory.marginals` gives the true class on average over strings and noise.

    Args:
      noise_times: one or an array, in [0, max_time] of the process, above 0 for Gaussian noise; NaN outside inside
        jit.
      population: messages per true symbol.

    Raises:
      ValueError: if the grammar is filtered, the process has another alphabet, or a time lies outside its range.
    """
    _check(rhm, process, population)
    times = grid("noise_times", noise_times, 0, process.max_time)
    leaves_key, *keys = jax.random.split(as_key(key), rhm.depth + 1)
    messages = _leaves(leaves_key, rhm.num_symbols, process, times.reshape(-1), population)
    overlaps = [_belief_in_truth(messages)]
    for level in reversed(range(rhm.depth)):
        log_probs = rhm.log_prob_of_rules(level).astype(messages.dtype)
        messages = _ascend(keys[level], rhm.rules[level], log_probs, messages)
        overlaps.insert(0, _belief_in_truth(messages))
    return jnp.stack(overlaps).reshape(-1, *times.shape)


def critical_noise(
    key: AnyKey,
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    *,
    population: int = 512,
    replicas: int = 4,
    points: int = 8,
    refinements: int = 3,
) -> QuenchedThreshold:
    """Noise at which the class overlap of this grammar crosses 1/2.

    Args:
      replicas: independent populations, at least 2.
      points, refinements: each crossing is located to a cell of `max_time` / (points + 1)^refinements.

    Raises:
      ValueError: as in `overlap`, or if one of these is too small.
    """
    check_search(replicas, points, refinements)

    def curve_of(key):
        return lambda times: overlap(jax.random.clone(key), rhm, process, times, population=population)[0]

    search = search_crossings(jax.random.split(as_key(key), replicas), curve_of, process.max_time, points, refinements)
    return QuenchedThreshold(search.value, search.stderr, search.crossings, search.resolution)


def _check(rhm: RandomHierarchyModel, process: AbstractTokenProcess, population: int) -> None:
    if rhm.filter_level:
        raise ValueError(f"filter_level = {rhm.filter_level}: a filtered grammar has no rules above it; pass it whole")
    if process.num_symbols != rhm.num_symbols:
        raise ValueError(f"the process noises {process.num_symbols} symbols, the grammar has {rhm.num_symbols}")
    if population < 1:
        raise ValueError(f"population = {population}: give 1 or more messages per symbol")


def _belief_in_truth(messages: Float[Array, "symbols population symbols times"]) -> Float[Array, " times"]:
    truths = jnp.arange(len(messages))
    return jnp.mean(messages[truths, :, truths], (0, 1))


@eqx.filter_jit
def _leaves(key, num_symbols: int, process, noise_times, population: int) -> Float[Array, "v population v times"]:
    """Populations of leaves: those of truth 0, relabelled, since a channel treats all symbols alike."""

    def of_truth(key, symbol):
        messages = leaf_messages(key, process, noise_times, population)
        return jnp.take(messages, (jnp.arange(num_symbols) - symbol) % num_symbols, axis=1)

    return jax.vmap(of_truth)(jax.random.split(key, num_symbols), jnp.arange(num_symbols))


@jax.jit
def _ascend(
    key: Key[Array, ""],
    rules: Rules,
    log_probs: RuleLogProbs,
    messages: Float[Array, "symbols population symbols times"],
) -> Float[Array, "parents population parents times"]:
    """Equation (1) for the populations of all symbols of a level."""
    parents, synonyms, branching = rules.shape
    population = messages.shape[1]

    probs = jnp.exp(log_probs)

    def of_truth(key, true_rules: Int[Array, "m s"], shares: Float[Array, " m"]):
        start_key, order_key = jax.random.split(key)
        ticks = (
            jnp.arange(population, dtype=shares.dtype) + jax.random.uniform(start_key, dtype=shares.dtype)
        ) / population
        rule = jnp.minimum(jnp.searchsorted(jnp.cumsum(shares), ticks), synonyms - 1)
        orders = [jax.random.permutation(k, population) for k in jax.random.split(order_key, branching)]
        children = [messages[true_rules[rule, j], orders[j]] for j in range(branching)]  # (population, symbols, times)
        return _upward(rules, probs, children)

    return jax.lax.map(lambda inputs: of_truth(*inputs), (jax.random.split(key, parents), rules, probs))


def _upward(
    rules: Rules, probs: Float[Array, "parents m"], children: list[Float[Array, "population symbols times"]]
) -> Float[Array, "population parents times"]:
    """Normalised messages, one synonym of every parent at a time to bound memory."""

    def add(total, slot):
        rule, prob = slot  # (parents, s), (parents,)
        weight = prob[None, :, None]
        for j, child in enumerate(children):
            weight = weight * child[:, rule[:, j]]
        return total + weight, None

    empty = jnp.zeros((len(children[0]), len(rules), children[0].shape[2]), children[0].dtype)
    total, _ = jax.lax.scan(add, empty, (jnp.swapaxes(rules, 0, 1), probs.T))
    return total / total.sum(1, keepdims=True)
