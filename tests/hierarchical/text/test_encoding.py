"""Encodings: a byte-order mark is obeyed; the rest is UTF-8, or refused with advice that works when it is followed."""

import os
import subprocess

import pytest

from hierarchical.text import encoding
from hierarchical.text.corpus import load_text

TEXT = "première ligne\r\n第二行 🙂\n" * 200
EUROPEAN = "Der Käfer saß auf dem Dach.\n" * 200


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_names_the_encoding(name, tmp_path):
    mark = "" if name.startswith("utf-8") else "\ufeff"
    (tmp_path / "text.txt").write_bytes((mark + TEXT).encode(name))
    assert load_text(tmp_path / "text.txt").characters == TEXT


@pytest.mark.parametrize("name", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
def test_an_encoding_without_its_mark_is_recognised_and_the_advice_works(name, tmp_path):
    path = tmp_path / "a 'text'; $(x).txt"
    path.write_bytes(EUROPEAN.encode(name))
    with pytest.raises(ValueError, match=f"looks like {name} without a byte-order mark: convert it: iconv") as caught:
        load_text(path)
    assert follow_advice(caught.value, tmp_path) == EUROPEAN


@pytest.mark.parametrize("name", ["UTF-16LE", "UTF-16BE"])
def test_no_other_alphabet_is_read_as_utf_8_without_its_mark(name, tmp_path):
    """Cyrillic, Arabic, Devanagari (whose high byte is a tab) and Thai are valid UTF-8 there by chance."""
    advice = r"perhaps it is not a text, or UTF-16 without a byte-order mark \(LE or BE\): iconv -f UTF-16LE -t UTF-8"
    for sentence in (
        "Привет, мир.\n",
        "مرحبا بالعالم ",
        "नमस्ते दुनिया ",
        "สวัสดีชาวโลก\n",
        "γεια σου κόσμε ",
        "第二行 第三行\n",
        "今日はいい天気ですね。散歩に行きましょう。",
        "안녕하세요 세계 ",
    ):
        with pytest.raises(ValueError, match=advice):
            encoding.decode((sentence * 300).encode(name), tmp_path)


@pytest.mark.parametrize(
    ("content", "convert_from", "text"),
    [
        (EUROPEAN.encode("cp1252"), "WINDOWS-1252", EUROPEAN),
        ("第二行 第三行\n".encode("utf-16-le") * 300, "UTF-16LE", "第二行 第三行\n" * 300),
    ],
)
def test_the_advice_for_other_encodings_works(content, convert_from, text, tmp_path):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"is not UTF-8 \(byte .*: iconv -f {convert_from} -t UTF-8") as caught:
        load_text(tmp_path / "text.txt")
    assert follow_advice(caught.value, tmp_path) == text


def follow_advice(error: ValueError, folder) -> str:
    command = str(error)[str(error).index("iconv") :]
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    return load_text(folder / "utf8.txt").characters


def test_a_mark_that_is_not_kept_is_named(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"\xff\xfe" + TEXT.encode("utf-16-le") + b"a")
    with pytest.raises(ValueError, match=r"is not UTF-16-LE although it begins with the byte-order mark .* damaged"):
        load_text(tmp_path / "text.txt")


def test_utf_8_that_is_cut_off_is_not_taken_for_another_encoding(tmp_path):
    (tmp_path / "text.txt").write_bytes((TEXT + "é").encode()[:-1])
    with pytest.raises(ValueError, match=r"is not UTF-8 \(.*unexpected end of data\): it is damaged or cut off"):
        load_text(tmp_path / "text.txt")


@pytest.mark.parametrize("control", ["\0", "\x1b", "\x0b", "\x7f"])
@pytest.mark.parametrize(
    ("name", "advice"), [("utf-8", "remove it; perhaps it is not a text, or UTF-16"), ("utf-16", "remove it$")]
)
def test_control_characters_are_refused_with_their_place(control, name, advice, tmp_path):
    content = f"\tfirst\r\n\fthe Käfer{control}\n" + "record " * 500 + control
    place = rf"holds the control character U\+{ord(control):04X} \(line 2, column 11\): {advice}"
    with pytest.raises(ValueError, match=place):
        encoding.decode(content.encode(name), tmp_path)


def test_what_is_not_a_file_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'/dev/zero' is neither a file nor a pipe"):
        load_text("/dev/zero")
    with (tmp_path / "sparse.txt").open("wb") as file:
        os.truncate(file.fileno(), 2**40)
    with pytest.raises(ValueError, match=r"reading '.*sparse\.txt' needs 6 TiB of memory"):
        load_text(tmp_path / "sparse.txt")


def test_a_pipe_is_read(tmp_path):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(b"piped " * 500)
    try:
        assert load_text(f"/dev/fd/{read}").characters == "piped " * 500
    finally:
        os.close(read)


def test_control_characters_of_a_name_are_not_printed(tmp_path):
    path = tmp_path / "a\x1b]0;b.txt"
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"\\x1b") as caught:
        load_text(path)
    assert str(caught.value).isprintable()
    path.write_text("text " * 1000)
    text = load_text(path)
    assert text.name.isprintable() and text.provenance.isprintable()


def test_every_mark_is_that_of_its_encoding():
    assert all(mark == "\ufeff".encode(name) for mark, name in encoding.MARKS.items())
