r"""Learn a grammar by descent of -ln p(strings) with any Optax optimiser, the probabilities being softmax of weights.

The gradient by the weights w(a, x) is n(a, x) - n(a) p(x | a), with the expected counts n of `expectation`: the same
sweeps, and the same stationary points. It serves where a grammar is a part of something larger that is descended.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from hierarchical.arguments import Given, Whole, as_whole

from ..belief_propagation import log_evidence
from .expectation import Learned
from .soft_grammar import SoftGrammar

ADAM = optax.adam(0.1)  # made once, so that a second call compiles nothing


def descend_likelihood(
    start: SoftGrammar,
    strings: Given,
    labels: Given | None = None,
    *,
    optimiser: optax.GradientTransformation | None = None,
    num_steps: Whole = 200,
    tolerance: float = 1e-6,
) -> Learned:
    """Descent on all strings at once, from where `start` stands, with positive probabilities; not inside `jax.jit`.

    Args:
      strings, labels: as of `learn`.
      optimiser: default Adam at a rate of .1.
      num_steps: all of which are made.
      tolerance: nats per string, below which a last rise counts as converged.

    Raises:
      ValueError: if a shape does not fit, a symbol is out of range, or a probability at the start is 0.
    """
    evidence = start.evidence(strings, labels)
    if not all(bool(jnp.all(rows > -jnp.inf)) for rows in start.log_probs):
        raise ValueError("a probability at the start is 0, and descent would leave it there: smooth the grammar")
    grammar, history = _descended(start, evidence, optimiser or ADAM, as_whole("num_steps", num_steps, 2))
    return Learned(grammar, history, history[-1] - history[-2] < tolerance)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _descended(start, evidence, optimiser, num_steps):
    def grammar_of(weights):
        return eqx.tree_at(lambda g: g.log_probs, start, tuple(map(jax.nn.log_softmax, weights)))

    def loss(weights):
        return -jnp.mean(log_evidence(grammar_of(weights).model, evidence))

    def step(state, _):
        weights, memory = state
        value, slope = jax.value_and_grad(loss)(weights)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimiser.update(slope, memory, weights)
        return (optax.apply_updates(weights, updates), memory), -value

    state = start.log_probs, optimiser.init(start.log_probs)
    (weights, _), history = jax.lax.scan(step, state, None, num_steps)
    return grammar_of(weights), history
