"""Ctrl-C ends the run within a second, wherever it is.

Python handles a signal between two bytecodes of the main thread. In our own code KeyboardInterrupt is raised there and
unwinds, so that the run can put its folder in order. That is too late inside a compiled call or a compilation, which
may last minutes, and wrong inside a callback of one, where JAX would report the exception and go on. So the signal also
wakes a thread, which ends the process if the main thread has not ended it within GRACE seconds. Files are written whole
and renamed: like a kill, this costs what has been computed since the last checkpoint.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

GRACE = 1.0  # seconds for the main thread to unwind
STATUS = 130  # of a process that SIGINT ended, by convention
MESSAGE = "\nphasetree: interrupted; the same command again continues from the last checkpoint\n"


@contextlib.contextmanager
def ending_on_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt or ends the process; where it is ignored or handled already, it stays so.

    A KeyboardInterrupt that leaves the block becomes `SystemExit(130)`, after one line on standard error.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    ended, asked = threading.Event(), threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not asked.is_set() and not _inside_jax(frame):
            asked.set()
            raise KeyboardInterrupt
        asked.set()

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, interrupt)
    threading.Thread(target=_end_after_grace, args=(reader, ended), daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        _say()
        raise SystemExit(STATUS) from None
    finally:
        ended.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        writer.close()  # ends the thread


def _inside_jax(frame: FrameType | None) -> bool:
    """Whether JAX's Python code is among the callers: tracing, compiling, or a callback of a compiled call."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "jax":
            return True
        frame = frame.f_back
    return False


def _end_after_grace(reader: socket.socket, ended: threading.Event) -> None:
    """Wait for the byte that a signal writes; every other handled signal writes its own number."""
    with reader:
        while number := reader.recv(1):
            if number[0] == signal.SIGINT and not ended.wait(GRACE):
                _say()
                os._exit(STATUS)


def _say() -> None:
    """Write to the file descriptor itself: the main thread may be inside a write."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, MESSAGE.encode())
