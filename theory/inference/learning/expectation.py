r"""Learn a grammar by expectation-maximisation: expected counts of rules, normalised, are the next probabilities.

    n(a, x)  =  sum over strings of the posterior mean number of nodes with symbol a and children x,               (1)
    p(x | a)  <-  (n(a, x) + c) / sum_x' (n(a, x') + c).                                                           (2)

(1) is one upward and one downward sweep, `theory.rule_counts`. Each step raises ln p(strings) + c sum ln p(x | a),
which with the pseudocount c = 0 is the likelihood itself. It ends in a local maximum. From random probabilities that is
seldom the grammar: of (8, 4, 2, 3), from 2048 strings, five random starts found the rules of the last level and three
quarters of those above. From clusters of tuples (`SoftGrammar.from_recovered`) all rules of five grammars of five were
found, from 512 strings on.

Source: Baker 1979 (inside-outside), on a fixed tree.
"""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from hierarchical.arguments import Given, Whole, as_numbers, as_whole

from ..belief_propagation import log_evidence, rule_counts
from .soft_grammar import SoftGrammar

NUMBERS_AT_ONCE = 2**23  # counts of rules of the strings that are counted together


class Learned(eqx.Module):
    """A grammar, and how learning went."""

    grammar: SoftGrammar
    log_likelihood: Float[Array, " steps"]
    """ln p of a string, the mean over the strings, nats, before each step; NaN after the last one that was made."""
    converged: Bool[Array, ""]
    """Whether the last step raised it by less than the tolerance."""


def learn(
    start: SoftGrammar,
    strings: Given,
    labels: Given | None = None,
    *,
    num_steps: Whole = 200,
    tolerance: float = 1e-6,
    pseudocount: float = 0.01,
    levels: Sequence[Whole] | None = None,
) -> Learned:
    """Expectation-maximisation, equations (1) and (2), from where `start` stands.

    Args:
      strings: (n, leaves) symbols; -1 where one is missing.
      labels: (n,) symbols of the root, if they are known.
      num_steps: at most.
      tolerance: nats per string; a step that raises the likelihood by less is the last.
      pseudocount: c; 0 lets probabilities vanish for good.
      levels: those whose rules are learned, 0 the root's; the others stay as they are. Default: all.

    Raises:
      ValueError: if a shape does not fit, a symbol or level is out of range, or a string is impossible at the start.
    """
    evidence = start.evidence(strings, labels)
    array = evidence if isinstance(evidence, jax.Array) else evidence[start.depth]
    if array.ndim != 3 or len(array) == 0:
        raise ValueError(f"strings of shape {array.shape[:-1]}: give (n, leaves), one string or more")
    free = tuple(range(start.depth)) if levels is None else tuple(as_whole("levels", level, 0) for level in levels)
    if not free or max(free) >= start.depth:
        raise ValueError(f"levels = {free}: give some of 0 .. {start.depth - 1}")
    if not pseudocount >= 0 or not tolerance >= 0:
        raise ValueError(f"pseudocount = {pseudocount}, tolerance = {tolerance}: neither is negative")
    dtype = array.dtype
    steps = as_whole("num_steps", num_steps, 1)
    grammar, history, converged = _learned(
        start, evidence, steps, as_numbers(tolerance, dtype), as_numbers(pseudocount, dtype), free
    )
    if not isinstance(history, Tracer) and history[0] == -jnp.inf:
        raise ValueError("a string is impossible under the grammar at the start: smooth it")
    return Learned(grammar, history, converged)


@functools.partial(jax.jit, static_argnums=(2, 5))
def _learned(start, evidence, num_steps, tolerance, pseudocount, free):
    def body(state):
        step, grammar, history, _ = state
        mean, counts = _expected(grammar, evidence)
        rows = tuple(
            _maximised(n + pseudocount, old) if level in free else old
            for level, (n, old) in enumerate(zip(counts, grammar.log_probs, strict=True))
        )
        rise = mean - jnp.where(step > 0, history[step - 1], -jnp.inf)
        grammar = eqx.tree_at(lambda g: g.log_probs, grammar, rows)
        return step + 1, grammar, history.at[step].set(mean), rise < tolerance

    def going(state):
        return (state[0] < num_steps) & ~state[3]

    history = jnp.full(num_steps, jnp.nan, tolerance.dtype)
    _, grammar, history, converged = jax.lax.while_loop(going, body, (0, start, history, jnp.asarray(False)))
    return grammar, history, converged


def _maximised(counts: Float[Array, "parents tuples"], old: Float[Array, "parents tuples"]) -> Float[Array, "..."]:
    """Equation (2); a symbol that is never used keeps its row."""
    total = jnp.sum(counts, 1, keepdims=True)
    return jnp.where(total > 0, jnp.log(counts) - jnp.log(jnp.where(total > 0, total, 1)), old)


def _expected(grammar: SoftGrammar, evidence) -> tuple[Float[Array, ""], list[Float[Array, "_parents _tuples"]]]:
    """The mean log-likelihood, and (1), some strings at a time."""
    model = grammar.model
    n = len(jax.tree.leaves(evidence)[0])
    size = min(n, max(1, NUMBERS_AT_ONCE // sum(rows.size for rows in grammar.log_probs)))

    def of(piece):
        return jnp.sum(log_evidence(model, piece)), [jnp.sum(table, 0) for table in rule_counts(model, piece)]

    whole, rest = n // size, n % size
    pieces = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), evidence)
    total = jax.tree.map(lambda x: jnp.sum(x, 0), jax.lax.map(of, pieces))
    if rest:
        total = jax.tree.map(jnp.add, total, of(jax.tree.map(lambda x: x[-rest:], evidence)))
    return total[0] / n, total[1]
