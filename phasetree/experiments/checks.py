"""What every experiment asks of its options."""

import math
from typing import Any

import numpy as np


def check_options(config: Any, **least: int) -> None:
    """The seed is one, and each option named is at least the number given.

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
