"""One table of production rules: drawn at random, given probabilities, checked, and read backwards.

A table `rules[a, k]` lists the k-th tuple that symbol a expands to. All its tuples are distinct, so that each has one
parent at most; a random table is a uniform draw of distinct tuples out of the v^s there are, dealt to the parents.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from ..arguments import Given
from .sizes import LARGEST

Rules = Int[Array, "_parents _synonyms _branching"]
Table = Rules | Int32[np.ndarray, "_parents _synonyms _branching"]
RuleLogProbs = Float[Array, "_parents _synonyms"]

_LARGEST_TABLE = 2**16  # entries: up to here a table of all tuples is made, to look them up


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def draw_rules(key: Key[Array, ""], num_parents: int, num_synonyms: int, branching: int, num_symbols: int) -> Rules:
    """Draw distinct tuples, uniformly without replacement out of num_symbols^branching, and deal them to the parents.

    Small tuple spaces are permuted. In large ones tuples are drawn with replacement, and every tuple that a
    lower-numbered slot holds already is drawn anew until none is left; nothing is enumerated. This is uniform: the
    procedure never looks at what a tuple is, only at whether two are equal, so its law is invariant under every
    permutation of the tuple space, and these act transitively on ordered sets of distinct tuples.
    """
    count = num_parents * num_synonyms
    if num_symbols**branching < 4 * count:
        codes = jax.random.permutation(key, num_symbols**branching)[:count]
        tuples = jnp.stack(jnp.unravel_index(codes, (num_symbols,) * branching), -1)
    else:
        tuples = _draw_distinct(key, count, branching, num_symbols)
    return tuples.reshape(num_parents, num_synonyms, branching).astype(jnp.int32)


def _draw_distinct(key: Key[Array, ""], count: int, branching: int, num_symbols: int) -> Int[Array, "count branching"]:
    def redraw(state):
        key, tuples, repeated = state
        key, draw_key = jax.random.split(key)
        fresh = jax.random.randint(draw_key, tuples.shape, 0, num_symbols, jnp.int32)
        tuples = jnp.where(repeated[:, None], fresh, tuples)
        return key, tuples, _is_repeated(tuples, num_symbols)

    start = key, jnp.zeros((count, branching), jnp.int32), jnp.ones(count, bool)
    return jax.lax.while_loop(lambda state: state[2].any(), redraw, start)[1]


def _is_repeated(tuples: Int[Array, "count branching"], num_symbols: int) -> Bool[Array, " count"]:
    """True where a lower-numbered row holds the same tuple."""
    count, branching = tuples.shape
    if num_symbols**branching <= _LARGEST_TABLE:
        code, row = tuples @ _place_values(branching, num_symbols), jnp.arange(count, dtype=jnp.int32)
        first = jnp.full(num_symbols**branching, count, jnp.int32).at[code].min(row)
        return first[code] < row
    order = jnp.lexsort(tuples.T)  # stable: equal rows stay in order
    ordered = tuples[order]
    same = jnp.all(ordered[1:] == ordered[:-1], -1)
    return jnp.zeros(len(tuples), bool).at[order[1:]].set(same)


def _place_values(branching: int, num_symbols: int) -> Int[Array, " branching"]:
    """Read as digits with these values, each tuple is a number of its own."""
    return num_symbols ** jnp.arange(branching, dtype=jnp.int32)


def match(table: Rules, tuples: Int[Array, "nodes branching"], num_symbols: int) -> Int[Array, " nodes"]:
    """The parent of each tuple, -1 where no rule gives it.

    While the v^s tuples are few, a table of them is made and read. Else every rule is compared with every tuple.
    """
    tuples = tuples.astype(jnp.int32)
    if num_symbols ** table.shape[2] <= _LARGEST_TABLE:
        return _looked_up(table, tuples, num_symbols)
    found = jnp.all(tuples[:, None, None] == table[None], -1).any(-1)  # (nodes, parents)
    return jnp.where(found.any(-1), jnp.argmax(found, -1).astype(jnp.int32), -1)


def _looked_up(table: Rules, tuples: Int[Array, "nodes branching"], num_symbols: int) -> Int[Array, " nodes"]:
    place = _place_values(table.shape[2], num_symbols)
    parents = jnp.broadcast_to(jnp.arange(table.shape[0], dtype=jnp.int32)[:, None], table.shape[:2])
    inverse = jnp.full(num_symbols ** table.shape[2], -1, jnp.int32).at[table @ place].set(parents)
    inside = jnp.all((tuples >= 0) & (tuples < num_symbols), -1)
    return jnp.where(inside, inverse[jnp.where(inside, tuples @ place, 0)], -1)


def free_tuples(table: Rules, num_symbols: int) -> Int[Array, "_free branching"]:
    """The tuples that no rule of any parent gives, each once.

    Raises:
      ValueError: if there is none, or the v^s tuples are more than 2^16.
    """
    parents, synonyms, branching = table.shape
    tuples, used = num_symbols**branching, parents * synonyms
    if used >= tuples:
        raise ValueError(f"all {tuples} tuples are given by a rule, none is free: lower num_synonyms")
    if tuples > _LARGEST_TABLE:
        raise ValueError(f"{num_symbols}^{branching} tuples are more than {_LARGEST_TABLE}, the most that are listed")
    place = _place_values(branching, num_symbols)
    is_free = jnp.ones(tuples, bool).at[table @ place].set(False)
    codes = jnp.nonzero(is_free, size=tuples - used)[0].astype(jnp.int32)
    return codes[:, None] // place[None] % num_symbols


def as_table(level: int, table: Given) -> Int[Array, "..."] | Int32[np.ndarray, "..."]:
    """A given table as int32, of NumPy where it is known, so that it can be checked inside `jax.jit` too.

    Raises:
      ValueError: if it does not hold integers, or one that int32 cannot hold.
    """
    table = table if isinstance(table, jax.Array) else np.asarray(table)
    if not jnp.issubdtype(table.dtype, jnp.integer):
        raise ValueError(f"table {level} is of {table.dtype}: rules hold integers, the symbols of the next level")
    if isinstance(table, Tracer):
        return table.astype(jnp.int32)
    host, limits = np.asarray(table), np.iinfo(np.int32)
    for extreme in (host.min(initial=0), host.max(initial=0)):
        if not limits.min <= int(extreme) <= limits.max:
            raise ValueError(f"table {level} holds the symbol {extreme}: symbols are from 0 to 2^31 - 1")
    return host.astype(np.int32)


def zipf_log_probs(exponent: float, num_parents: int, num_synonyms: int) -> RuleLogProbs:
    """ln p(k | a) with p ~ k^-(1 + exponent), k = 1 .. num_synonyms, nats; the same for every parent.

    Raises:
      ValueError: if the exponent is not finite.
    """
    if not isinstance(exponent, Tracer) and not math.isfinite(exponent):
        raise ValueError(f"zipf_exponent = {exponent}: give a finite number, or None for uniform rules")
    log_weights = -(1 + exponent) * jnp.log(jnp.arange(1.0, num_synonyms + 1))
    return jnp.broadcast_to(jax.nn.log_softmax(log_weights), (num_parents, num_synonyms))


def check_level(level: int, parents: int, synonyms: int, branching: int, symbols: int) -> None:
    """Refuse sizes for which no unambiguous table exists."""
    for name, value, least in (("symbols", parents, 1), ("synonyms", synonyms, 1), ("children", branching, 2)):
        if value < least:
            raise ValueError(f"level {level} has {value} {name}: at least {least} needed")
    needed, existing = parents * synonyms, symbols**branching
    if needed > existing:
        raise ValueError(
            f"level {level}: {parents} symbols with {synonyms} synonyms need {needed} distinct {branching}-tuples, "
            f"only {existing} of {symbols} symbols exist: lower num_synonyms or raise branching or num_symbols"
        )
    if max(needed, symbols) > LARGEST:
        raise ValueError(
            f"level {level}: {parents} symbols with {synonyms} synonyms have {needed} rules of {symbols} symbols, "
            f"more than 2^31 - 1, the largest int32: lower num_symbols, num_classes or num_synonyms"
        )


def check_table(
    level: int,
    table: Rules | Int32[np.ndarray, "_parents _synonyms _branching"],
    log_probs: Given | None,
    num_symbols: int,
) -> None:
    """Refuse a given table with symbols outside 0 .. num_symbols - 1, a tuple of two parents, or odd probabilities."""
    if min(table.shape) < 1:
        raise ValueError(f"table {level} has shape {table.shape}: it holds no rule")
    if log_probs is not None and np.shape(log_probs) != table.shape[:2]:
        raise ValueError(f"rule_log_probs of table {level} has shape {np.shape(log_probs)}, expected {table.shape[:2]}")
    if not isinstance(table, Tracer):
        _check_tuples(level, np.asarray(table), num_symbols)
    if log_probs is not None and not isinstance(log_probs, Tracer):
        sums = np.exp(np.asarray(log_probs, np.float64)).sum(-1)
        if not np.allclose(sums, 1, atol=1e-5):
            worst = int(np.argmax(np.nan_to_num(np.abs(sums - 1), nan=np.inf)))
            raise ValueError(
                f"rules of symbol {worst} in table {level} have total probability {sums[worst]}: normalise"
            )


def _check_tuples(level: int, table: Int[np.ndarray, "_parents _synonyms _branching"], num_symbols: int) -> None:
    flat = table.reshape(-1, table.shape[2])
    if flat.min() < 0 or flat.max() >= num_symbols:
        raise ValueError(
            f"table {level} uses symbols {flat.min()} .. {flat.max()}, but the next level has {num_symbols} symbols "
            f"(0 .. {num_symbols - 1})"
        )
    tuples, counts = np.unique(flat, axis=0, return_counts=True)
    if counts.max() > 1:
        repeated = tuple(int(x) for x in tuples[counts.argmax()])
        raise ValueError(f"table {level} holds the tuple {repeated} {counts.max()} times: every tuple has one parent")
