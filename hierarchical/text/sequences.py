"""Token sequences of the user's: integers in a file, read as they are.

A sequence is a row of tokens 0 .. v - 1, and all rows have one length. So whatever has been turned into tokens (a
protein, music, strings of another grammar) can be trained on like a text. Formats:

| suffix | content |
|---|---|
| `.npz` | an array (n, length) named `tokens`, `sequences`, `x_train` or `data`, and perhaps a number `num_symbols` |
| `.npy` | an array (n, length) |
| any other | text, one sequence a line: integers between commas, semicolons or white space; `#` begins a comment line |
"""

import dataclasses
import hashlib
import pathlib
import re

import numpy as np
from jaxtyping import Int32, Int64, Integer

from ..files.arrays import ArrayFile, is_archive, open_arrays
from ..files.memory import check_memory
from ..files.printable import printable
from .encoding import read_characters

NAMES = ("tokens", "sequences", "x_train", "data")
LARGEST = np.iinfo(np.int32).max - 1  # so that the mask, one more, is an int32 too
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_SEPARATORS = (",", ";")
_MEMORY = 16  # bytes for each character: a token of one digit and its separator become an int64, twice


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Rows of tokens and the size of their alphabet; `provenance` names the source."""

    tokens: Int32[np.ndarray, "n length"]
    num_symbols: int
    """v: tokens are 0 .. v - 1."""
    name: str
    provenance: str

    def __post_init__(self):
        n, length = self.tokens.shape
        if n < 2 or length < 2:
            raise ValueError(f"tokens of shape {(n, length)}: give at least 2 sequences of at least 2 tokens")
        low, high = int(self.tokens.min()), int(self.tokens.max())
        if low < 0 or high >= self.num_symbols:
            raise ValueError(f"tokens are {low} .. {high}, num_symbols = {self.num_symbols}: give 0 .. num_symbols - 1")
        if self.num_symbols < 2:
            raise ValueError(f"num_symbols = {self.num_symbols}: sequences of one symbol are equal, give at least 2")

    @property
    def sha256(self) -> str:
        """Fingerprint of the tokens, which identifies the training set in a checkpoint."""
        return hashlib.sha256(np.ascontiguousarray(self.tokens).tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class NumberedSymbols:
    """The vocabulary of sequences, in the place of a tokenizer: a token is written as its number and is a word."""

    vocab_size: int

    def words(self, tokens: Integer[np.ndarray, "*windows length"]) -> Int64[np.ndarray, "*windows length"]:
        """For each token the number of its word within its window: its place."""
        return np.broadcast_to(np.arange(tokens.shape[-1], dtype=np.int64), tokens.shape)

    def decode(self, tokens: Integer[np.ndarray, " tokens"]) -> str:
        """The numbers, with spaces between."""
        return " ".join(map(str, tokens.tolist()))


def load_sequences(path: str | pathlib.Path, num_symbols: int | None = None) -> Sequences:
    """Token sequences of a file; formats as in the table above.

    Args:
      num_symbols: v; default: the number in an `.npz` file, or else the largest token + 1. Give it if the largest
        token may be absent from the file.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, holds anything but integers, rows of different lengths, a negative token, or
        one of at least `num_symbols`; or if it needs more memory than there is.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}: give an .npz or .npy file, or a text file of integers")
    if path.suffix.lower() in (".npz", ".npy"):
        tokens, named = _read_arrays(path)
    else:
        tokens, named = _parse(read_characters(path), path), None
    v = next((size for size in (num_symbols, named) if size is not None), int(tokens.max(initial=0)) + 1)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() <= LARGEST:
        raise ValueError(f"{str(path)!r} has tokens from {tokens.min()} to {tokens.max()}: give 0 .. {LARGEST} at most")
    name = printable(path.name)
    provenance = f"{len(tokens)} sequences of {tokens.shape[1]} tokens, file {name}"
    try:
        return Sequences(tokens.astype(np.int32), v, name, provenance)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def _read_arrays(path: pathlib.Path) -> tuple[Integer[np.ndarray, "n length"], int | None]:
    """The tokens, and the number of symbols if the file holds it."""
    file = open_arrays(path)
    name = file.only(NAMES) if is_archive(path) else ""
    if name is None:
        names = printable(", ".join(file.headers)) or "no arrays"
        raise ValueError(f"{str(path)!r} has {names}: give the sequences the name {NAMES[0]}")
    tokens = _read_integers(file, name, axes=2)
    return tokens, int(_read_integers(file, "num_symbols", axes=0)) if "num_symbols" in file.headers else None


def _read_integers(file: ArrayFile, name: str, axes: int) -> Integer[np.ndarray, "..."]:
    shape, dtype = file.headers[name]
    if dtype.kind not in "iu" or len(shape) != axes:
        expected = "integers of shape (n, length)" if axes else "one integer"
        raise ValueError(f"{name or 'the array'} of {str(file.path)!r} is {dtype} of shape {shape}: give {expected}")
    return file.read(name, copies=2)


def _parse(characters: str, path: pathlib.Path) -> Integer[np.ndarray, "n length"]:
    """The tokens of a text; the first line that does not fit is named."""
    check_memory(_MEMORY * len(characters), f"reading {str(path)!r}")
    separator = next((mark for mark in _SEPARATORS if mark in characters), None)  # None: white space
    rows = []
    for number, line in enumerate(characters.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        rows.append(_parse_line(line.split(separator), f"line {number} of {str(path)!r}"))
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"line {number} of {str(path)!r} has {len(rows[-1])} tokens, the lines above {len(rows[0])}: give "
                f"sequences of one length"
            )
    if not rows:
        raise ValueError(f"{str(path)!r} has no tokens: give one sequence of integers a line")
    return np.stack(rows)


def _parse_line(fields: list[str], where: str) -> Int64[np.ndarray, " length"]:
    wrong = next((field for field in fields if not _INTEGER.fullmatch(field)), None)
    if wrong is not None:
        raise ValueError(f"{where} has {wrong.strip()[:40]!r}, not an integer below 10^18: give only integers")
    return np.array([int(field) for field in fields], np.int64)
