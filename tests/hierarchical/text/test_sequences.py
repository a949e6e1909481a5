"""Token sequences of the user's: the same from every format; a table of anything else is refused by name."""

import numpy as np
import pytest

from hierarchical import Sequences, load_sequences
from hierarchical.files import memory

TOKENS = np.random.default_rng(0).integers(7, size=(5, 4))
TOKENS[0, 0] = 6  # so that the largest is there


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    for name in ("tokens", "sequences", "x_train", "data"):
        np.savez(folder / f"{name}.npz", **{name: TOKENS.astype(np.uint8)})
    np.save(folder / "plain.npy", TOKENS.astype(np.int16))
    rows = [list(map(str, row)) for row in TOKENS.tolist()]
    (folder / "commas.csv").write_text("\n".join(",".join(row) for row in rows))
    (folder / "semicolons.csv").write_bytes("\r\n".join("; ".join(row) for row in rows).encode("utf-16"))
    (folder / "spaces.txt").write_text("# four tokens\n\n" + "\n".join("\t ".join(row) for row in rows) + "\n\n")
    np.savetxt(folder / "savetxt.txt", TOKENS, fmt="%d", header="by numpy")
    return folder


NAMES = ["tokens.npz", "sequences.npz", "x_train.npz", "data.npz", "plain.npy", "commas.csv", "semicolons.csv"]


@pytest.mark.parametrize("name", [*NAMES, "spaces.txt", "savetxt.txt"])
def test_every_format_gives_the_same_tokens(name, files):
    sequences = load_sequences(files / name)
    np.testing.assert_array_equal(sequences.tokens, TOKENS)
    assert sequences.tokens.dtype == np.int32 and sequences.num_symbols == 7
    assert sequences.provenance == f"5 sequences of 4 tokens, file {name}"
    assert sequences.sha256 == load_sequences(files / "plain.npy").sha256


def test_the_alphabet_may_be_larger_than_what_occurs(files, tmp_path):
    assert load_sequences(str(files / "commas.csv"), num_symbols=9).num_symbols == 9
    np.savez(tmp_path / "named.npz", tokens=TOKENS, num_symbols=8)
    assert load_sequences(tmp_path / "named.npz").num_symbols == 8
    assert load_sequences(tmp_path / "named.npz", 9).num_symbols == 9
    with pytest.raises(ValueError, match=r"commas\.csv': tokens are \d \.\. 6, num_symbols = 6: give 0"):
        load_sequences(files / "commas.csv", 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1 2\n0 1\n", r"line 2 of '.*set\.txt' has 2 tokens, the lines above 3: give sequences of one length"),
        ("a,b\n0,1\n", r"line 1 of '.*set\.txt' has 'a', not an integer"),
        ("0,1\n1,1.0\n", r"line 2 of '.*set\.txt' has '1\.0', not an integer"),
        ("0,1\n1,,1\n", r"line 2 of '.*set\.txt' has '', not an integer"),
        ("0 1\n1 1_0\n", r"line 2 of '.*set\.txt' has '1_0', not an integer"),
        ("0 1\n1 \x1b[2J\n", r"set\.txt' holds the control character U\+001B \(line 2, column 3\)"),
        ("0 1\n1 " + "9" * 50, r"line 2 of '.*set\.txt' has '9{40}', not an integer below 10\^18"),
        ("0 1\n1 ４\n", r"line 2 of '.*set\.txt' has '４', not an integer"),
        ("0 1\n1 -1\n", r"set\.txt' has tokens from -1 to 1: give 0 \.\. 2147483646 at most"),
        ("0 1\n1 2147483647\n", r"set\.txt' has tokens from 0 to 2147483647: give 0"),
        ("", r"set\.txt' has no tokens: give one sequence of integers a line"),
        ("0 1 1 0\n", r"set\.txt': tokens of shape \(1, 4\): give at least 2 sequences of at least 2 tokens"),
        ("0\n1\n", r"set\.txt': tokens of shape \(2, 1\): give at least 2 sequences"),
        ("0 0\n0 0\n", r"set\.txt': num_symbols = 1: sequences of one symbol are equal"),
    ],
)
def test_a_text_that_is_not_sequences_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / "set.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_sequences(tmp_path / "set.txt")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"words": TOKENS}, "has words: give the sequences the name tokens"),
        ({}, "has no arrays: give the sequences the name tokens"),
        ({"tokens": TOKENS, "data": TOKENS}, "has tokens and data: keep the array that is meant"),
        ({"tokens": TOKENS.astype(float)}, r"tokens of .* is float64 of shape \(5, 4\): give integers of shape"),
        ({"tokens": TOKENS > 3}, r"tokens of .* is bool of shape \(5, 4\): give integers"),
        ({"tokens": TOKENS[0]}, r"tokens of .* is int64 of shape \(4,\): give integers"),
        ({"tokens": TOKENS[:0]}, r"tokens of shape \(0, 4\): give at least 2 sequences"),
        ({"tokens": TOKENS.astype(np.uint64) + np.uint64(2**63)}, "has tokens from 922"),
        ({"tokens": TOKENS, "num_symbols": 7.5}, r"num_symbols of .* is float64 of shape \(\): give one integer"),
        ({"tokens": TOKENS, "num_symbols": 3}, "num_symbols = 3: give 0"),
    ],
)
def test_arrays_that_are_not_sequences_are_named(arrays, message, tmp_path):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_sequences(tmp_path / "set.npz")


def test_what_is_not_there_or_does_not_fit_is_named(files, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.csv': give an \.npz or \.npy file, or a text"):
        load_sequences("nowhere.csv")
    monkeypatch.setattr(memory, "available_memory", lambda: 60)
    for name in ("plain.npy", "commas.csv"):
        with pytest.raises(ValueError, match=rf"reading '.*{name}' needs \d+ bytes of memory, 60 bytes are free"):
            load_sequences(files / name)


def test_sequences_are_checked_however_they_are_made():
    with pytest.raises(ValueError, match=r"tokens are -1 \.\. -1, num_symbols = 3"):
        Sequences(np.full((2, 2), -1, np.int32), 3, "made", "made here")
