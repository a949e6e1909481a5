r"""Bits per character, and the character n-gram models that a model of text must beat.

An n-gram model of order n predicts a character c from the n - 1 characters before it, smoothed by interpolated
Kneser-Ney (Kneser & Ney, ICASSP 1995; interpolated form: Chen & Goodman, Computer Speech and Language 13, 1999). Let h
be a context of k - 1 characters and h' the same context without its oldest character. Then

```
p_k(c | h) = ([n_k(hc) - D_k]_+ + D_k T_k(h) p_{k-1}(c | h')) / N_k(h),     1 <= k <= n,                         (1)
N_k(h) = sum_c n_k(hc),     T_k(h) = number of c with n_k(hc) > 0,
```

and p_k(c | h) = p_{k-1}(c | h') if N_k(h) = 0. At the highest order, n_k counts occurrences. Below it, n_k(g) is the
number of different characters that precede g: a character that follows few others is a poor guess in a new context.
The discount is estimated from a_1 and a_2, the numbers of k-grams with n_k = 1 and n_k = 2,

```
D_k = (a_1 + 1) / (a_1 + 2 a_2 + 2).                                                                             (2)
```

Ney's estimate is a_1 / (a_1 + 2 a_2); the constants keep 0 < D_k < 1 if no k-gram has a count of 1 or 2. The recursion
ends at p_0 = 1 / 1,112,064, uniform over all characters of Unicode. So a character that is absent from the training
text costs finitely many bits: 20.1, plus those of the share that the discounts leave to it. At the start of a passage
the context is as long as the passage allows. By (1), sum_c p_k(c | h) = 1 for every h: n_k - D_k is positive wherever
n_k is, so the discounts remove D_k T_k(h) / N_k(h), which p_{k-1} distributes again.

Strings are integers here: over an alphabet of a characters, k-grams are k-digit numbers in base a + 1, the newest
character last. So counting is sorting.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Float64, Int, Int64

NUM_UNICODE = 0x110000 - 0x800  # code points that are not surrogates


class BitsPerCharacter(NamedTuple):
    """A cost in bits per character and its standard error, from `num_passages` passages taken as independent."""

    value: float
    stderr: float
    num_passages: int


class _Counts(eqx.Module):
    """n_k and, for each context, N_k and T_k; keys sorted."""

    grams: Int64[np.ndarray, " grams"]
    counts: Int64[np.ndarray, " grams"]
    contexts: Int64[np.ndarray, " contexts"]
    totals: Int64[np.ndarray, " contexts"]
    types: Int64[np.ndarray, " contexts"]
    discount: float

    def p(
        self, grams: Int64[np.ndarray, " n"], base: int, shorter: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Equation (1) for grams hc, given p_{k-1}(c | h')."""
        contexts = grams // base
        total = _look_up(self.contexts, self.totals, contexts)
        freed = self.discount * _look_up(self.contexts, self.types, contexts)
        kept = np.maximum(_look_up(self.grams, self.counts, grams) - self.discount, 0)
        return np.where(total > 0, (kept + freed * shorter) / np.maximum(total, 1), shorter)


class CharacterNGram(eqx.Module):
    """A Kneser-Ney character model of order `len(levels)`; `fit_ngram` makes it."""

    alphabet: Int64[np.ndarray, " a"]  # code points, sorted; the digit a is any other character
    levels: tuple[_Counts, ...]

    def log_prob(self, passage: str) -> Float64[np.ndarray, " characters"]:
        """Log-probability of each character given those before it in the passage, nats; finite for any character."""
        digits, base = _digits(self.alphabet, passage), len(self.alphabet) + 1
        p = np.full(len(passage), 1 / NUM_UNICODE)
        for k, level in enumerate(self.levels, start=1):
            p[k - 1 :] = level.p(_grams(digits, k, base), base, p[k - 1 :])
        return np.log(p)


