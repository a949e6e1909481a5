"""The sizes (v, m, s) of a grammar as one argument, `rhm.sizes`, or as three; what is no grammar is refused by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..domain import count

Result = TypeVar("Result")

_NAMES = ("num_symbols", "num_synonyms", "branching")


def takes_sizes(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let a tuple (num_symbols, num_synonyms, branching) stand where the three numbers of that name would begin.

    `critical_noise(rhm.sizes)` is `critical_noise(8, 3, 2)`. The function is given Python integers, `whole_sizes`.
    """
    signature = inspect.signature(function)
    place = list(signature.parameters).index("num_symbols")

    @functools.wraps(function)
    def with_sizes(*arguments, **named):
        if len(arguments) > place and isinstance(sizes := arguments[place], tuple | list):
            if len(sizes) != 3:
                raise ValueError(f"sizes = {sizes}: give (num_symbols, num_synonyms, branching), as rhm.sizes has them")
            arguments = (*arguments[:place], *sizes, *arguments[place + 1 :])
        given = signature.bind(*arguments, **named)
        sizes = whole_sizes(*(given.arguments[name] for name in _NAMES))
        given.arguments.update(zip(_NAMES, sizes, strict=True))
        return function(*given.args, **given.kwargs)

    return with_sizes


def whole_sizes(num_symbols: Any, num_synonyms: Any, branching: Any) -> tuple[int, int, int]:
    """The sizes as Python integers, which do not overflow in v^s.

    Raises:
      ValueError: if one is not a whole number, v < 2, s < 2, or m is outside 1 .. v^(s-1), beyond which rules cannot be
        unambiguous.
    """
    v, s = count("num_symbols", num_symbols, 2), count("branching", branching, 2)
    m, most = count("num_synonyms", num_synonyms, 1), v ** (s - 1)
    if m > most:
        raise ValueError(
            f"num_synonyms = {m}: {v} symbols have between 1 and {most} unambiguous rules each of {s} children; change "
            f"num_synonyms, or raise num_symbols or branching"
        )
    return v, m, s
