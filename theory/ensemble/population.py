r"""Population dynamics of upward messages: one level of density evolution, equation (1) of `density_evolution`.

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

Precision. Messages are normalised probabilities and (1) needs no logarithms: a channel's beliefs are calibrated, so the
true tuple has weight below delta with probability at most v^s delta and the normaliser does not underflow.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffusion.noise.process import AbstractTokenProcess
from hierarchical import draw_rules

_LEAF_POOL = 8  # leaves drawn per leaf kept


class Ancestry(eqx.Module):
    """Rules and parentage of a population, which do not depend on the noise: drawn once, and used for all times."""

    rules: Int[Array, "*levels sets v m s"]
    true_rule: Int[Array, "*levels sets members"]
    """Index into a table read as a list of v * m rules."""
    member: Int[Array, "*levels s population"]
    """Index of the message of the level below that is the child at each position; a permutation."""


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
