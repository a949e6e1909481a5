"""Imports point one way, the four import names are ours, and the wheel stands alone."""

import ast
import importlib.util
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("hierarchical", "diffusion", "theory", "phasetree")  # each may import those before it


def imported_packages(path: pathlib.Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    """In particular diffusion.measure knows no theory, so a measurement cannot lean on its prediction."""
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = {str(path.relative_to(ROOT)): imported_packages(path) & later for path in (ROOT / package).rglob("*.py")}
    assert not {path: names for path, names in wrong.items() if names}


def test_import_names_are_ours():
    """The names are generic: all four must come from where phasetree, which is unique, is."""
    origins = {name: importlib.util.find_spec(name).origin for name in PACKAGES}
    assert {pathlib.Path(origin).parents[1] for origin in origins.values()} == {
        pathlib.Path(origins["phasetree"]).parents[1]
    }


@pytest.mark.parametrize("package", PACKAGES[:3])
def test_every_public_name_is_an_attribute_and_listed(package):
    """Whatever was imported before: each name is read in a fresh interpreter, the last ones first."""
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text())
    names = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    child = f"import {package}; missing = set({names}) - set(dir({package})); assert not missing, missing\n"
    child += "".join(f"{package}.{name}\n" for name in reversed(names))
    subprocess.run([sys.executable, "-c", child], check=True, cwd=ROOT)


@pytest.mark.slow
def test_wheel_imports_outside_the_checkout(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("phasetree-*.whl")
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)

    child = f"""
import pathlib, sys
sys.path[:] = [{str(unpacked)!r}] + [p for p in sys.path if pathlib.Path(p).resolve() != pathlib.Path({str(ROOT)!r})]
import {", ".join(PACKAGES)}
print(*(module.__file__ for module in ({", ".join(PACKAGES)})))
"""
    run = [sys.executable, "-I", "-W", "error", "-c", child]
    files = subprocess.run(run, check=True, cwd=tmp_path, capture_output=True, text=True).stdout.split()
    assert [pathlib.Path(file).parents[1] for file in files] == [unpacked] * len(PACKAGES)
