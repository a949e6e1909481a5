"""What every experiment asks of its options, among it that their sizes fit into memory: before any array exists."""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hierarchical.files.memory import available_memory
from hierarchical.grammar.sizes import LARGEST

# weights of a network over the square of its width, at least; of a transformer those of a layer
VECTOR_MLP, WHITENED_MLP, DENSE_VAE, TRANSFORMER = 19, 9, 2, 16

_ANY_MACHINE = contextvars.ContextVar("any_machine", default=False)


@contextlib.contextmanager
def for_any_machine() -> Iterator[None]:
    """Presets are defined inside, so that one that is too large for this machine leaves the others usable.

    A preset that is chosen is compared with memory then, with its options.
    """
    token = _ANY_MACHINE.set(True)
    try:
        yield
    finally:
        _ANY_MACHINE.reset(token)


def check_options(config: Any, **least: int) -> None:
    """Check that the seed is in range, every whole number below 2^63, and each option named at least the number given.

    Raises:
      ValueError: naming the option, its value and the least.
    """
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"seed = {config.seed} is outside [0, 2^63)")
    for name, values in {**vars(config), **vars(getattr(config, "train", config))}.items():
        for value in values if isinstance(values, tuple) else (values,):
            if isinstance(value, int) and value >= 2**63:
                raise ValueError(f"{name} = {value}: must be below 2^63")
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


def check_memory(numbers: int | float, what: str, lower: str) -> None:
    """Check that `numbers` numbers of 4 bytes, of which a run holds at least so many at a time, fit into memory.

    Args:
      what: the options with their values, and what they ask for.
      lower: the options to lower.

    Raises:
      ValueError: saying how much is asked for and how much there is.
    """
    if not _ANY_MACHINE.get() and 4 * numbers > available_memory():
        needed = f"{4e-9 * numbers:.3g} GB" if 4e-9 * numbers < 1e100 else "more memory than any machine has"
        raise ValueError(f"{what} need {needed}, {available_memory() / 1e9:.3g} GB are free: lower {lower}")


def check_counts(config: Any, *products: str | tuple[str, ...]) -> None:
    """Check that of each product of options a number for every unit fits into memory: a run holds them at one time.

    An option that holds several values counts their number; `steps` may be that of `train`, which keeps every loss.

    Raises:
      ValueError: naming the options of the product, and the largest of them as what to lower.
    """
    options = {**vars(getattr(config, "train", config)), **vars(config)}
    for product in products:
        given = {name: options[name] for name in ((product,) if isinstance(product, str) else product)}
        several = {name for name, value in given.items() if isinstance(value, tuple)}
        sizes = {name: len(value) if name in several else value for name, value in given.items()}
        what = " x ".join(f"{size} {name}" if name in several else f"{name} = {size}" for name, size in sizes.items())
        check_memory(math.prod(sizes.values()), f"{what}: as many numbers", max(sizes, key=sizes.__getitem__))


def check_network(config: Any, matrices: int | float, sites: int | float = 1, also: tuple[str, ...] = ()) -> None:
    """Check that the training of a network of so many weights, and of a batch's states, fits into memory.

    Args:
      matrices: the network's weights over width^2, at least; held are they, their gradient and two moments of it.
      sites: vectors of `width` numbers of every datum, at least.
      also: options beside `width` from which `matrices` and `sites` follow.

    Raises:
      ValueError: naming the options and what they ask for.
    """
    names, width = ("width", *also), config.width
    what = ", ".join(f"{name} = {getattr(config, name)}" for name in names)
    check_memory(4 * matrices * width**2, f"{what}: the network's weights in training", _either(names))
    if train := getattr(config, "train", None):
        what, names = f"batch_size = {train.batch_size}, {what}", ("batch_size", *names)
        check_memory(train.batch_size * sites * width, f"{what}: the states of a batch", _either(names))


def check_tree_network(config: Any) -> None:
    """`check_network` of the tree U-Net of a grammar: s + 1 blocks for each of L levels, of 2 (s + 1) matrices each."""
    s, depth = config.branching, config.depth
    if min(s, depth) < 1:
        return  # refused as no grammar
    check_network(config, 2 * depth * (s + 1) ** 2, _power(s, depth), ("branching", "depth"))


def check_conv_network(config: Any) -> None:
    """`check_network` of the convolutional U-Net: two convolutions of 9 places where it has most channels."""
    check_network(config, 18 * _power(4, config.levels - 1), also=("levels",))


def check_grammar(config: Any, *strings: str | int, deepest: str = "depth") -> None:
    """Check that the grammar of a config, and its strings, fit into memory.

    Held at a time are all strings of s^L symbols, the messages about one of them (v numbers at every leaf), and rule
    tables of v m s numbers for each of L levels.

    Args:
      strings: numbers of strings that are drawn at a time, or the options that give them.
      deepest: the option that gives the depth. Of an option with several values the largest counts.

    Raises:
      ValueError: naming the options and what they ask for.
    """
    v, m, s, depth = config.num_symbols, config.num_synonyms, config.branching, _largest(config, deepest)
    if min(v, m, s, depth) < 1:
        return  # refused as no grammar
    rules = float(v) * m * (s * depth + 4)  # and up to 4 v m tuples to draw them from
    held = f"num_symbols = {v}, num_synonyms = {m}, {deepest} = {depth}: the rules of all levels"
    check_memory(rules, held, _either(("num_symbols", "num_synonyms", deepest)))
    tree, leaves = (deepest, "branching"), _power(s, depth)
    check_memory(leaves * v, f"{deepest} = {depth}, branching = {s}: the beliefs of one string", _either(tree))
    for given in strings:
        count, option = (given, ()) if isinstance(given, int) else (_largest(config, given), (given,))
        held = ", ".join(f"{name} = {_largest(config, name)}" for name in (*option, *tree)) + f": {count} strings"
        check_memory(leaves * count, held, _either((*option, *tree)))
        if leaves * count > LARGEST:
            raise ValueError(f"{held} do not fit an array of at most 2^31 - 1: lower {_either((*option, *tree))}")


def _largest(config: Any, name: str) -> int:
    value = getattr(config, name)
    return max(value) if isinstance(value, tuple) else value


def _either(names: tuple[str, ...]) -> str:
    """As a choice: "a, b or c"."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _power(base: int, exponent: int) -> float:
    """base^exponent, inf where that is beyond floating point."""
    return math.exp(log) if (log := exponent * math.log(base)) < 700 else math.inf
