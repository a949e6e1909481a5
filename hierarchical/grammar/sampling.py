r"""Data by the hundred thousand: whole batches drawn at once, from as few random bits as will do.

`RandomHierarchyModel.sample` draws one tree and is the definition. Here the nodes of one level of many strings are one
array, and a level costs two things: the random choices, and one look-up per node.

**Choices.** Random words of 32 bits are the larger cost, so one word makes several choices. With w uniform on
[0, 2^32), the number

    c = floor(w m^k / 2^32)                                                                                        (1)

is uniform on [0, m^k), and its k digits in base m are k independent choices. If m is a power of two this is exact, and
k is as large as fits, m^k <= 2^32. For other m each c has probability m^-k (1 +- m^k / 2^32), and k is the largest with
m^k <= 2^12: the relative error of any joint outcome of a word is below 2^-20, that of 10^12 draws being seen. Beyond
m = 2^12, k = 1 and the error is below m / 2^32; beyond 2^16 `jax.random.randint` takes over. Rules of unequal
probability take a word each and compare it with the cumulated probabilities, in steps of 2^-23.

**Look-ups.** The tuple of a rule is read as one integer where it fits into one, two symbols of 8 bits as 16.

Strings are made in blocks that stay in the cache. Which words a block gets follows from the key and its number.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt

from ..arguments import AnyKey, as_key, as_whole
from .derivation import Derivation
from .hierarchy import RandomHierarchyModel
from .rules import Rules

SYMBOLS_AT_ONCE = 2**20  # leaves of one block
SMALL = 2**12  # the largest m^k of equation (1) where it is not exact

_WORDS = {2: jnp.uint16, 4: jnp.uint32}  # bytes -> the integer that holds them


@functools.partial(jax.jit, static_argnames=("size", "dtype"))
def sample_trees(key: AnyKey, rhm: RandomHierarchyModel, size: int, *, dtype=jnp.int32) -> Derivation:
    """The trees of `rhm.sample(key, (size,))`, levels (size, nodes), in a dtype of one's choice.

    Args:
      dtype: of the symbols. A signed one of 8 bits holds -1 .. 127: enough for 127 symbols, the mask, and "no symbol".

    Raises:
      ValueError: if `size` is no positive whole number, or if a symbol or the mask does not fit `dtype`.
    """
    levels = _blocks(as_key(key), rhm, size, dtype, range(rhm.depth + 1))
    return Derivation(tuple(levels), tuple(jnp.ones(level.shape, bool) for level in levels))


@functools.partial(jax.jit, static_argnames=("size", "dtype"))
def sample_strings(key: AnyKey, rhm: RandomHierarchyModel, size: int, *, dtype=jnp.int32) -> Int[Array, "size leaves"]:
    """The leaves of `sample_trees`, without keeping the levels above. Arguments and errors as there."""
    return _blocks(as_key(key), rhm, size, dtype, [rhm.depth])[0]


def _blocks(key: Key[Array, ""], rhm: RandomHierarchyModel, size: int, dtype, wanted) -> list[Array]:
    """The wanted levels, (size, nodes) each."""
    size = as_whole("size", size, 1)
    if max(rhm.vocabulary) > jnp.iinfo(dtype).max:
        raise ValueError(f"dtype = {jnp.dtype(dtype)} cannot hold {max(rhm.vocabulary)} symbols and a mask: widen it")
    largest = rhm.num_leaves * (rhm.num_symbols if rhm.filter_level else 1)  # filtered nodes are drawn from tables
    rows = min(size, max(1, SYMBOLS_AT_ONCE // largest))
    rhm.check_fits(size)
    blocks = -(-size // rows)

    def block(key):
        levels = _grow(key, rhm, rows)
        return [levels[level].astype(dtype) for level in wanted]

    levels = jax.lax.map(block, jax.random.split(key, blocks))
    return [level.reshape(blocks * rows, level.shape[2])[:size] for level in levels]


def _grow(key: Key[Array, ""], rhm: RandomHierarchyModel, rows: int) -> list[UInt[Array, "rows _nodes"]]:
    """All levels of a block of trees, root first."""
    root_key, *keys = jax.random.split(key, rhm.depth + 1)
    symbol = np.min_scalar_type(max(rhm.vocabulary) - 1)
    levels = [uniform_choices(root_key, rhm.num_classes, rows)[:, None].astype(symbol)]
    for level, level_key in enumerate(keys):
        if level < rhm.filter_level - 1:
            levels.append(jnp.zeros((rows, 0), symbol))
            continue
        if level == rhm.filter_level - 1:
            law = jnp.moveaxis(rhm.filtered_transition, 1, 0)[levels[0][:, 0]]  # (rows, nodes, symbols)
            levels.append(jax.random.categorical(level_key, jnp.log(law)).astype(symbol))
            continue
        parents, log_probs = levels[-1], rhm.rule_log_probs[level]
        if log_probs is None:
            choice = uniform_choices(level_key, rhm.num_synonyms[level], parents.size).reshape(parents.shape)
        else:
            choice = _weighted_choices(level_key, jnp.exp(log_probs), parents)
        # without the barrier XLA makes the random words again for each of their uses
        rule = parents.astype(jnp.int32) * rhm.num_synonyms[level] + choice.astype(jnp.int32)
        rule = jax.lax.optimization_barrier(rule)
        levels.append(_expand(rhm.rules[level], rule, symbol))
    return levels


def uniform_choices(key: Key[Array, ""], num_choices: int, count: int) -> UInt[Array, " count"]:
    """`count` independent uniform numbers below `num_choices`, which is at least 1: equation (1)."""
    m = num_choices
    if m == 1:
        return jnp.zeros(count, jnp.uint32)
    if m > 2**16:
        return jax.random.randint(key, (count,), 0, m, jnp.uint32)
    bits = m.bit_length() - 1
    exact = m == 2**bits
    per_word = 32 // bits if exact else max(1, math.floor(math.log(SMALL) / math.log(m)))
    words = jax.random.bits(key, (-(-count // per_word),), jnp.uint32)
    place = jnp.arange(per_word, dtype=jnp.uint32)[None]
    if exact:
        digits = words[:, None] >> (bits * place) & jnp.uint32(m - 1)
    else:
        range_ = jnp.uint32(m**per_word)
        high, low = words >> 16, words & jnp.uint32(0xFFFF)
        value = (high * range_ + (low * range_ >> 16)) >> 16  # floor(w m^k / 2^32) without 64 bits
        digits = value[:, None] // m**place % jnp.uint32(m)
    return digits.reshape(-1)[:count]


def _weighted_choices(key: Key[Array, ""], probs: Array, parents: UInt[Array, "rows nodes"]) -> Array:
    """A rule of each parent, rule k with probability probs[parent, k]: as many as the cumulated sums that u exceeds."""
    sums = jnp.cumsum(probs, 1)
    cumulated = (sums[:, :-1] / sums[:, -1:]).astype(jnp.float32)  # exactly 1, which u never reaches, if all is spent
    u = jax.random.uniform(key, parents.shape, jnp.float32)
    index = parents.astype(jnp.int32)
    exceeded = [(u >= column[index]).astype(jnp.int32) for column in cumulated.T]
    return sum(exceeded, start=jnp.zeros_like(index))


def _expand(table: Rules, rule: Int[Array, "rows nodes"], symbol) -> UInt[Array, "rows children"]:
    """The tuples of the rules, side by side."""
    tuples = table.reshape(-1, table.shape[2]).astype(symbol)
    word = _WORDS.get(table.shape[2] * jnp.dtype(symbol).itemsize)
    if word is None:
        children = jnp.stack([column.at[rule].get(mode="promise_in_bounds") for column in tuples.T], -1)
    else:
        packed = jax.lax.bitcast_convert_type(tuples, word)
        children = jax.lax.bitcast_convert_type(packed.at[rule].get(mode="promise_in_bounds"), symbol)
    return children.reshape(len(rule), -1)  # (rows, nodes, s) -> (rows, children)
