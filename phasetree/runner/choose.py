"""Which experiment, and with which options: by name, by dotted module, or the module itself."""

import dataclasses
import difflib
import importlib
import numbers
import pathlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

import phasetree.experiments
from phasetree.experiment import Experiment

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", pathlib.Path: "a path"}
CONTRACT = ("Config", "PRESETS", "GENERATION", "SUMMARY", "plan", "collect", "analyse", "draw", "tell")


def experiment_names() -> list[str]:
    """The experiments that come with phasetree, as the command line calls them."""
    modules = pkgutil.iter_modules(phasetree.experiments.__path__)
    return [module.name.replace("_", "-") for module in modules if module.ispkg]


def find_experiment(experiment: str | Experiment | ModuleType) -> tuple[str, Experiment]:
    """The experiment and its name.

    Args:
      experiment: a name of `experiment_names`, a dotted module name that can be imported, or an object with the
        parts of an `Experiment`.

    Raises:
      ValueError: if there is no such experiment, or parts are missing.
    """
    chosen = _imported(experiment) if isinstance(experiment, str) else experiment
    missing = [part for part in CONTRACT if not hasattr(chosen, part)]
    name = chosen.__name__ if isinstance(chosen, ModuleType | type) else type(chosen).__name__
    if missing:
        raise ValueError(f"{name} is no experiment: it has no {', '.join(missing)}, see phasetree.experiment")
    return name.rpartition(".")[2].replace("_", "-"), chosen  # pyright: ignore[reportReturnType]


def _imported(name: str) -> ModuleType:
    if name in experiment_names():
        return importlib.import_module(f"phasetree.experiments.{name.replace('-', '_')}")
    if "." not in name or not all(part.isidentifier() for part in name.split(".")):
        known = f"there are: {', '.join(experiment_names())}; or give a module as package.module"
        raise ValueError(f"no experiment {name!r}; {known}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise  # the module exists, but an import inside it fails
        raise ValueError(f"no module {name!r}: no package {error.name!r} can be imported from here") from error


def configure(experiment: Experiment, preset: str, options: Mapping[str, Any]) -> Any:
    """The config of a preset with options on top, those of the training inside it by their own names.

    Numbers of NumPy and lists are taken for those of Python and tuples, strings for paths.

    Raises:
      ValueError: if there is no such preset or option, or a value is of another type or refused by the config.
    """
    if preset not in experiment.PRESETS:
        raise ValueError(f"preset = {preset!r}: choose one of {', '.join(experiment.PRESETS)}")
    config = experiment.PRESETS[preset]
    inner = {f.name: v for f in dataclasses.fields(config) if dataclasses.is_dataclass(v := getattr(config, f.name))}
    owner = {f.name: name for name, part in inner.items() for f in dataclasses.fields(part)}
    owner |= {f.name: "" for f in dataclasses.fields(config)}
    for name in options:
        if name not in owner:
            near = difflib.get_close_matches(name, owner, 1)
            advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(owner))}"
            raise ValueError(f"no option {name!r}: {advice}")
    hints = {"": get_type_hints(type(config))} | {name: get_type_hints(type(part)) for name, part in inner.items()}
    typed = {name: as_declared(name, hints[owner[name]].get(name, Any), value) for name, value in options.items()}
    changed = {name: value for name, value in typed.items() if not owner[name]}
    for name, part in inner.items():
        if its := {option: value for option, value in typed.items() if owner[option] == name}:
            changed[name] = dataclasses.replace(changed.get(name, part), **its)
    return dataclasses.replace(config, **changed)


def as_declared(name: str, hint: Any, value: Any) -> Any:
    """A value of an option as its declared type has it, of the types that options have on the command line.

    Raises:
      ValueError: if it is of another type.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        if value not in parts:
            raise ValueError(f"{name} = {value!r}: choose one of {', '.join(map(str, parts))}")
        return value
    if kind in (Union, UnionType):
        chosen = [part for part in parts if (part is NoneType) == (value is None)]
        return as_declared(name, chosen[0], value) if len(chosen) == 1 else value
    if kind is tuple:
        if not isinstance(value, tuple | list | np.ndarray):
            raise ValueError(f"{name} = {value!r}: give a tuple")
        return tuple(as_declared(name, parts[0], entry) for entry in value)
    if hint is pathlib.Path and isinstance(value, str):
        return pathlib.Path(value)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if hint is float and number:
        return float(value)
    if hint is int and number and isinstance(value, numbers.Integral):
        return int(value)
    if hint is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(hint, type) and (hint in (int, float, bool) or not isinstance(value, hint)):
        raise ValueError(f"{name} = {value!r}: give {_WORDS.get(hint, hint.__name__)}")
    return value
