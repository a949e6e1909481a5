"""What is printed of a stranger's file moves no cursor and stops no print."""

import unicodedata

import pytest

from hierarchical.files.printable import printable


def test_no_control_character_survives():
    every = "".join(map(chr, range(0x110000)))
    kinds = {unicodedata.category(letter) for letter in printable(every)}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert printable(every).encode()  # no surrogate
    marks_of_direction = {chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in
                          {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}}  # fmt: skip
    assert not marks_of_direction & set(printable(every))


@pytest.mark.parametrize("text", ["", "naïve — ça 漢字 🙂👩‍👩‍👧 e\u0301 'a' \\n"])
def test_writing_stays(text):
    assert printable(text) == text


def test_escapes_are_those_of_python():
    assert printable("\x1b[2J\n\u202e\udcff") == r"\x1b[2J\n\u202e\udcff"
    assert printable(ValueError("a\tb")) == r"a\tb"
