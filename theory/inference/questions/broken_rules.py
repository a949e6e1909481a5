r"""Is a string broken, and at which level? The optimal answer, and what the surprise of a string is made of.

*Broken at level l* is the law P1 of `hierarchical.BrokenRules`: P0, the grammar, but for one node of the N of level l,
whose s children are a tuple x drawn from the set C of those that no rule gives. With u the upward messages of
`messages`, c_i the normalised cavity of node i (what all evidence outside its subtree says of its symbol), and e_i the
evidence of the node itself if there is any,

    P1_i(y) / P0(y)  =  W_i sum_a c_i(a) e_i(a) / sum_a c_i(a) u_i(a),                                             (1)
    W_i              =  (1/|C|) sum_{x in C} prod_j u_j(x_j),
    P1(y) / P0(y)    =  (1/N) sum_i P1_i(y) / P0(y),                                                               (2)

i being the broken node: what is outside its subtree has the same probability under both laws, which cancels. The ratio
(2) is the Neyman-Pearson test, which at any rate of false alarms finds the most broken strings; one upward and one
downward sweep give it. Derived here.

*Surprise.* With Z_i the probability of all evidence below node i, by the law of its symbol without evidence, and ij the
children of i, -ln of the evidence is a sum over all nodes of the tree,

    -ln P0(y)  =  sum_leaves -ln Z_i  +  sum_inner S_i,      S_i = ln [prod_j Z_ij / Z_i],                         (3)

because all Z but those of the leaves and of the root cancel, and the root's is P0(y). S_i is minus the pointwise mutual
information of what is below the children: how badly they go together. Without a broken rule its mean is negative.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from hierarchical import RandomHierarchyModel
from hierarchical.arguments import Whole
from hierarchical.grammar.broken_rules import check_broken_level
from hierarchical.grammar.rules import free_tuples

from ...logspace import finite, log_sum, log_where_positive
from .. import logarithmic
from ..evidence import GivenEvidence, TreeEvidence
from ..formulation import answered
from ..logarithmic import BatchEvidence
from ..messages import ProductionLayer, split_children

NodeValues = tuple[Float[Array, "*batch _nodes"], ...]


def broken_rule_log_ratio(rhm: RandomHierarchyModel, evidence: GivenEvidence, level: Whole) -> Float[Array, "*batch"]:
    """ln P1(y) / P0(y), equation (2), nats: the most powerful test of a rule broken at `level` against none.

    `inf` if only a broken string can have given the evidence, `-inf` if only the grammar can, NaN if neither can.

    Args:
      evidence: of any kind that `log_evidence` takes; the strings' noise is that of the evidence.
      level: of the rule, 0 for that of the class, `depth` - 1 for those that give the leaves.

    Raises:
      ValueError: if the grammar has no rules at that level, they leave no tuple free, or there are more than 2^16
        tuples; and as `log_evidence`.
    """
    ratios = broken_node_log_ratios(rhm, evidence, level)
    possible = ~jnp.isnan(ratios)
    total = log_sum(jnp.where(possible & (ratios < jnp.inf), ratios, -jnp.inf), -1) - math.log(ratios.shape[-1])
    total = jnp.where(jnp.any(ratios == jnp.inf, -1), jnp.inf, total)
    return jnp.where(jnp.any(possible, -1), total, jnp.nan)


def broken_node_log_ratios(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, level: Whole
) -> Float[Array, "*batch nodes"]:
    """ln P1_i(y) / P0(y) of each node of `level`, equation (1), nats: of a rule broken there.

    With all nodes equally likely before, the softmax over nodes is the posterior of which is broken, if one is. Values
    that are not finite, arguments and errors as of `broken_rule_log_ratio`.
    """
    return answered(None, _ratios_at(check_broken_level(rhm, level)), rhm, evidence)


def surprises(rhm: RandomHierarchyModel, evidence: GivenEvidence) -> NodeValues:
    """The terms of -ln p(y), equation (3), nats: (..., nodes) for each level, root first, the leaves' last.

    Their sum over all nodes and levels is -`log_evidence`. Where the evidence below a node is impossible the term of
    the lowest such node is `inf`, and those of its ancestors are 0. For strings some of whose sites are missing, give
    `hard_evidence`. Arguments and errors as of `log_evidence`.
    """
    return answered(None, _surprises, rhm, evidence)


@functools.cache
def _ratios_at(level: int) -> Callable:
    """One function for each level, so that a second call compiles nothing."""
    return functools.partial(_node_log_ratios, level=level)


def _node_log_ratios(rhm: RandomHierarchyModel, evidence: BatchEvidence, level: int) -> Float[Array, "batch nodes"]:
    up, cavity = logarithmic.upward_messages(rhm, evidence), logarithmic.log_cavities(rhm, evidence)[level]
    own = evidence.inner[level] if isinstance(evidence, TreeEvidence) else None
    around = cavity if own is None else cavity + own
    broken = log_sum(around, 2) + _of_free_tuples(rhm, up[level + 1], level)
    kept = log_sum(cavity + up[level], 2)
    only_broken = jnp.where(broken == -jnp.inf, jnp.nan, jnp.inf)
    return jnp.where(kept == -jnp.inf, only_broken, broken - finite(kept))


def _of_free_tuples(
    rhm: RandomHierarchyModel, children: Float[Array, "batch _children v"], level: int
) -> Float[Array, "batch nodes"]:
    """ln W of equation (1): a layer of one parent symbol, whose rules are the free tuples."""
    free = free_tuples(rhm.rules[level], rhm.vocabulary[level + 1])
    log_probs = jnp.full((len(free), 1), -math.log(len(free)), children.dtype)
    message = ProductionLayer(free[:, None], log_probs).up(split_children(children.transpose(2, 1, 0), free.shape[1]))
    return message.reshape(-1, len(children)).T


def _surprises(rhm: RandomHierarchyModel, evidence: BatchEvidence) -> NodeValues:
    logs = []
    for level, up in enumerate(logarithmic.upward_messages(rhm, evidence)):
        if up.shape[1]:
            up += log_where_positive(logarithmic.prior(rhm, level)).astype(up.dtype)[None]
        logs.append(log_sum(up, 2))  # (batch, nodes), without nodes where filtering removes them
    present = [level for level, nodes in enumerate(rhm.num_nodes) if nodes]
    terms = [*logs[:-1], -logs[-1]]
    for level, below in itertools.pairwise(present):
        terms[level] = _disagreement(logs[level], logs[below].reshape(*logs[level].shape, -1))
    return tuple(terms)


def _disagreement(
    node: Float[Array, "batch nodes"], children: Float[Array, "batch nodes branching"]
) -> Float[Array, "batch nodes"]:
    """S of equation (3)."""
    together = jnp.sum(children, 2)
    broken = jnp.where(together == -jnp.inf, 0.0, jnp.inf).astype(node.dtype)
    return jnp.where(node == -jnp.inf, broken, finite(together) - finite(node))
