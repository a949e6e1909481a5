"""Progress: one bar for a whole run, in units of work, with the time that is left.

What an earlier run has done is skipped: it moves the bar and leaves the rate, from which the time left follows, alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from tqdm import tqdm

from diffusion import TrainConfig

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

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if error == (None, None, None):
            self.skip(self._end - self._bar.n)
            self._bar.set_description_str(self._title, refresh=True)
        self._bar.close()


@contextlib.contextmanager
def training_bar(description: str, config: TrainConfig, loss: str = "loss {:.4f}") -> Iterator[Callable[..., None]]:
    """Gives the `report` that `train` and `descend` call; `loss` says how one is written."""
    with tqdm(desc=description, total=config.steps, unit="step") as bar:

        def report(step: int, value: float) -> None:
            if not bar.n:  # the first chunk, perhaps of a resumed run
                bar.initial = bar.n = bar.last_print_n = step - min(step, config.steps_per_chunk)
            bar.set_postfix_str(loss.format(value), refresh=False)
            bar.update(step - bar.n)

        yield report
        if not bar.n:  # it was trained already
            bar.initial = bar.n = config.steps
