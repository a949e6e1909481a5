"""What XLA has to be told on a CPU: one name for each trick, with the program that it prevents.

None changes a result. Each was found in the compiled program of a sweep, and timed; a trick whose program XLA no longer
makes can go.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, Int, PyTree, Shaped


def looked_up_once(x: PyTree[Array]) -> PyTree[Array]:
    """Indices and weights of a rule. Otherwise: looked up anew for every lane, inside the loop over lanes."""
    return jax.lax.optimization_barrier(x)


def summed_once(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A sum that is complete. Otherwise: it is computed again inside every operation that reads it."""
    return jax.lax.optimization_barrier(x)


def in_memory(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """x, written in the order of its axes. Otherwise: a transposition is fused with what reads it, 7 times as slow."""
    return jax.lax.optimization_barrier(with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim)))))


def not_unrolled(count: Int[Array, "*shape"], not_negative: Int[Array, "..."]) -> Int[Array, "*shape"]:
    """A count of passes, which depends on data. Otherwise: XLA unrolls the loop, and merges the passes into one.

    No index is negative, but XLA does not know it.
    """
    axes = tuple(range(count.ndim, not_negative.ndim))
    return jnp.where(jnp.min(not_negative, axes) >= 0, count, 0)


def after(waiting: Float[Array, "nodes lanes"], first: Float[Array, "1 lanes"]) -> Float[Array, "nodes lanes"]:
    """`waiting`, which is there only when `first`, not negative, is. Otherwise: what both are made of is copied.

    A buffer that one result overwrites and the other still has to read is copied, unless the order is known. The
    condition is never met, but XLA cannot know that before `first` is there.
    """
    return jnp.where(first < 0, 0, waiting)


def over_symbols(
    combine: Callable, start: Sequence[float], *tables: Float[Array, "nodes symbols lanes"]
) -> list[Float[Array, "nodes lanes"]]:
    """One reduction of one or two tables. Otherwise: a library is called for it, which reads the tables from memory.

    XLA knows the usual reductions by their look, so `larger` and the others look different.
    """
    return list(jax.lax.reduce(tables, tuple(jnp.asarray(x, tables[0].dtype) for x in start), combine, [1]))


def smaller(x, y):
    return (jnp.where(y[0] < x[0], y[0], x[0]),)


def larger(x, y):
    return (jnp.where(y[0] > x[0], y[0], x[0]),)


def larger_and_sum(x, y):
    return *larger(x, y), x[1] + y[1]
