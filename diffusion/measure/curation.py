r"""Curation of a data set: weights that make it like another one, and balance between its groups.

*Importance weights.* To make data of a source like data of a target, each string x is weighed by p_target(x) /
p_source(x). The laws being unknown, their n-grams stand for them (n consecutive symbols, cut at multiples of n),

    ln w(x)  =  sum over the n-grams g of x of ln (f_target(g) / f_source(g)),                                     (1)

f being relative frequencies with a pseudocount. On a hierarchy (1) is exact if the two laws differ in rules whose nodes
have at most n leaves below them, n = s^l for rules l levels above the leaves, and nearly blind if their nodes have
more: a shift of rules is not seen by n-grams that are shorter than what the rules produce.

*Balance.* Groups that are common hide those that are rare. With every group drawn equally often, the effective number
of concepts, exp of the entropy of their frequencies, rises to the number of groups.

Sources: Xie et al., arXiv:2302.03169 (importance weights by n-grams); Vo et al., arXiv:2405.15613 (balance).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_whole

from .estimate import Estimate, mean_estimate

LARGEST_TABLE = 2**26  # n-grams that are counted


def ngram_log_weights(
    strings: Given,
    target: Given,
    source: Given,
    n: Whole,
    num_symbols: Whole,
    *,
    by_place: bool = False,
    pseudocount: float = 0.5,
) -> Float[np.ndarray, " strings"]:
    """ln w of equation (1), nats, up to a constant; not inside `jax.jit`.

    Args:
      strings: (strings, length) symbols 0 .. v - 1, those to weigh.
      target, source: (m, length) symbols, whose n-grams are counted.
      n: a divisor of the length.
      num_symbols: v.
      by_place: count the n-grams of each place by themselves, where places differ.
      pseudocount: added to every count; positive, or a string with an n-gram that the source lacks has weight inf.

    Raises:
      ValueError: if a shape does not fit, a symbol is out of range, n does not divide the length, or the v^n n-grams
        are more than 2^26.
    """
    n, v = as_whole("n", n, 1), as_whole("num_symbols", num_symbols, 1)
    if not pseudocount > 0:
        raise ValueError(f"pseudocount = {pseudocount}: must be positive")
    codes = [_codes(name, x, n, v) for name, x in (("strings", strings), ("target", target), ("source", source))]
    if len({rows.shape[1] for rows in codes}) > 1:
        raise ValueError(f"strings, target and source have {[n * rows.shape[1] for rows in codes]} symbols: one length")
    places = codes[0].shape[1]
    if by_place:
        codes = [rows + v**n * np.arange(places) for rows in codes]
    wanted, given = (_log_frequencies(rows, v**n, places if by_place else 1, pseudocount) for rows in codes[1:])
    return (wanted - given)[codes[0]].sum(1)


def effective_number(groups: Given) -> Estimate:
    """exp of the entropy of the groups' frequencies: as many equally common groups would have it.

    The entropy is that of the counts, with the bias of few data added to first order (Miller and Madow).

    Args:
      groups: (data,) whole numbers, 0 or more.

    Raises:
      ValueError: if they are not that, or fewer than two.
    """
    numbers = _groups(groups)
    counts = np.bincount(numbers)
    costs = -np.log(counts[numbers] / len(numbers))
    entropy = mean_estimate(costs)
    bias = (np.count_nonzero(counts) - 1) / (2 * len(numbers))
    value = jnp.exp(entropy.value + bias)
    return Estimate(value, value * entropy.stderr)


def balanced(key: AnyKey, groups: Given, size: Whole) -> Int[Array, " size"]:
    """Places of `size` data, with repetition, such that every group is drawn equally often.

    Args:
      groups: (data,) the group of each datum, whole numbers, 0 or more.

    Raises:
      ValueError: as of `effective_number`.
    """
    numbers = _groups(groups)
    counts = np.bincount(numbers)
    log_weights = jnp.asarray(-np.log(counts[numbers]))
    return jax.random.categorical(as_key(key), log_weights, shape=(as_whole("size", size, 1),))


def _groups(groups: Given) -> Int[np.ndarray, " data"]:
    numbers = np.asarray(groups)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise ValueError(f"groups of shape {numbers.shape} and {numbers.dtype}: give (data,) whole numbers, 0 or more")
    return np.unique(numbers, return_inverse=True)[1].reshape(-1)


def _codes(name: str, x: Given, n: int, v: int) -> Int[np.ndarray, "rows blocks"]:
    """The number of each n-gram."""
    rows = np.asarray(x)
    if rows.ndim != 2 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{name} of shape {rows.shape} and {rows.dtype}: give (rows, length) symbols")
    if rows.min() < 0 or rows.max() >= v:
        raise ValueError(f"{name} hold symbols {rows.min()} .. {rows.max()}, num_symbols = {v}: give 0 .. {v - 1}")
    if rows.shape[1] % n:
        raise ValueError(f"n = {n} does not divide the length {rows.shape[1]} of {name}")
    if v**n * (rows.shape[1] // n) > LARGEST_TABLE:
        raise ValueError(f"{v}^{n} n-grams at {rows.shape[1] // n} places are more than are counted: lower n")
    blocks = rows.astype(np.int64).reshape(len(rows), -1, n)
    return blocks @ (v ** np.arange(n))


def _log_frequencies(
    codes: Int[np.ndarray, "rows blocks"], ngrams: int, places: int, pseudocount: float
) -> Float[np.ndarray, " entries"]:
    counts = np.bincount(codes.reshape(-1), minlength=ngrams * places).reshape(places, ngrams) + pseudocount
    return np.log(counts / counts.sum(1, keepdims=True)).reshape(-1)
