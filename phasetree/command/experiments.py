"""The experiments that the command line lists, and its search for the user's own modules."""

import ast
import os
import pathlib
import sys

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


def search_current_folder() -> None:
    """Let the user's own modules be imported from the current folder, last, so that they hide no installed package."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