def fit_ngram(passages: Sequence[str], order: int) -> CharacterNGram:
    """Count the n-grams of the training passages; four million characters, a long book, take a second.

    Args:
      passages: training text; no n-gram crosses from one passage into the next.
      order: characters per n-gram, at least 1: 1 is unigram, 2 bigram, 3 trigram.

    Raises:
      ValueError: if order < 1, no passage is as long as `order`, or n-grams over this alphabet overflow 63 bits (up to
        order 3 they never do).

    Source: Kneser & Ney, ICASSP 1995; Chen & Goodman, Computer Speech and Language 13, 1999.
    """
    if order < 1:
        raise ValueError(f"order = {order}: an n-gram has at least 1 character, 3 is a trigram")
    if max(map(len, passages), default=0) < order:
        raise ValueError(f"no passage has the {order} characters of an n-gram: lower the order or give a longer text")
    alphabet = np.unique(np.concatenate([_code_points(passage) for passage in passages]))
    base = len(alphabet) + 1
    if base**order >= 2**63:
        raise ValueError(f"order = {order} over {len(alphabet)} different characters overflows 63 bits: lower it")
    digits = [_digits(alphabet, passage) for passage in passages]
    levels = tuple(_count(digits, k, base, highest=k == order) for k in range(1, order + 1))
    return CharacterNGram(alphabet, levels)


def evaluate_ngram(model: CharacterNGram, passages: Sequence[str]) -> BitsPerCharacter:
    """Cost of held-out passages; errors as in `bits_per_character`."""
    nats = np.array([-model.log_prob(passage).sum() for passage in passages])
    return bits_per_character(nats, np.array([len(passage) for passage in passages]))


def bits_per_character(
    nats: Float[np.ndarray, " passages"], num_characters: Int[np.ndarray, " passages"]
) -> BitsPerCharacter:
    """r = sum of nats / (ln 2 * sum of characters), with the standard error of a ratio over independent passages.

    ```
    stderr^2 = B / (B - 1) * sum_b (bits_b - r characters_b)^2 / (sum characters)^2   (linearised; B passages)
    ```

    Args:
      nats: cost of each passage, from any model. Neighbouring windows are not independent: add their costs first.
      num_characters: characters in each passage.

    Raises:
      ValueError: if there are fewer than 2 passages, or the passages are empty.
    """
    if len(nats) < 2 or not num_characters.sum() > 0:
        raise ValueError(
            f"{len(nats)} passages of {num_characters.sum()} characters: an error bar needs 2 that are not empty"
        )
    bits = nats.astype(np.float64) / np.log(2)
    value = bits.sum() / num_characters.sum()
    residual = np.sum((bits - value * num_characters) ** 2) * len(nats) / (len(nats) - 1)
    return BitsPerCharacter(float(value), float(np.sqrt(residual) / num_characters.sum()), len(nats))


def _count(digits: Sequence[Int64[np.ndarray, " _"]], k: int, base: int, highest: bool) -> _Counts:
    """n_k, N_k and T_k: occurrences at the highest order, different characters before each k-gram below it."""
    length = k if highest else k + 1
    seen = np.concatenate([_grams(passage, length, base) for passage in digits])
    grams, counts = np.unique(seen if highest else np.unique(seen) % base**k, return_counts=True)
    contexts, starts = np.unique(grams // base, return_index=True)
    once, twice = np.sum(counts == 1), np.sum(counts == 2)
    return _Counts(
        grams=grams,
        counts=counts,
        contexts=contexts,
        totals=np.add.reduceat(counts, starts),
        types=np.diff(starts, append=len(grams)),
        discount=float((once + 1) / (once + 2 * twice + 2)),  # equation (2)
    )


def _grams(digits: Int64[np.ndarray, " characters"], k: int, base: int) -> Int64[np.ndarray, " grams"]:
    """All k-grams of a passage as numbers, in order; empty if the passage is shorter than k."""
    count = max(len(digits) - k + 1, 0)
    return sum((digits[i : i + count] * base ** (k - 1 - i) for i in range(k)), np.zeros(count, np.int64))


def _code_points(passage: str) -> Int64[np.ndarray, " characters"]:
    return np.frombuffer(passage.encode("utf-32-le"), "<u4").astype(np.int64)


def _digits(alphabet: Int64[np.ndarray, " a"], passage: str) -> Int64[np.ndarray, " characters"]:
    return _look_up(alphabet, np.arange(len(alphabet)), _code_points(passage), default=len(alphabet))


def _look_up(
    keys: Int64[np.ndarray, " keys"],
    values: Int64[np.ndarray, " keys"],
    wanted: Int64[np.ndarray, " n"],
    default: int = 0,
) -> Int64[np.ndarray, " n"]:
    """values[i] with keys[i] = wanted (keys are sorted), for each wanted number; the default if there is no such i."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], default)
