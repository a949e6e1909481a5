"""The settings of JAX and matplotlib during a run; afterwards they are as before.

Theory needs float64. Compiled programs are kept between runs in ~/.cache/phasetree, or where PHASETREE_CACHE says
("off": nowhere), unless JAX has been given a folder of its own. Figures are only written, never shown, so matplotlib
draws without a display whatever MPLBACKEND says.
"""

import contextlib
import importlib
import os
import pathlib
from collections.abc import Iterator

from phasetree.command.terminal import UsageError

_TAKEN = {"truth value": "0 or 1", "literal for int": "a whole number"}  # where these words are in JAX's message


@contextlib.contextmanager
def settings_of_a_run() -> Iterator[None]:
    """Inside, JAX and matplotlib are set up for experiments.

    Raises:
      UsageError: if JAX has no device of the kind that JAX_PLATFORMS asks for, or another variable has a value that JAX
        does not take.
    """
    _check_variables()
    import jax

    before = {name: jax.config.values[name] for name in _cache_settings(None)}
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"
    try:
        _check_devices()
        _keep_programs(before["jax_compilation_cache_dir"])
        with jax.enable_x64(True):
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        _forget_cache()
        os.environ.pop("MPLBACKEND", None)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _check_variables() -> None:
    """Import JAX and Equinox, which read their variables then."""
    try:
        for library in ("jax", "equinox"):
            importlib.import_module(library)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        lower = reason.lower().replace(".", "_")
        ours = [name for name in os.environ if name.startswith(("JAX", "EQX"))]
        named = [name for name in ours if name.lower() in lower] or [n for n in ours if repr(os.environ[n]) in reason]
        if not named:
            raise
        name = max(named, key=len)  # others may be its beginning
        taken = next((f", or set it to {what}" for words, what in _TAKEN.items() if words in reason), "")
        raise UsageError(f"{name}={os.environ[name]} cannot be used ({reason}): unset {name}{taken}") from error


def _check_devices() -> None:
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or "a device"
        reason = str(error).splitlines()[0] if str(error) else "there is no such device"
        raise UsageError(
            f"JAX_PLATFORMS={asked}: JAX cannot use it ({reason}); unset JAX_PLATFORMS or install JAX for that device"
        ) from error


def _keep_programs(configured: str | None) -> None:
    import jax

    usual = configured or str(pathlib.Path.home() / ".cache" / "phasetree")
    folder = os.environ.get("PHASETREE_CACHE", usual)
    if folder != "off":
        _forget_cache()  # that of another folder
        for name, value in _cache_settings(folder).items():
            jax.config.update(name, value)


def _cache_settings(folder: str | None) -> dict[str, str | int | None]:
    return {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


def _forget_cache() -> None:
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    reset_cache()
