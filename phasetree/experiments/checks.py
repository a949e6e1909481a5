"""What every experiment asks of its options."""

from typing import Any


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
