"""The experiments by their names on the command line, and modules of one's own by their dotted names."""

import ast
import importlib
import os
import pathlib
import sys
from types import ModuleType

from phasetree.command.terminal import UsageError

FOLDER = pathlib.Path(__file__).parents[1] / "experiments"


def summaries() -> dict[str, str]:
    """Name and `SUMMARY` of every experiment, read from its source: importing all of them would take seconds."""
    files = sorted(FOLDER.glob("*/__init__.py"))
    return {file.parent.name.replace("_", "-"): _summary(ast.parse(file.read_text(encoding="utf-8"))) for file in files}


def _summary(module: ast.Module) -> str:
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUMMARY":
            return ast.literal_eval(node.value)
    return ""


def module_of(name: str) -> str:
    """The module of the experiment of this name; a dotted name is a module itself.

    Raises:
      UsageError: if there is no such experiment.
    """
    if name in summaries():
        return "phasetree.experiments." + name.replace("-", "_")
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return name
    raise UsageError(f"no experiment {name!r}; there are: {', '.join(summaries())}")


def import_experiment(module: str) -> ModuleType:
    """Import the module of an experiment, one's own also from the current folder.

    Raises:
      UsageError: if there is none.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: a file that lies there never hides a package
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there and lacks something itself
        searched = f"neither {os.getcwd()} nor the installed packages hold it"
        raise UsageError(f"no module {module!r}: {searched}") from None
