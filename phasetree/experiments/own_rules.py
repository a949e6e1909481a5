"""A grammar of the user's in the place of a drawn one: the option `rules` of experiments on hierarchies."""

from typing import Any

from hierarchical import load_rules


def take_rules(config: Any) -> None:
    """Give a config the sizes of the grammar in its file `rules`, if it names one.

    Raises:
      FileNotFoundError, ValueError: as `load_rules`; if the levels of the grammar differ in size, or several grammars
        are asked for.
    """
    if config.rules is None:
        return
    if config.num_grammars != 1:
        raise ValueError(f"num_grammars = {config.num_grammars}: the file {str(config.rules)!r} holds one grammar")
    rhm = load_rules(config.rules)
    try:
        sizes = rhm.sizes
    except ValueError as error:
        raise ValueError(f"rules of {str(config.rules)!r}: {error}, which this experiment needs") from error
    named = dict(zip(("num_symbols", "num_synonyms", "branching"), sizes, strict=True), depth=rhm.depth)
    for name, value in named.items():
        object.__setattr__(config, name, value)  # frozen for all others
