"""Sizes against memory: what does not fit is refused before anything is allocated."""

import os
import pathlib
import re
import sys

if sys.platform == "win32":
    resource = None
else:
    import resource

_MEMINFO = pathlib.Path("/proc/meminfo")
_LIMITS = tuple(map(pathlib.Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")))
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def check_memory(needed: int, action: str, advice: str = "make it smaller") -> None:
    """Refuse what needs more memory than there is.

    Args:
      needed: bytes, of all arrays that exist at the same time.
      action: what needs them, the subject of the message: "reading images.npz".
      advice: what to change.

    Raises:
      ValueError: if `needed` exceeds `available_memory()`.
    """
    available = available_memory()
    if needed > available:
        raise ValueError(f"{action} needs {in_units(needed)} of memory, {in_units(available)} are free: {advice}")


def available_memory() -> int:
    """Bytes free without swapping, within the limits of container and process; `sys.maxsize` on an unknown system."""
    limits = [path.read_text().strip() for path in _LIMITS if path.exists()]
    return min([_of_system(), _of_process(), *(int(limit) for limit in limits if limit.isdigit())])  # not "max"


def in_units(size: int) -> str:
    """Bytes as KiB, MiB, ... to three digits."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return (
        f"{size // 1024 ** (power - 1) / 1024:.3g} {_UNITS[power]}" if power > 0 and size < 2**1000 else f"{size} bytes"
    )


def _of_process() -> int:
    """The limit of this process's address space."""
    if resource is None:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _of_system() -> int:
    """Memory that is free or that caches give back; where the system does not say, all that it has."""
    if _MEMINFO.exists():
        match = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
        if match:
            return 1024 * int(match[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a system that counts pages
        return sys.maxsize
