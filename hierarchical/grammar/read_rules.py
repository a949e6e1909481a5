"""Rule tables of the user's: a grammar from a file.

A table holds for each symbol of a level its m rules, tuples of s symbols of the next level: integers (parents,
synonyms, branching). Tables come root level first. Two formats hold the same:

| | tables | optional | optional |
|---|---|---|---|
| `.json` | `{"rules": [table, table, ...],` | `"probabilities": [table, null, ...],` | `"num_symbols": 8}` |
| `.npz` | arrays `rules_0`, `rules_1`, ... | arrays `probabilities_0`, ... | a number `num_symbols` |

`probabilities` are p_l(k | a) of each rule, (parents, synonyms); a level without them has uniform rules. `num_symbols`
is the size of the leaf alphabet, by default as `RandomHierarchyModel.from_rules` has it.
"""

import itertools
import json
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer, Shaped

from ..files.arrays import ArrayFile, open_arrays
from ..files.memory import check_memory
from ..files.printable import printable
from .hierarchy import RandomHierarchyModel

_KEYS = {"rules", "probabilities", "num_symbols"}
_MEMORY = 20  # bytes for each byte of JSON: a digit and its comma become a pointer and an int64
_LARGEST = np.iinfo(np.int32).max
_ROUNDING = 1e-5  # of a sum of probabilities, as from float32


class _Content(NamedTuple):
    """What a file holds, not yet checked."""

    tables: list[Shaped[np.ndarray, "..."]]
    probabilities: list[Shaped[np.ndarray, "..."] | None]
    num_symbols: Shaped[np.ndarray, "..."] | None


def load_rules(path: str | pathlib.Path) -> RandomHierarchyModel:
    """The grammar of a `.json` or `.npz` file; formats as in the table above.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged or has other names, a table is not of integers in three axes, probabilities are
        not in [0, 1] or do not sum to 1; or as `RandomHierarchyModel.from_rules`, if a tuple has two parents.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}: give a .json or .npz file of rule tables")
    if path.suffix.lower() not in (".json", ".npz"):
        raise ValueError(f"{str(path)!r} is neither .json nor .npz: rename it")
    try:
        content = _of_arrays(open_arrays(path)) if path.suffix.lower() == ".npz" else _of_json(path)
        return _grammar(content)
    except ValueError as error:
        raise ValueError(f"rules of {str(path)!r}: {printable(error)}") from error


def _of_json(path: pathlib.Path) -> _Content:
    check_memory(_MEMORY * path.stat().st_size, "reading them")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is not JSON ({error}): write it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("rules"), list):
        raise ValueError('there is no list of tables: write {"rules": [table, table, ...]}')
    unknown = sorted(set(content) - _KEYS)
    if unknown:
        raise ValueError(f"the name {unknown[0]!r} is not one of {', '.join(sorted(_KEYS))}")
    tables, rows, size = content["rules"], content.get("probabilities"), content.get("num_symbols")
    if rows is not None and not (isinstance(rows, list) and len(rows) == len(tables)):
        raise ValueError(f"there are {len(tables)} tables: give a list of as many probabilities, null where uniform")
    return _Content(
        [_array(table) for table in tables],
        [None if row is None else _array(row) for row in rows or [None] * len(tables)],
        None if size is None else _array(size),
    )


def _array(nested) -> Shaped[np.ndarray, "..."]:
    """Nested lists as an array; lists of different lengths as text, which `_grammar` refuses."""
    try:
        return np.asarray(nested)
    except ValueError:
        return np.asarray("lists of different lengths")


def _of_arrays(file: ArrayFile) -> _Content:
    depth = next(level for level in itertools.count() if f"rules_{level}" not in file.headers)
    known = {f"{kind}_{level}" for kind in ("rules", "probabilities") for level in range(depth)} | {"num_symbols"}
    unknown = sorted(set(file.headers) - known)
    if unknown:
        raise ValueError(
            f"the array {unknown[0]!r} does not belong to the tables: name them rules_0, rules_1, ..., their "
            f"probabilities_0, ..., without gaps, and num_symbols"
        )
    rows = [f"probabilities_{level}" for level in range(depth)]
    return _Content(
        [file.read(f"rules_{level}", copies=3) for level in range(depth)],
        [file.read(name, copies=3) if name in file.headers else None for name in rows],
        file.read("num_symbols") if "num_symbols" in file.headers else None,
    )


def _grammar(content: _Content) -> RandomHierarchyModel:
    if not content.tables:
        raise ValueError("there are no tables: a hierarchy has at least one level of rules")
    tables = [_checked_table(level, table) for level, table in enumerate(content.tables)]
    log_probs = [
        None if row is None else _log_probs(level, row, table.shape[:2])
        for level, (row, table) in enumerate(zip(content.probabilities, tables, strict=True))
    ]
    size = content.num_symbols
    if size is not None and (size.dtype.kind not in "iu" or size.ndim or not 1 <= size <= _LARGEST):
        raise ValueError(f"num_symbols = {size}: give one positive integer")
    return RandomHierarchyModel.from_rules(tables, log_probs, num_symbols=None if size is None else int(size))


def _checked_table(level: int, table: Shaped[np.ndarray, "..."]) -> Integer[np.ndarray, "parents synonyms branching"]:
    if table.dtype.kind not in "iu" or table.ndim != 3 or 0 in table.shape:
        raise ValueError(
            f"table {level} is {table.dtype} of shape {table.shape}: give integers (parents, synonyms, branching), as "
            f"many rules for every parent and symbols for every rule"
        )
    if table.shape[2] < 2:
        raise ValueError(f"table {level} has rules of 1 symbol: a rule has at least 2")
    if not 0 <= table.min() <= table.max() <= _LARGEST:
        raise ValueError(f"table {level} uses symbols {table.min()} .. {table.max()}: give 0 .. num_symbols - 1")
    return table


def _log_probs(
    level: int, probs: Shaped[np.ndarray, "..."], shape: tuple[int, ...]
) -> Float64[np.ndarray, "parents synonyms"]:
    if probs.dtype.kind not in "iuf" or probs.shape != shape:
        raise ValueError(f"probabilities {level} are {probs.dtype} of shape {probs.shape}: give {shape} numbers")
    if not (probs >= 0).all() or not np.isfinite(probs).all():
        raise ValueError(f"probabilities {level} are not all in [0, 1]: give finite numbers that are not negative")
    sums = probs.sum(-1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > _ROUNDING:
        raise ValueError(f"probabilities {level} of symbol {worst} sum to {sums[worst]}: normalise them")
    with np.errstate(divide="ignore"):  # a rule that is never used has ln 0
        return np.log(probs.astype(np.float64))
