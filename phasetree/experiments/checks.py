"""What every experiment asks of its options, among it that their sizes fit into memory: before any array exists."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hierarchical.files.memory import available_memory


def check_options(config: Any, **least: int) -> None:
    """Check that the seed is in range and that each option named is at least the number given.

    Raises:
      ValueError: naming the option, its value and the least.
    """
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"seed = {config.seed} is outside [0, 2^63)")
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name} = {getattr(config, name)}: must be at least {value}")


def check_grid(name: str, values: tuple[float, ...], lowest: float = -math.inf) -> None:
    """At least three finite numbers above `lowest`, increasing and evenly spaced to a thousandth of a step.

    Raises:
      ValueError: naming the option and its values.
    """
    steps = np.diff(values)
    fine = len(values) >= 3 and bool(np.isfinite(values).all())
    if not fine or min(steps) <= 0 or max(steps) - min(steps) > 1e-3 * max(steps) or min(values) <= lowest:
        above = "" if lowest == -math.inf else f", above {lowest:g}"
        raise ValueError(f"{name} = {values}: give at least 3 finite numbers{above}, increasing and evenly spaced")
    check_different(name, values)


def check_different(name: str, values: Sequence[float]) -> None:
    """Numbers that differ in six digits, by which stages and findings are named.

    Raises:
      ValueError: naming the option and its values.
    """
    if len({f"{value:g}" for value in values}) < len(values):
        raise ValueError(f"{name} = {values}: give numbers that differ in six digits")


def check_positive(config: Any, *names: str) -> None:
    """Each option named is a positive, finite number, or a tuple of such; and so is its square.

    Raises:
      ValueError: naming the option and its value.
    """
    for name in names:
        values = np.atleast_1d(getattr(config, name)).astype(float)
        with np.errstate(over="ignore"):
            if not (len(values) and (values > 0).all() and np.isfinite(values**2).all()):
                raise ValueError(f"{name} = {getattr(config, name)}: must be positive and finite")


def check_memory(numbers: float, what: str, lower: str) -> None:
    """Check that `numbers` numbers of 4 bytes, of which a run holds at least so many at a time, fit into memory.

    Args:
      what: the options with their values, and what they ask for.
      lower: the options to lower.

    Raises:
      ValueError: saying how much is asked for and how much there is.
    """
    if 4 * numbers > available_memory():
        needed = f"{4e-9 * numbers:.3g} GB" if 4e-9 * numbers < 1e100 else "more memory than any machine has"
        raise ValueError(f"{what} need {needed}, {available_memory() / 1e9:.3g} GB are free: lower {lower}")


def check_grammar(config: Any) -> None:
    """Check that the grammar of a config, and its `num_data` strings, fit into memory.

    Held at a time are all strings of s^L symbols, the messages about one of them (v numbers at every leaf), and rule
    tables of v m s numbers for each of L levels.

    Raises:
      ValueError: naming the options and what they ask for.
    """
    v, m, s, depth = config.num_symbols, config.num_synonyms, config.branching, config.depth
    if min(v, m, s, depth) < 1:
        return  # refused as no grammar
    rules = float(v) * m * (s * depth + 4)  # and up to 4 v m tuples to draw them from
    check_memory(rules, f"num_symbols = {v}, depth = {depth}: the rules of all levels", "num_symbols or depth")
    leaves = _power(s, depth)
    check_memory(leaves * v, f"depth = {depth}, branching = {s}: the beliefs of one string", "depth or branching")
    held = f"num_data = {config.num_data}, depth = {depth}, branching = {s}: the strings"
    check_memory(leaves * config.num_data, held, "num_data, depth or branching")


def _power(base: int, exponent: int) -> float:
    """base^exponent, inf where that is beyond floating point."""
    return math.exp(log) if (log := exponent * math.log(base)) < 700 else math.inf
