"""Denoisers and autoencoders in folders.

    FOLDER/
      denoiser.json    sizes, noise, parametrisation, weighting, and the shapes of all arrays (`description.py`)
      arrays/          parameters, and what a network keeps beside them, by Orbax (`stored.py`)
      checksums.json   of both

Reading makes objects of the classes of this library alone, and no code is read: a stranger's folder can be opened.
"""

import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .description import Saved, describe, rebuilt
from .run_folder import FolderError
from .stored import read_arrays, verify, write_arrays

FORMAT = 1
DESCRIPTION = "denoiser.json"
AGAIN = "copy it again from where it was saved, or save it again, which the command of a run does"


def save(denoiser: Saved, folder: str | os.PathLike) -> None:
    """Write a denoiser or an autoencoder to a new folder, whole or not at all.

    Raises:
      ValueError: if it is no network, or has no arrays, as one made by `from_host`.
      FolderError: if `folder` exists and is not empty.
      OSError: if it cannot be written.
    """
    if not isinstance(denoiser, Saved):
        raise ValueError(
            f"{type(denoiser).__name__} is not made of a network: save what it is made of, by `numpy.savez`"
        )
    arrays = _arrays(denoiser)
    if not arrays:
        raise ValueError("this denoiser holds no arrays: save its network in the library that it comes from")
    path = pathlib.Path(os.path.abspath(folder))
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FolderError(f"{path} exists already: choose another folder, or delete it")
    described = {"format": FORMAT, "denoiser": describe(denoiser), "arrays": _shapes(arrays)}
    write_arrays(path, _without_keys(arrays), {DESCRIPTION: json.dumps(described, indent=1) + "\n"})


def load(folder: str | os.PathLike, like: Saved | None = None) -> Saved:
    """Read a denoiser or an autoencoder that `save` wrote, the same bits.

    Args:
      folder: given to `save`.
      like: a model of the same structure, which takes the saved arrays; needed for networks, processes or
        parametrisations of one's own, of which a folder keeps the names alone.

    Raises:
      FolderError: if there is no denoiser, it is damaged or of another version, or it differs from `like`; the message
        names the first difference.
    """
    path = pathlib.Path(os.path.abspath(folder))
    described = _read_description(path)
    if like is None:
        denoiser = _rebuilt(path, described["denoiser"])
    else:
        denoiser = like
        _compare(path, described["denoiser"], describe(like))
    arrays = _arrays(denoiser)
    _compare_shapes(path, described["arrays"], _shapes(arrays), dtypes=like is not None)
    targets = {name: _target(path, leaf, described["arrays"][name]["dtype"]) for name, leaf in arrays.items()}
    read = read_arrays(path, targets, AGAIN)
    return jax.tree_util.tree_map_with_path(
        lambda place, leaf: _with_key(read[_name(place)], leaf) if _is_array(leaf) else leaf, denoiser
    )


def _read_description(path: pathlib.Path) -> dict[str, Any]:
    if not (path / DESCRIPTION).is_file():
        raise FolderError(f"{path} holds no saved denoiser: there is no {DESCRIPTION} in it")
    verify(path, AGAIN)
    try:
        described = dict(json.loads((path / DESCRIPTION).read_text()))
    except (TypeError, ValueError, RecursionError) as error:
        raise FolderError(f"{path / DESCRIPTION} is damaged: {AGAIN}") from error
    if described.get("format") != FORMAT:
        got = described.get("format")
        raise FolderError(f"{path} has format {got}, this program reads format {FORMAT}: use the program that wrote it")
    return described


def _rebuilt(path: pathlib.Path, description: dict[str, Any]) -> Saved:
    try:
        return rebuilt(description)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        advice = "give a denoiser of the same structure as like="
        raise FolderError(f"the denoiser in {path} cannot be made again: {error}; {advice}") from error


def _compare(path: pathlib.Path, saved: Any, given: Any, name: str = "denoiser") -> None:
    """Refuse the first part of two descriptions that differs, by its name."""
    if isinstance(saved, dict) and isinstance(given, dict):
        for part in {**saved, **given}:
            inner = name if part in ("kind", "own") else f"{name}.{part}"
            _compare(path, saved.get(part), given.get(part), inner)
    elif saved != given:
        raise FolderError(f"{path} holds another denoiser than like: {name} is {saved} there, {given} in like")


def _compare_shapes(path: pathlib.Path, saved: dict[str, dict], given: dict[str, dict], dtypes: bool) -> None:
    for name in {**given, **saved}:
        if name not in saved or name not in given:
            there, here = ("holds", "has no") if name in saved else ("holds no", "has")
            raise FolderError(f"{path} {there} array {name}, which the network {here}: it is another network")
        for kind in ("shape", "dtype") if dtypes else ("shape",):
            if saved[name][kind] != given[name][kind]:
                raise FolderError(
                    f"{path} holds {name} of {kind} {saved[name][kind]}, the network has {kind} {given[name][kind]}: "
                    "it is another network"
                )


def _arrays(denoiser: Saved) -> dict[str, Any]:
    """All arrays of a denoiser by the names of their places, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(denoiser)
    return {_name(place): leaf for place, leaf in leaves if _is_array(leaf)}


def _name(place: tuple) -> str:
    return jax.tree_util.keystr(place).lstrip(".")


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)


def _shapes(arrays: dict[str, Any]) -> dict[str, dict]:
    return {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _without_keys(arrays: dict[str, Any]) -> dict[str, Any]:
    """Random keys as the integers that they are made of."""
    return {name: jax.random.key_data(array) if _is_key(array.dtype) else array for name, array in arrays.items()}


def _target(path: pathlib.Path, leaf: Any, dtype: str) -> jax.ShapeDtypeStruct:
    """What is read in the place of `leaf`, of the dtype that was saved, on the first device."""
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf.dtype) else None
    target = jnp.dtype(dtype) if stored is None else stored.dtype
    if jax.dtypes.canonicalize_dtype(target) != target:
        raise FolderError(f"{path} holds {dtype} arrays: set jax_enable_x64 before they are loaded")
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape if stored is None else stored.shape, target, sharding=sharding)


def _with_key(array: Any, leaf: Any) -> Any:
    """The inverse of `_without_keys`, for an array that takes the place of `leaf`."""
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf.dtype) else array
