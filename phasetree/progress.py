"""Progress: one bar for a whole run, in units of work, with the time that is left.

What an earlier run has done is skipped: it moves the bar and leaves the rate, from which the time left follows, alone.
"""

import sys
from typing import Protocol, runtime_checkable

from tqdm import tqdm

BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left{postfix}"


@runtime_checkable
class AbstractProgress(Protocol):
    """What stages tell of their work."""

    def advance(self, units: int | float, note: str = "") -> None: ...
    def skip(self, units: int | float) -> None: ...


class Silent:
    """Of work that is not shown."""

    def advance(self, units: int | float, note: str = "") -> None:
        pass

    def skip(self, units: int | float) -> None:
        pass


class Progress:
    """A bar of `total` units; stages are shared out among them by `stage`."""

    def __init__(self, total: int | float, title: str):
        self._bar = tqdm(total=total, desc=title, bar_format=BAR, smoothing=0)
        self._title, self._end = title, 0

    def stage(self, name: str, units: int | float) -> None:
        """The next `units` are those of a stage of this name; those that the stage before has left out are skipped."""
        self.skip(self._end - self._bar.n)
        self._end += units
        self._bar.set_description_str(f"{self._title}: {name}", refresh=True)

    def advance(self, units: int | float, note: str = "") -> None:
        """Units done, never past the end of the stage."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(0, min(units, self._end - self._bar.n)))

    def skip(self, units: int | float) -> None:
        """Units that an earlier run has done."""
        self._bar.initial += units
        self._bar.n += units
        self._bar.last_print_n += units

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if error == (None, None, None):
            self.skip(self._end - self._bar.n)
            self._bar.set_description_str(self._title, refresh=True)
        self._bar.close()
