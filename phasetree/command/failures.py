"""The message and the exit status of every failure.

| status | what happened | shown |
|---|---|---|
| 1 | the run failed for a known reason: memory, disk, folder, a loss that is not finite, a missing package | one line |
| 2 | the user's input cannot be used: an option, a file | one line |
| 70 | a bug of phasetree | one line, and the traceback in a file |

An error counts as known only if our code raised it deliberately, by a `raise` statement, or if its type says that the
machine is the reason. A ValueError of NumPy, or of a tuple that did not unpack, is a bug.
"""

import dis
import importlib.metadata
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from phasetree.command.options import leaves
from phasetree.command.terminal import UsageError

FAILED, USAGE, BUG = 1, 2, 70
PACKAGES = ("hierarchical", "diffusion", "theory", "phasetree")
SIZES = (
    "batch_size",
    "num_data",
    "num_trajectories",
    "num_sets",
    "width",
    "depth",
)


class Failure(NamedTuple):
    """An exit status and what to print."""

    status: int
    sentence: str


def explain(error: Exception, words: Sequence[str], config: Any = None) -> Failure:
    """The status and sentence of an error that ended the command `words`, run with `config`."""
    message = str(error).strip()
    if isinstance(error, UsageError):  # perhaps because JAX cannot be imported
        return Failure(USAGE, message)
    import equinox as eqx
    import jax

    from diffusion import FolderError, NonFiniteLossError

    if isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "out of memory" in message.lower()
    ):
        return Failure(FAILED, _memory(message, config))
    if isinstance(error, eqx.EquinoxRuntimeError):  # a check inside compiled code: its own lines follow the message
        return Failure(FAILED, message.splitlines()[0])
    if isinstance(error, FolderError | NonFiniteLossError | ImportError):
        return Failure(FAILED, message)
    if isinstance(error, FloatingPointError):
        return Failure(FAILED, f"{message}; JAX_DEBUG_NANS asks for this stop: unset it to run")
    if isinstance(error, ValueError | FileNotFoundError) and _raised_by_us(error, words[0]):
        return Failure(USAGE, message)
    if isinstance(error, OSError):
        from diffusion.folders.stored import FULL

        full = "; finished work is kept: the same command continues" if error.errno in FULL else ""
        return Failure(FAILED, f"{message}{full}")
    return _bug(error, words)


def _raised_by_us(error: BaseException, experiment: str) -> bool:
    """Whether a `raise` statement of our packages, or of the user's own experiment, raised it."""
    packages = (*PACKAGES, experiment.partition(".")[0])
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or place.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in packages:
        return False
    return dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]] == "RAISE_VARARGS"


def _memory(message: str, config: Any) -> str:
    import jax

    present = [name for name, _ in leaves(config)] if config is not None else []
    names = [f"--{name.replace('_', '-')}" for name in SIZES if name in present]
    advice = f"lower {' or '.join(names[:3])}" if names else "ask for a smaller problem"
    if jax.default_backend() != "cpu":
        advice += (
            "; JAX takes 75% of the GPU's memory, XLA_PYTHON_CLIENT_MEM_FRACTION=.95 allows it more; other programs on "
            "the GPU (nvidia-smi lists them) leave it less"
        )
    return f"{message.splitlines()[0] if message else 'out of memory'}: {advice}"


def _bug(error: Exception, words: Sequence[str]) -> Failure:
    """Write the traceback to a file; the message names the file, and who has to repair the bug."""
    packages = ("phasetree", "jax", "jaxlib", "equinox", "flax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    head = f"phasetree {shlex.join(words)}\nPython {platform.python_version()}, {platform.platform()}\n{versions}\n\n"
    with tempfile.NamedTemporaryFile(
        "w", prefix="phasetree-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(head + "".join(traceback.format_exception(error)))
    summary = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    if "." in words[0]:
        return Failure(FAILED, f"the experiment raised {summary}; the traceback is in {file.name}, --debug shows it")
    return Failure(
        BUG,
        f"internal error ({summary}). This is a bug of phasetree, not of your command: please report it, with the file "
        f"{file.name}, as an issue of the repository that phasetree came from; --debug shows the traceback",
    )
