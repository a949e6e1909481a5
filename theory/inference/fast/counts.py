r"""How often each rule is used, and how uncertain its choice is, from messages and posteriors of the fast formulation.

At a node with posterior P and children's messages u_j, rule (a -> x_1 .. x_s) has the posterior probability

    n(a, k) = P(a) w_k / sum_k' w_k',        w_k = p(k|a) u_1(x_1) ... u_s(x_s),                                  (1)

and the counts of a level are the sums over its nodes. An error of a message enters (1) as it enters P(a), so where the
guard accepts the posteriors it accepts the counts. The entropy of the choice is sum_a P(a) sum_k -q ln q, q = w_k over
their sum. Both are one more walk over the nodes, in any order.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import RandomHierarchyModel

from ...logspace import entr
from .contraction import padded_rules
from .segments import Segment, part


def segment_counts(
    rhm: RandomHierarchyModel,
    cut: Segment,
    messages: Float[Array, "nodes v lanes"],
    posteriors: Float[Array, "nodes v lanes"],
) -> list[Float[Array, "batch _parents _synonyms"]]:
    """The counts of each level of a segment, top first."""
    s, level = cut.branching, cut.level_of_inner_nodes - cut.top
    rules, weights = (x[cut.top : cut.bottom] for x in padded_rules(rhm, messages.dtype))

    def step(node, counts):
        children = part(messages, s * node + 1, s)  # (s, v, lanes)
        products, total = _products(rules[level[node]], weights[level[node]], children)
        share = jnp.where(total > 0, posteriors[node] / total, 0)
        return counts.at[level[node]].add(products * share[:, None])

    counts = jnp.zeros((*weights.shape, cut.lanes), messages.dtype)
    counts = jax.lax.fori_loop(0, len(level), step, counts)
    by_datum = jnp.moveaxis(counts.reshape(*weights.shape, cut.batch, cut.roots).sum(-1), -1, 1)
    sizes = list(zip(rhm.vocabulary, rhm.num_synonyms, strict=False))[cut.top : cut.bottom]
    return [table[:, :v, :m] for table, (v, m) in zip(by_datum, sizes, strict=True)]  # without rules that pad


def segment_entropy(
    rhm: RandomHierarchyModel,
    cut: Segment,
    messages: Float[Array, "nodes v lanes"],
    posteriors: Float[Array, "nodes v lanes"],
) -> Float[Array, " batch"]:
    """The sum, over the nodes of a segment that have children, of the entropy of the choice of a rule, nats."""
    s, level = cut.branching, cut.level_of_inner_nodes - cut.top
    rules, weights = (x[cut.top : cut.bottom] for x in padded_rules(rhm, messages.dtype))

    def step(node, entropy):
        children = part(messages, s * node + 1, s)  # (s, v, lanes)
        products, total = _products(rules[level[node]], weights[level[node]], children)
        of_symbol = jnp.sum(entr(jnp.where(total[:, None] > 0, products / total[:, None], 0)), 1)
        return entropy + jnp.sum(posteriors[node] * of_symbol, 0)

    entropy = jax.lax.fori_loop(0, len(level), step, jnp.zeros(cut.lanes, messages.dtype))
    return jnp.sum(entropy.reshape(cut.batch, cut.roots), 1)


def _products(
    rules: Int[Array, "v m s"], weights: Float[Array, "v m"], children: Float[Array, "s v lanes"]
) -> tuple[Float[Array, "v m lanes"], Float[Array, "v lanes"]]:
    """w_k of equation (1), and their sums."""
    rows = [children[j].at[rules[..., j].reshape(-1)].get(mode="promise_in_bounds") for j in range(len(children))]
    products = math.prod(rows, start=weights.reshape(-1, 1)).reshape(*weights.shape, -1)  # (v, m, lanes)
    return products, jnp.sum(products, 1)
