"""One run at a time in one folder: a file that says which process on which machine has it.

The lock is the operating system's (`flock`) and ends with the process, however that ends; the file left by a process
that was killed is taken over. The text in it is only for the message.
"""

import fcntl
import os
import pathlib
import platform

from diffusion import FolderError


class Lock:
    """Held from construction to `release`.

    Raises:
      FolderError: if another run has it.
    """

    def __init__(self, file: pathlib.Path):
        self.file = file
        while True:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self._descriptor, 200).decode("ascii", "replace").strip() or "another process"
                os.close(self._descriptor)
                raise FolderError(
                    f"{file.parent} is in use by {''.join(filter(str.isprintable, holder))}: wait for that run to end, "
                    f"or choose another folder with --out"
                ) from None
            if _is_open_as(self._descriptor, file):
                break
            os.close(self._descriptor)  # its holder removed it in between
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"process {os.getpid()} on {platform.node()}\n".encode("ascii", "replace"))

    def release(self) -> None:
        """Also if the folder was removed."""
        if _is_open_as(self._descriptor, self.file):
            self.file.unlink()
        os.close(self._descriptor)


def _is_open_as(descriptor: int, file: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
