"""Points of a user's own: every kind of file gives the same rows, and what is no table says why."""

import numpy as np
import pytest

from hierarchical import load_points

ROWS = np.arange(24.0).reshape(6, 4) / 7


def test_all_kinds_of_files_give_the_same_rows(tmp_path):
    np.save(tmp_path / "a.npy", ROWS.reshape(6, 2, 2))
    np.savez(tmp_path / "b.npz", only=ROWS)
    np.savez(tmp_path / "c.npz", labels=np.arange(6), points=ROWS)
    np.savetxt(tmp_path / "d.csv", ROWS, delimiter=",", header="a,b,c,d", comments="")
    np.savetxt(tmp_path / "e.tsv", ROWS, delimiter="\t")
    np.savetxt(tmp_path / "f.txt", ROWS, header="a comment")
    for name in ("a.npy", "b.npz", "c.npz", "d.csv", "e.tsv", "f.txt"):
        np.testing.assert_allclose(load_points(tmp_path / name), ROWS, rtol=1e-12)


def test_whole_numbers_become_floats(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(8, dtype=np.uint8).reshape(4, 2))
    assert load_points(str(tmp_path / "a.npy")).dtype == np.float64


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("none.npy", None, "no file .*none.npy"),
        ("row.npy", lambda path: np.save(path, np.arange(3.0)), r"shape \(3,\): give rows of numbers"),
        ("names.npy", lambda path: np.save(path, np.array([["a", "b"]])), "give rows of numbers"),
        ("nan.npy", lambda path: np.save(path, [[1.0, 2], [3, np.nan]]), "row 1, number 1 is nan: remove that row"),
        ("two.npz", lambda path: np.savez(path, a=ROWS, b=ROWS), "give the points the name points"),
        ("ragged.csv", lambda path: path.write_text("1,2\n3\n"), "is no table of numbers"),
        ("words.csv", lambda path: path.write_text("a,b\nc,d\n"), "is no table of numbers"),
        ("empty.csv", lambda path: path.write_text(""), "is no table of numbers"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, name, write, message):
    if write:
        write(tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_points(tmp_path / name)
