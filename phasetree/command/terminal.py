"""Output to the terminal: nothing that steers it, nothing that it cannot show, nothing after it has closed."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator

from hierarchical.files.printable import printable as escaped


class UsageError(ValueError):
    """What the user asked for cannot be done as asked; the message says what to change."""


def printable(text: str) -> str:
    """The text with every character that a terminal obeys written as an escape; line breaks and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda part: escaped(part[0]), text)


def complain(text: str) -> None:
    """Print one message on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def show(markdown: str, closing: str) -> None:
    """Print a report, drawn for the width of the terminal, and a last line as it stands."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as drawn:
        console.print(Markdown(printable(markdown)))
    print(drawn.get(), printable(closing), sep="\n", flush=True)


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Inside, what standard output and error cannot encode is written as escapes, not an error."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    try:
        for stream in streams:
            stream.reconfigure(errors="backslashreplace")
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with contextlib.suppress(BrokenPipeError):
                stream.reconfigure(errors=errors)


def close_quietly() -> None:
    """Let Python end without a complaint about a reader that has gone (`| head`)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
