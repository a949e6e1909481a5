"""Arrays from files: the same as NumPy's, damaged and huge files by name, and nothing read before it is checked."""

import io
import os
import zipfile

import numpy as np
import pytest

from hierarchical.files import memory
from hierarchical.files.arrays import open_arrays

ARRAYS = {
    "counts": np.arange(12).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "number": np.float32(2.5),
    "words": np.array(["a", "漢字"]),
    "empty": np.zeros((0, 3), np.uint8),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    np.savez(folder / "plain.npz", **ARRAYS)
    np.savez_compressed(folder / "packed.npz", **ARRAYS)
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("name", ["plain.npz", "packed.npz"])
def test_an_archive_has_the_arrays_of_numpy(name, files):
    file = open_arrays(files / name)
    assert {key: (header.shape, header.dtype) for key, header in file.headers.items()} == {
        key: (np.shape(array), np.asarray(array).dtype) for key, array in ARRAYS.items()
    }
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(file.read(key), array)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_file_of_one_array_is_read(name, files):
    np.testing.assert_array_equal(open_arrays(files / f"{name}.npy").read(""), ARRAYS[name])


def header_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_seven_tebibytes_are_refused_by_their_header(tmp_path):
    shape = (7 * 2**30, 32, 32)
    with (tmp_path / "sparse.npy").open("wb") as file:
        file.write(header_of(shape))
        os.truncate(file.fileno(), file.tell() + 7 * 2**40)  # no block of it exists
    (tmp_path / "short.npy").write_bytes(header_of(shape))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("images.npy", header_of(shape))
    with pytest.raises(ValueError, match=r"reading '.*sparse\.npy' needs 7 TiB of memory"):
        open_arrays(tmp_path / "sparse.npy").read("")
    for name in ("short.npy", "short.npz"):
        with pytest.raises(ValueError, match=rf"{name}' is not a whole \.np. file .* 7696581394432 bytes, and 0 bytes"):
            open_arrays(tmp_path / name)


def test_what_an_array_is_used_for_counts(files, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 200)
    file = open_arrays(files / "plain.npz")
    assert file.read("counts", copies=2).shape == (3, 4)
    with pytest.raises(ValueError, match=r"the array 'counts' of '.*plain\.npz' needs 288 bytes of memory, 200"):
        file.read("counts", copies=3)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.savez(tmp_path / "trap.npz", images=np.array([Trap(), Trap()], object))
    with pytest.raises(ValueError, match="holds Python objects: write an array of numbers, or of text"):
        open_arrays(tmp_path / "trap.npz").read("images")
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_foreign_files_are_named(files, tmp_path):
    whole = (files / "packed.npz").read_bytes()
    contents = {
        "empty.npz": b"",
        "foreign.npz": b"PNG" * 100,
        "cut.npz": whole[:-40],
        "empty.npy": b"",
        "text.npy": b"ab",
        "open.npy": header_of((1, 2)).replace(b"(1, 2)", b"(1, 2 "),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "letters.npz", "w") as archive:
        archive.writestr("a\x1b[2Jb.xml", "no array")
    for name in (*contents, "letters.npz"):
        with pytest.raises(ValueError, match=rf"{name}' is not a whole \.np[yz] file \(.+\): write it with numpy"):
            open_arrays(tmp_path / name)


def test_a_flipped_bit_is_an_error(files, tmp_path):
    """The archive's checksum covers the numbers: the error comes at the latest when they are read."""
    whole = bytearray((files / "plain.npz").read_bytes())
    place = whole.index(np.arange(12).tobytes()) + 9
    whole[place] ^= 4
    (tmp_path / "flipped.npz").write_bytes(whole)
    with pytest.raises(ValueError, match=r"flipped\.npz' is not a whole \.npz file \(Bad CRC-32"):
        open_arrays(tmp_path / "flipped.npz").read("counts")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_arrays(tmp_path / "nowhere.npy")
