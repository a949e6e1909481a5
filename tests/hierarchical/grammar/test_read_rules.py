"""Rule tables of the user's: a grammar is read back as written, and anything else is refused by name."""

import json

import jax
import numpy as np
import pytest

from hierarchical import RandomHierarchyModel, load_rules

RHM = RandomHierarchyModel((4, 3, 5), (2, 2, 1), (2, 3, 2), num_classes=2, key=jax.random.key(0))
TABLES = [np.asarray(table, np.int64) for table in RHM.rules]
PROBABILITIES = [None, np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5], [0.125, 0.875]]), None]


def write(path, tables, probabilities=None, num_symbols=None):
    """The content in the format that the suffix names."""
    rows = probabilities or [None] * len(tables)
    if path.suffix == ".npz":
        arrays = {f"rules_{level}": table for level, table in enumerate(tables)}
        arrays |= {f"probabilities_{level}": row for level, row in enumerate(rows) if row is not None}
        np.savez(path, **arrays | ({} if num_symbols is None else {"num_symbols": num_symbols}))
        return path
    content = {"rules": [np.asarray(table).tolist() for table in tables]}
    if probabilities:
        content["probabilities"] = [None if row is None else np.asarray(row).tolist() for row in rows]
    path.write_text(json.dumps(content | ({} if num_symbols is None else {"num_symbols": num_symbols})))
    return path


FORMATS = ["rules.json", "rules.npz"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_grammar_is_read_as_it_was_written(name, tmp_path):
    rhm = load_rules(write(tmp_path / name, TABLES, num_symbols=5))
    assert rhm.vocabulary == RHM.vocabulary and rhm.rule_log_probs == (None,) * 3
    for table, given in zip(rhm.rules, TABLES, strict=True):
        np.testing.assert_array_equal(table, given)
    assert rhm.entropy == RHM.entropy


@pytest.mark.parametrize("name", FORMATS)
def test_probabilities_are_those_of_the_file(name, tmp_path):
    rhm = load_rules(write(tmp_path / name, TABLES, PROBABILITIES))
    assert rhm.rule_log_probs[0] is None and rhm.rule_log_probs[2] is None
    np.testing.assert_allclose(np.exp(rhm.log_prob_of_rules(1)), PROBABILITIES[1], rtol=1e-12)
    assert rhm.num_symbols == max(TABLES[2].max() + 1, len(TABLES[2]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_tables_may_be_of_any_integers(dtype, tmp_path):
    rhm = load_rules(write(tmp_path / "rules.npz", [table.astype(dtype) for table in TABLES]))
    assert all(map(np.array_equal, rhm.rules, TABLES))


BAD = np.where(np.arange(8).reshape(4, 2) == 3, np.nan, 0.5)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([TABLES[0][0]],), r"table 0 is int\d+ of shape \(2, 2\): give integers \(parents, synonyms, branching\)"),
        (([TABLES[0] + 0.5],), r"table 0 is float64 of shape \(2, 2, 2\): give integers"),
        (([TABLES[0], TABLES[1][..., :1]],), "table 1 has rules of 1 symbol: a rule has at least 2"),
        (([TABLES[0] - 1],), r"table 0 uses symbols -1 \.\. \d: give 0 \.\. num_symbols - 1"),
        (([TABLES[0] + 2**32],), r"table 0 uses symbols 4294967\d+ \.\. 4294967\d+: give 0"),
        (([TABLES[0], TABLES[1][:2]],), r"table 0 uses symbols \d \.\. 3, but the next level has 2 symbols"),
        (([np.zeros((2, 2, 2), int)],), r"holds the tuple \(0, 0\) 4 times: every tuple has one parent"),
        ((TABLES, [None, BAD, None]), r"probabilities 1 are not all in \[0, 1\]: give finite numbers"),
        ((TABLES, [None, np.full((4, 2), 0.6), None]), "probabilities 1 of symbol 0 sum to 1.2: normalise them"),
        (
            (TABLES, [None, np.full((4, 3), 1 / 3), None]),
            r"probabilities 1 are float64 of shape \(4, 3\): give \(4, 2\)",
        ),
        ((TABLES, None, 0), "num_symbols = 0: give one positive integer"),
        ((TABLES, None, 7.5), "num_symbols = 7.5: give one positive integer"),
        (([],), "there are no tables: a hierarchy has at least one level of rules"),
    ],
)
def test_tables_that_are_not_a_grammar_are_named(name, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=rf"rules of '.*{name}': .*" + message):
        load_rules(write(tmp_path / name, *arguments))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is not JSON \(Expecting value"),
        (b"[" * 100_000, "the file is not JSON"),
        (b"\xff\x00", "the file is not JSON"),
        (b"[1, 2]", r'there is no list of tables: write {"rules": \[table, table, \.\.\.\]}'),
        (b'{"rules": 3}', "there is no list of tables"),
        (b'{"rules": [[[[0, 1], [2]]]]}', r"table 0 is <U\d+ of shape \(\): give integers"),
        (b'{"rules": [[[[0, 1]]]], "probability": []}', "the name 'probability' is not one of num_symbols, prob"),
        (b'{"rules": [[[[0, 1]]]], "probabilities": []}', "there are 1 tables: give a list of as many probabilities"),
        (b'{"rules": [[[["\\u001b[2J", "b"]]]]}', r"table 0 is <U4 of shape \(1, 1, 2\): give integers"),
    ],
)
def test_json_that_is_not_rules_is_named(content, message, tmp_path):
    (tmp_path / "rules.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_rules(tmp_path / "rules.json")
    assert str(caught.value).isprintable()


def test_files_of_other_kinds_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.json': give a \.json or \.npz file of rule tables"):
        load_rules("nowhere.json")
    (tmp_path / "rules.txt").write_text("a -> b c")
    with pytest.raises(ValueError, match=r"rules\.txt' is neither \.json nor \.npz: rename it"):
        load_rules(tmp_path / "rules.txt")
    (tmp_path / "rules.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rules\.npz' is not a whole \.npz file"):
        load_rules(tmp_path / "rules.npz")
    np.savez(tmp_path / "rules.npz", rules_0=TABLES[0], rules_2=TABLES[2])
    with pytest.raises(ValueError, match="the array 'rules_2' does not belong to the tables: name them rules_0"):
        load_rules(tmp_path / "rules.npz")
