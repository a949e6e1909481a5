"""The identity of a value: one short text, the same wherever and whenever the same value is made.

A digest is taken of all that a value consists of: the contents of arrays, the fields of objects, the names of classes,
and of functions their names, defaults and what they close over. Of code that is written outside of installed packages
also the compiled instructions and the globals that they name, so that a changed loss or network of one's own is another
value. Installed packages count by name: `GENERATION` in `descent.py` is raised where ours come to give other numbers.
"""

import functools
import hashlib
import inspect
import itertools
import pathlib
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OURS = ("hierarchical", "diffusion", "theory", "phasetree")


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that follow from the contents of `value`."""
    return _digest(value, {})[:16]


def _digest(value: Any, known: dict[int, tuple[Any, str]]) -> str:
    """SHA-256; `known` holds digests by `id`, with the objects, so that no other object takes an `id` meanwhile."""
    if id(value) not in known:
        known[id(value)] = value, "cycle"  # what a value that contains itself sees of itself
        name, parts = _taken_apart(value)
        sink = hashlib.sha256(name.encode())
        for part in parts:
            sink.update(part if isinstance(part, bytes | memoryview) else _digest(part, known).encode())
        known[id(value)] = value, sink.hexdigest()
    return known[id(value)][1]


def _taken_apart(value: Any) -> tuple[str, list]:
    """The name of what a value is, and its parts; bytes and memory are contents."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return type(value).__name__, [repr(value).encode()]
        case jax.Array() if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"key {jax.random.key_impl(value)}", _array(np.asarray(jax.random.key_data(value)))
        case jax.Array() | np.ndarray() | np.generic():
            return "array", _array(np.asarray(value))
        case np.dtype() | range() | slice():
            return type(value).__name__, [repr(value).encode()]
        case jax.tree_util.PyTreeDef():
            return "treedef", [value.node_data(), value.children()]
        case tuple() | list():
            return _name(type(value)), list(value)
        case Mapping():
            return _name(type(value)), [
                part for item in sorted(value.items(), key=lambda item: repr(item[0])) for part in item
            ]
        case set() | frozenset():
            return _name(type(value)), sorted(value, key=repr)
        case types.ModuleType():
            return value.__name__, []
        case type():
            return _name(value), [] if _is_installed(value) else inspect.getmembers(value, inspect.isfunction)
        case types.MethodType():
            return "method", [value.__self__, value.__func__]
        case functools.partial():
            return "partial", [value.func, value.args, value.keywords]
        case types.FunctionType():
            return _name(value), _function(value)
        case types.CodeType():
            return value.co_name, [value.co_code, list(value.co_names), list(value.co_consts)]
    return _name(type(value)), _object(value)


def _array(array: np.ndarray) -> list:
    return [
        str(array.dtype).encode(),
        repr(array.shape).encode(),
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).data,
    ]


def _function(function: types.FunctionType) -> list:
    closure = [_contents(cell) for cell in function.__closure__ or ()]
    if wrapped := vars(function).get("__wrapped__"):
        return [wrapped, closure]
    parts = [function.__defaults__, function.__kwdefaults__, closure]
    if _is_installed(function):
        return parts
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    return [*parts, function.__code__, {n: function.__globals__[n] for n in names & {*function.__globals__}}]


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that has no value yet
        return None


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """A function's code and that of the functions defined in it."""
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [code, *(deeper for part in inner for deeper in _codes(part))]


def _object(value: Any) -> list:
    """What an object wraps, else its class, its own name where it has one (a compiled function), and its fields."""
    if callable(value) and inspect.unwrap(value) is not value:
        return [inspect.unwrap(value)]
    slots = [np.atleast_1d(vars(kind).get("__slots__", ())).tolist() for kind in inspect.getmro(type(value))]
    fields = {
        name: getattr(value, name) for name in itertools.chain(*slots) if name != "__dict__" and hasattr(value, name)
    }
    if hasattr(value, "__dict__"):
        fields |= {name: field for name, field in vars(value).items() if not name.startswith("__")}
    return [type(value), str(getattr(value, "__name__", "")), {n: f for n, f in fields.items() if n != "__weakref__"}]


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _is_installed(value: Any) -> bool:
    """Whether the class or function comes from a package that is installed, or is part of Python or of this library."""
    top = (value.__module__ or "").split(".")[0]
    module = sys.modules.get(value.__module__ or "")
    parts = pathlib.Path(vars(module).get("__file__") or "").parts if module else ()
    return top in (*OURS, *sys.stdlib_module_names) or not {"site-packages", "dist-packages"}.isdisjoint(parts)
