"""From bytes to characters: UTF-8, or what a byte-order mark names; the rest is refused with advice that fits it.

A byte-order mark is the character U+FEFF at the beginning of a file. Its bytes differ between UTF-8, UTF-16 and UTF-32,
so it names the encoding. A file without it is read as UTF-8 or refused: the bytes of eight-bit encodings do not tell
them apart.

UTF-16 and UTF-32 without a mark show themselves by control characters, which no other text holds: the high bytes of
alphabets are below 0x20, and low bytes have any value. The characters of a text share few high bytes and have many low
ones, which tells the order of the two; in the other order, and from bytes that are no text, come characters that nobody
has assigned. Such bytes may be valid UTF-8 by chance, so control characters are refused there too.
"""

import codecs
import pathlib
import re
import shlex
import unicodedata

from ..files.memory import check_memory
from ..files.printable import printable

MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")  # not tab, newline, form feed, return
_CONTROL_BYTE = re.compile(b"[\x00-\x08\x0b\x0e-\x1f]")
_FOREIGN_BYTE = re.compile(b"[^\x20-\x7e]")
_HIGH_BYTES = (("UTF-32BE", "UTF-16BE"), ("UTF-32LE", "UTF-16LE"))  # at even places, at odd places
_SAMPLE = 2**16  # bytes of which an encoding is guessed
_STRANGE = 0.01  # share of unassigned characters in a text, at most: Python may not know the newest
_MEMORY = 6  # bytes for each byte of a file: the byte, up to 4 for its character, and decoding


def read_characters(path: pathlib.Path) -> str:
    """The characters of a text file, line ends as they are, without the byte-order mark.

    Raises:
      ValueError: if the path is not that of a file, the file needs more memory than there is, or its encoding is
        neither UTF-8 nor named by a byte-order mark, or it holds control characters.
    """
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a directory: give the path of one text file in it")
    if not (path.is_file() or path.is_fifo()):
        raise ValueError(f"{str(path)!r} is neither a file nor a pipe: give the path of a text file")
    check_memory(_MEMORY * path.stat().st_size, f"reading {str(path)!r}")
    return decode(path.read_bytes(), path)


def decode(content: bytes, path: pathlib.Path) -> str:
    """The characters of a file's content; `path` is for messages.

    Raises:
      ValueError: if the content is neither UTF-8 nor what its byte-order mark promises, or holds control characters.
    """
    mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
    try:
        characters = content[len(mark) :].decode(MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(_complaint(content, path, mark, error)) from error
    if control := _CONTROL.search(characters):
        unmarked = None if mark else _without_mark(content, is_utf_8=True)
        raise ValueError(_looks_like(path, unmarked) if unmarked else _holds(path, characters, control.start()))
    return characters


def _without_mark(content: bytes, is_utf_8: bool) -> str | None:
    """UTF-16 or UTF-32 whose mark is missing, by name; None if the content is neither."""
    sample = content[:_SAMPLE]
    # bytes at even and at odd places are alike in other texts, which hold few control characters, if any
    kinds = [len(set(sample[place::2])) for place in (0, 1)]
    is_varied = 5 * len(_FOREIGN_BYTE.findall(sample)) > len(sample) or 5 * min(kinds) < 4 * max(kinds)
    if not (is_varied and _CONTROL_BYTE.search(sample)):
        return None
    for place in sorted((1, 0), key=lambda place: (kinds[place], -sample[place::2].count(0))):  # of the high bytes
        is_alphabet = 4 * sum(byte < 0x20 for byte in sample[place::2]) > len(sample)
        for encoding in _HIGH_BYTES[place] if is_alphabet or not is_utf_8 else ():
            if _is_text(sample, encoding):
                return encoding
    return None


def _is_text(sample: bytes, encoding: str) -> bool:
    """Whether the bytes, perhaps cut within a character, become characters that have a meaning to all."""
    try:
        characters = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    strange = [c for c in characters if _CONTROL.match(c) or unicodedata.category(c) in ("Cn", "Co")]
    return len(strange) <= _STRANGE * len(characters)


def _looks_like(path: pathlib.Path, encoding: str) -> str:
    return f"{str(path)!r} looks like {encoding} without a byte-order mark: convert it: {_command(path, encoding)}"


def _holds(path: pathlib.Path, characters: str, place: int) -> str:
    """A complaint about the control character at `place`."""
    line, column = characters.count("\n", 0, place) + 1, place - characters.rfind("\n", 0, place)
    return (
        f"{str(path)!r} holds the control character U+{ord(characters[place]):04X} (line {line}, column {column}): "
        "give a text, or remove what is none; tab, newline, form feed and return are text"
    )


def _complaint(content: bytes, path: pathlib.Path, mark: bytes, error: UnicodeDecodeError) -> str:
    """What is wrong with the content, and what to do."""
    unmarked = None if mark else _without_mark(content, is_utf_8=False)
    if unmarked:
        return _looks_like(path, unmarked)
    offset = len(mark) + error.start
    where = f"byte 0x{content[offset]:02X} at offset {offset}, {error.reason}"
    begins = " although it begins with the byte-order mark" if mark else ""
    return f"{str(path)!r} is not {error.encoding.upper()}{begins} ({where}): {_advice(content, path, mark, error)}"


def _advice(content: bytes, path: pathlib.Path, mark: bytes, error: UnicodeDecodeError) -> str:
    is_cut = error.reason == "unexpected end of data" and not content[: error.start].isascii()
    if mark or is_cut:
        return "it is damaged or cut off, fetch it again"
    if 0 in content:  # which eight-bit text does not hold
        return "it is not a text, give a text file"
    example = _command(path, "WINDOWS-1252")
    return f"convert it from its own encoding (`file -i` guesses which), for Western European: {example}"


def _command(path: pathlib.Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {printable(shlex.quote(str(path)))} > utf8.txt"
