r"""Cross-entropy and divergence between two grammars of one shape, exact.

With N_l(a) the expected number of nodes of symbol a at level l of a tree of p, and n equally likely classes,

    H(p, q) = ln n - sum_l sum_a N_l(a) sum_k p_l(k|a) ln q_l(x^{ak} | a),                                        (1)

q_l(x|a) being the probability that q expands a into the tuple x, 0 if it has no such rule. KL(p | q) is the same with
ln q replaced by ln q - ln p, and H(p, p) is `rhm.entropy`. All are of trees with symbols of the same names; a string
has one tree, so they are those of strings where both grammars have the same trees. Source: derived here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hierarchical import RandomHierarchyModel

LogProbs = Float[Array, "parents synonyms"]


def cross_entropy(p: RandomHierarchyModel, q: RandomHierarchyModel) -> Float[Array, ""]:
    """H(p, q), nats: the mean of -ln q over trees of p; inf if p uses a rule that q lacks.

    Raises:
      ValueError: if the grammars differ in classes, symbols or children, or one is filtered.
    """
    return jnp.log(float(p.num_classes)) - _expected(p, q, lambda log_p, log_q: log_q)


def kl_divergence(p: RandomHierarchyModel, q: RandomHierarchyModel) -> Float[Array, ""]:
    """KL(p | q), nats, 0 if and only if their trees have the same law; inf and errors as for `cross_entropy`."""
    return _expected(p, q, lambda log_p, log_q: log_p - log_q)


def _expected(
    p: RandomHierarchyModel, q: RandomHierarchyModel, value: Callable[[LogProbs, LogProbs], LogProbs]
) -> Float[Array, ""]:
    """The mean, over trees of p, of the sum over their nodes of value(ln p, ln q) of the rule."""
    _check(p, q)
    nodes, total = jnp.full(p.num_classes, 1 / p.num_classes), jnp.zeros(())
    for level, step in enumerate(p.transitions):
        log_p = p.log_prob_of_rules(level)
        probs, used = jnp.exp(log_p), log_p > -jnp.inf
        log_q = _log_probs_of(p.rules[level], q, level)
        values = jnp.where(used, value(jnp.where(used, log_p, 0), jnp.where(used, log_q, 0)), 0)
        of_symbol = jnp.sum(probs * values, 1)
        total += jnp.sum(jnp.where(nodes > 0, nodes * of_symbol, 0))
        nodes = jnp.einsum("a,jax->x", nodes, step)
    return total


def _log_probs_of(rules: Array, q: RandomHierarchyModel, level: int) -> LogProbs:
    """ln q(x | a) of the tuples x of a table; -inf where q has no such rule."""
    is_same = jnp.all(rules[:, :, None] == q.rules[level][:, None], -1)  # (parents, synonyms, synonyms of q)
    return jax.nn.logsumexp(jnp.where(is_same, q.log_prob_of_rules(level)[:, None], -jnp.inf), -1)


def _check(p: RandomHierarchyModel, q: RandomHierarchyModel) -> None:
    for name in ("num_classes", "vocabulary", "branching"):
        one, other = getattr(p, name), getattr(q, name)
        if one != other:
            raise ValueError(f"{name}: {one} of p, {other} of q: give grammars of one shape")
    if p.filter_level or q.filter_level:
        raise ValueError(
            f"filter_level = {p.filter_level} of p, {q.filter_level} of q: filtered grammars have no rules above it"
        )
