"""Text as tokens: byte pairs, exactly invertible, with the length of every token in characters.

Byte-pair encoding starts from the 256 bytes and repeatedly adds the most frequent pair of neighbours as a new token
(Sennrich, Haddow & Birch, arXiv:1508.07909; on bytes: Radford et al. 2019). So *every* text can be encoded and decoded.
A token may end inside a character of several bytes. A character is therefore counted in the token that holds its first
byte, and for any model of tokens

```
bits per character = (sum of nats over tokens) / (ln 2 * sum of token_characters over the same tokens)               (1)
```

is exact on a whole passage. It does not depend on the vocabulary, and models without a vocabulary have it too.

Pairs are counted within words: runs of letters, of digits, of other marks, or of white space. Adding one pair costs a
pass over every word that holds it, so a text without spaces, which is one long word, costs as many passes over all of
it as there are tokens. Training therefore cuts words after `LONGEST_WORD` characters: 10^6 random letters take seconds
instead of a minute. Encoding cuts nothing.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64

from ..files.printable import printable
from .corpus import HeldOutSplit
from .sequences import NumberedSymbols

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NUM_BYTES = 256
LONGEST_WORD = 256
_WORD_ENDS = re.compile(  # where a longer run of letters, digits, other marks or white space is cut
    "|".join(rf"{kind}{{{LONGEST_WORD}}}(?={kind})" for kind in (r"[^\W\d_]", r"\d", r"(?:[^\w\s]|_)", r"\s"))
)
_SLOW = 10**6  # characters in words that are cut, above which training shows its progress
_SPACE, _LETTER, _OTHER = range(3)


@dataclasses.dataclass(frozen=True)
class BytePairTokenizer:
    """Byte-pair code of any text; `json` is its whole state, and what a checkpoint stores.

    Raises:
      ValueError: if `json` does not describe a byte-level byte-pair tokenizer.
    """

    json: str

    def __post_init__(self):
        if not {bytes([byte]) for byte in range(NUM_BYTES)} <= set(self.token_bytes):
            raise ValueError("this tokenizer lacks some of the 256 bytes: make it with `train_tokenizer`")

    @property
    def vocab_size(self) -> int:
        """Number of tokens; their ids are 0 .. vocab_size - 1."""
        return len(self.token_bytes)

    @functools.cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each token."""
        tokens = sorted(self._backend.get_vocab().items(), key=lambda item: item[1])
        byte_of = _byte_alphabet()
        if not all(letter in byte_of for token, _ in tokens for letter in token):
            raise ValueError("this tokenizer is not of the byte-level kind: make it with `train_tokenizer`")
        return tuple(bytes(byte_of[letter] for letter in token) for token, _ in tokens)

    @functools.cached_property
    def token_characters(self) -> Int32[np.ndarray, " v"]:
        """Characters that begin in each token (UTF-8 bytes other than 10xxxxxx), for equation (1)."""
        return np.array([sum(byte >> 6 != 0b10 for byte in token) for token in self.token_bytes], np.int32)

    def words(self, tokens: Int[np.ndarray, "*windows length"]) -> Int64[np.ndarray, "*windows length"]:
        """For each token the number of its word within its window, 0, 1, ...

        A word begins at white space, a part of it, and where letters, digits and bytes above 127 meet other marks.
        """
        first, last = self._ends
        before, here = last[tokens[..., :-1]], first[tokens[..., 1:]]
        begins = (here == _SPACE) | ((before != _SPACE) & (here != before))
        return np.concatenate([np.zeros_like(tokens[..., :1]), np.cumsum(begins, -1)], -1).astype(np.int64)

    @functools.cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The kind of the first and of the last byte of each token."""
        kinds = [(_kind(token[0]), _kind(token[-1])) for token in self.token_bytes]
        first, last = np.array(kinds).T
        return first, last

    def encode(self, text: str) -> Int32[np.ndarray, " tokens"]:
        """Token ids of a text, in any script."""
        return self.encode_passages([text])[0]

    def encode_passages(self, passages: Sequence[str]) -> tuple[Int32[np.ndarray, " _"], ...]:
        """Token ids of each passage, encoded in parallel."""
        return tuple(np.array(code.ids, np.int32) for code in self._backend.encode_batch_fast(list(passages)))

    def decode(self, tokens: Int[np.ndarray, " tokens"]) -> str:
        """The text that was encoded, exactly. A model may write bytes that are not UTF-8: they become U+FFFD.

        Raises:
          ValueError: if an id is not in [0, vocab_size), as a mask symbol is not.
        """
        if len(tokens) and not 0 <= np.min(tokens) <= np.max(tokens) < self.vocab_size:
            raise ValueError(
                f"token ids from {np.min(tokens)} to {np.max(tokens)}, but the vocabulary ends at "
                f"{self.vocab_size - 1}: replace masked sites before decoding"
            )
        return b"".join(self.token_bytes[token] for token in tokens).decode("utf-8", errors="replace")

    @functools.cached_property
    def _backend(self) -> "Tokenizer":
        library = _import_tokenizers()
        try:
            return library.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises no narrower class
            raise ValueError(
                f"the JSON is not that of a tokenizer ({printable(error)}): give the `json` of a BytePairTokenizer"
            ) from error


class TokenWindows(NamedTuple):
    """Equally long contiguous pieces of a text, one in each row.

    Windows of one held-out block resemble each other. For an error bar, first add the costs of each block:
    `np.bincount(held_out_block, cost)`; errors over single windows are too small (by half on the King James Bible).
    """

    train: Int32[np.ndarray, "num_windows length"]
    held_out: Int32[np.ndarray, "num_held_out length"]
    held_out_block: Int64[np.ndarray, " num_held_out"]


@dataclasses.dataclass(frozen=True, eq=False)
class TokenCorpus:
    """Token ids of the training passages and of the held-out blocks of a text, or of sequences."""

    tokenizer: BytePairTokenizer | NumberedSymbols
    train: tuple[Int32[np.ndarray, " _"], ...]
    held_out: tuple[Int32[np.ndarray, " _"], ...]

    def windows(self, length: int) -> TokenWindows:
        """Non-overlapping windows of `length` tokens, in the order of the text.

        A window never crosses a join of passages; the last tokens of a passage, fewer than `length`, are not used.

        Raises:
          ValueError: if no training passage, or no held-out block, has `length` tokens.
        """
        train, _ = _cut(self.train, length, "training passage")
        held_out, block = _cut(self.held_out, length, "held-out block")
        return TokenWindows(train, held_out, block)


def train_tokenizer(passages: Sequence[str], vocab_size: int) -> BytePairTokenizer:
    """Learn a byte-pair vocabulary; the same passages give the same tokenizer.

    A text with more than 10^6 characters in words of more than `LONGEST_WORD` takes about a minute per 10^7 characters,
    on two cores, and draws a progress bar on a terminal.

    Args:
      passages: training text only, so that held-out text has no part in the vocabulary.
      vocab_size: number of tokens, at least 256. If fewer pairs occur twice in the text, the tokenizer has fewer: see
        its `vocab_size`.

    Raises:
      ValueError: if vocab_size < 256.
      ImportError: if the package `tokenizers` is not installed.
    """
    if vocab_size < NUM_BYTES:
        raise ValueError(
            f"vocab_size = {vocab_size}: each of the {NUM_BYTES} bytes needs a token, give {NUM_BYTES} or more"
        )
    library = _import_tokenizers()
    byte_level = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = byte_level
    pieces = [_words_cut(passage) for passage in passages]
    in_long_words = LONGEST_WORD * sum(len(cut) - 1 for cut in pieces)
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=in_long_words > _SLOW,
        initial_alphabet=byte_level.alphabet(),
    )
    tokenizer.train_from_iterator(itertools.chain.from_iterable(pieces), trainer)
    return BytePairTokenizer(tokenizer.to_str())


def tokenize(split: HeldOutSplit, tokenizer: BytePairTokenizer) -> TokenCorpus:
    """Encode each passage of a text on its own."""
    return TokenCorpus(tokenizer, tokenizer.encode_passages(split.train), tokenizer.encode_passages(split.held_out))


def _words_cut(passage: str) -> list[str]:
    """The passage in pieces, cut only within words of more than `LONGEST_WORD` characters."""
    ends = [0, *(match.end() for match in _WORD_ENDS.finditer(passage)), len(passage)]
    return [passage[start:end] for start, end in itertools.pairwise(ends)]


def _cut(
    passages: Sequence[Int32[np.ndarray, " _"]], length: int, kind: str
) -> tuple[Int32[np.ndarray, "n length"], Int64[np.ndarray, " n"]]:
    """Windows, and for each the index of its passage."""
    longest = max(map(len, passages))
    if not 1 <= length <= longest:
        raise ValueError(
            f"length = {length}, but the longest {kind} has {longest} tokens: give 1 to {longest}, "
            "use a longer text, or hold out longer blocks"
        )
    windows = [tokens[: len(tokens) // length * length].reshape(-1, length) for tokens in passages]
    return np.concatenate(windows), np.repeat(np.arange(len(windows)), [len(rows) for rows in windows])


def _kind(byte: int) -> int:
    if chr(byte).isspace():
        return _SPACE
    return _LETTER if byte > 127 or chr(byte).isalnum() else _OTHER


def _byte_alphabet() -> dict[str, int]:
    """The byte behind each letter in which the library spells tokens: itself if Latin-1 prints it, or 256, 257, ..."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(NUM_BYTES + i): byte for i, byte in enumerate(others)}


def _import_tokenizers():
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('byte-pair tokens need the package tokenizers: pip install "phasetree[text]"') from error
    return tokenizers
