r"""Information that a noised string keeps about every level of its tree, by exact inference on a given grammar.

As no tuple has two parents, the symbols of a level determine the whole tree above them. So the joint entropy of all
symbols of level l given evidence y is that of the root and of all rules down to it, node by node (chain rule on a
tree):

    H(level l | y) = H(root | y) + sum over nodes c above level l of sum_a P_c(a) H(w_c(. | a)),                  (1)
    w_c(k | a) ~ p(k | a) prod_j u_j(x_j^k)       posterior of rule k of node c, given its symbol a,              (2)

with P_c(a) the marginal and u_j the upward messages of its children. Without evidence (1) is the entropy H(level l) of
the level itself, H(level 0) = ln n, and averaged over data and noise

    I(level l; x_t) = H(level l) - E H(level l | x_t)                                                             (3)

is the information, in nats, that the noised string has about the level; l = 0 is the class. (3) holds for true
channels: not for the epsilon-process, whose beliefs are no posterior.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hierarchical import RandomHierarchyModel
from hierarchical.arguments import Given
from hierarchical.grammar.rules import RuleLogProbs, Rules

from ..inference.belief_propagation import LevelTables, marginals
from ..inference.evidence import NoisedStrings, checked_evidence, written_out


def level_entropies(rhm: RandomHierarchyModel, log_likelihoods: Given | NoisedStrings) -> Float[Array, "*batch levels"]:
    """H(level | y) of equation (1), nats, root first; NaN for evidence that the grammar cannot produce.

    Args:
      log_likelihoods: ln p(y_i | x_i = x) of each leaf and symbol, (..., leaves, v), or `NoisedStrings`, as in
        `theory.marginals`; zeros, no evidence, give the entropy of each level itself. Memory is batch * leaves * v * m
        / s numbers.

    Raises:
      ValueError: if the grammar is filtered, whose top has no rules, or as `theory.marginals`.
    """
    if rhm.filter_level:
        raise ValueError(f"filter_level = {rhm.filter_level}: a filtered grammar has no rules above it; pass it whole")
    evidence = checked_evidence(log_likelihoods, rhm)
    return _entropies(rhm, evidence, marginals(rhm, evidence))


@eqx.filter_jit
def _entropies(
    rhm: RandomHierarchyModel, evidence: Float[Array, "*batch leaves v"] | NoisedStrings, tables: LevelTables
) -> Float[Array, "*batch levels"]:
    """Equation (1), from the marginals of every level."""
    batch = evidence.shape[:-2]
    tables = tuple(table.reshape(-1, *table.shape[-2:]) for table in tables)
    messages, of_rules = written_out(evidence).reshape(-1, *evidence.shape[-2:]), []
    for level in reversed(range(rhm.depth)):
        log_probs = rhm.log_prob_of_rules(level).astype(messages.dtype)
        messages, entropy = _ascend(rhm.rules[level], log_probs, messages)
        of_rules.insert(0, jnp.sum(tables[level] * entropy, (1, 2)))
    root = jnp.sum(jax.scipy.special.entr(tables[0]), (1, 2))
    possible = jnp.sum(tables[0], (1, 2)) > 0
    entropies = jnp.where(possible[:, None], jnp.cumsum(jnp.stack([root, *of_rules], -1), -1), jnp.nan)
    return entropies.reshape(*batch, -1)


def _ascend(
    rules: Rules, log_probs: RuleLogProbs, messages: Float[Array, "batch children symbols"]
) -> tuple[Float[Array, "batch nodes parents"], Float[Array, "batch nodes parents"]]:
    """Upward messages of the nodes above, ln u up to a constant, and the entropy of (2) for each symbol."""
    batch, children, symbols = messages.shape
    by_parent = messages.reshape(batch, children // rules.shape[2], rules.shape[2], symbols)
    log_weights = log_probs[None, None]
    for j in range(rules.shape[2]):
        log_weights = log_weights + by_parent[:, :, j][:, :, rules[..., j]]  # (batch, nodes, parents, synonyms)
    message = jax.nn.logsumexp(log_weights, -1)
    share = jnp.exp(log_weights - jnp.where(jnp.isneginf(message), 0, message)[..., None])
    top = jnp.max(message, -1, keepdims=True)
    return message - jnp.where(jnp.isneginf(top), 0, top), jnp.sum(jax.scipy.special.entr(share), -1)
