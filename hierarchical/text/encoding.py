"""From bytes to characters: UTF-8, or what a byte-order mark names; the rest is refused with advice that fits it.

A byte-order mark is the character U+FEFF at the beginning of a file. Its bytes differ between UTF-8, UTF-16 and UTF-32,
so it names the encoding. A file without it is read as UTF-8 or refused: the bytes of eight-bit encodings do not tell
them apart. UTF-16 without a mark may be valid UTF-8 by chance. Of a European text every other character is then NUL,
which names the encoding; of other alphabets some are control characters, which no text holds, and which are refused.
"""

import codecs
import pathlib
import re
import shlex

from ..files.memory import check_memory
from ..files.printable import printable

MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NUL_PATTERNS: dict[tuple[bool, ...], str] = {  # which bytes of every four are NUL in most characters of a European text
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")  # not tab, newline, form feed, return
_SAMPLE = 2**16  # bytes in which NULs are counted
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
    pattern = tuple(content[i:_SAMPLE:4].count(0) > min(len(content), _SAMPLE) / 8 for i in range(4))
    if not mark and pattern in NUL_PATTERNS:
        encoding = NUL_PATTERNS[pattern]
        advice = f"convert it: {_command(path, encoding)}"
        raise ValueError(f"{str(path)!r} looks like {encoding} without a byte-order mark: {advice}")
    try:
        characters = content[len(mark) :].decode(MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(_complaint(content, path, mark, error)) from error
    if control := _CONTROL.search(characters):
        place, code = control.start(), ord(control.group())
        line, column = characters.count("\n", 0, place) + 1, place - characters.rfind("\n", 0, place)
        raise ValueError(
            f"{str(path)!r} holds the control character U+{code:04X} (line {line}, column {column}): "
            f"remove it{'' if mark else f'; {_no_text(path)}'}"
        )
    return characters


def _complaint(content: bytes, path: pathlib.Path, mark: bytes, error: UnicodeDecodeError) -> str:
    """What is wrong with the content, and what to do."""
    offset = len(mark) + error.start
    where = f"byte 0x{content[offset]:02X} at offset {offset}, {error.reason}"
    begins = " although it begins with the byte-order mark" if mark else ""
    return f"{str(path)!r} is not {error.encoding.upper()}{begins} ({where}): {_advice(content, path, mark, error)}"


def _advice(content: bytes, path: pathlib.Path, mark: bytes, error: UnicodeDecodeError) -> str:
    is_cut = error.reason == "unexpected end of data" and not content[: error.start].isascii()
    if mark or is_cut:
        return "it is damaged or cut off, fetch it again"
    if _CONTROL.search(content.decode("latin-1")):
        return _no_text(path)
    example = _command(path, "WINDOWS-1252")
    return f"convert it from its own encoding (`file -i` guesses which), for Western European: {example}"


def _no_text(path: pathlib.Path) -> str:
    """Advice where there are control characters and no mark."""
    return f"perhaps it is not a text, or UTF-16 without a byte-order mark (LE or BE): {_command(path, 'UTF-16LE')}"


def _command(path: pathlib.Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {printable(shlex.quote(str(path)))} > utf8.txt"
