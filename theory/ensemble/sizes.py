"""The sizes (v, m, s) of a grammar as one argument, `rhm.sizes`, or as three."""

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def takes_sizes(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let a tuple (num_symbols, num_synonyms, branching) stand where the three numbers of that name would begin.

    `critical_noise(rhm.sizes)` is `critical_noise(8, 3, 2)`.
    """
    place = list(inspect.signature(function).parameters).index("num_symbols")

    @functools.wraps(function)
    def with_sizes(*arguments, **named):
        if len(arguments) > place and isinstance(sizes := arguments[place], tuple | list):
            if len(sizes) != 3:
                raise ValueError(f"sizes = {sizes}: give (num_symbols, num_synonyms, branching), as rhm.sizes has them")
            arguments = (*arguments[:place], *sizes, *arguments[place + 1 :])
        return function(*arguments, **named)

    return with_sizes
