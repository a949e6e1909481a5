"""Which experiment, and with which options: by name, by dotted module, or the module itself."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import phasetree.experiments
from phasetree.experiment import Experiment

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

    Raises:
      ValueError: if there is no such preset or option, or the config refuses a value.
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
    changed = {name: value for name, value in options.items() if not owner[name]}
    for name, part in inner.items():
        if its := {option: value for option, value in options.items() if owner[option] == name}:
            changed[name] = dataclasses.replace(changed.get(name, part), **its)
    return dataclasses.replace(config, **changed)
