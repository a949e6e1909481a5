r"""How often each rule is used, from the messages and posteriors of the fast formulation.

At a node with posterior P and children's messages u_j, rule (a -> x_1 .. x_s) has the posterior probability

    n(a, k) = P(a) w_k / sum_k' w_k',        w_k = p(k|a) u_1(x_1) ... u_s(x_s),                                  (1)

and the counts of a level are the sums over its nodes. An error of a message enters (1) as it enters P(a), so where the
guard accepts the posteriors it accepts the counts. This is one more walk over the nodes, in any order.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierarchical import RandomHierarchyModel

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
        used = _at_a_node(rules[level[node]], weights[level[node]], children, posteriors[node])
        return counts.at[level[node]].add(used)

    counts = jnp.zeros((*weights.shape, cut.lanes), messages.dtype)
    counts = jax.lax.fori_loop(0, len(level), step, counts)
    by_datum = jnp.moveaxis(counts.reshape(*weights.shape, cut.batch, cut.roots).sum(-1), -1, 1)
    sizes = list(zip(rhm.vocabulary, rhm.num_synonyms, strict=False))[cut.top : cut.bottom]
    return [table[:, :v, :m] for table, (v, m) in zip(by_datum, sizes, strict=True)]  # without rules that pad


def _at_a_node(
    rules: Int[Array, "v m s"],
    weights: Float[Array, "v m"],
    children: Float[Array, "s v lanes"],
    posterior: Float[Array, "v lanes"],
) -> Float[Array, "v m lanes"]:
    """Equation (1)."""
    rows = [children[j].at[rules[..., j].reshape(-1)].get(mode="promise_in_bounds") for j in range(len(children))]
    products = math.prod(rows, start=weights.reshape(-1, 1)).reshape(*weights.shape, -1)  # (v, m, lanes)
    total = jnp.sum(products, 1)
    return products * jnp.where(total > 0, posterior / total, 0)[:, None]
