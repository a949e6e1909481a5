"""The folder of one run: claimed by its identity, locked while it runs, every file whole and checked.

A file is written under a hidden name and renamed, after its checksum: a kill leaves the file before, or none, and what
was left under a hidden name goes when the folder is opened again. Every read compares the checksum, so that a flipped
bit is an error and never a number. From the folder, `cat $(find checksums -type f) | sha256sum -c` checks it by hand.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from diffusion import AbstractNetworkDenoiser, Autoencoder, FolderError, save
from diffusion.folders.run_folder import LOCK, locked
from diffusion.folders.stored import verify

ELSEWHERE = "choose another folder with --out"
CHECKPOINTS, NETWORKS = "checkpoints", "networks"
OURS = {LOCK, "checksums", ".config.json.part"}  # what a run that was killed at once leaves


class RunFolder:
    """The folder of one run, open: nobody else can open it until it is closed."""

    def __init__(self, folder: str | os.PathLike, identity: dict[str, Any]):
        """Open or create `folder` for the run of this identity, JSON values, which is kept in `config.json`.

        Raises:
          FolderError: if it cannot be written, is in use, holds another run, or is not the folder of a run.
        """
        self.path = pathlib.Path(folder).expanduser()
        self._made = [parent for parent in self.path.parents if not parent.exists()]  # innermost first
        with contextlib.ExitStack() as held, writing(self.path):
            held.enter_context(locked(self.path, ELSEWHERE))
            if not self.has("config.json") and {entry.name for entry in self.path.iterdir()} - OURS:
                raise FolderError(f"{self.path} is not empty and holds no run of this program: {ELSEWHERE}")
            for part in list(self.path.glob("**/.*.part")):  # files, and folders of checkpoints
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            self._held = held.pop_all()
        self.identity = json.dumps(identity, indent=1) + "\n"
        """As JSON, the content of `config.json`."""
        try:
            self._claim(identity)
        except BaseException:
            self.close()
            raise

    def _claim(self, identity: dict[str, Any]) -> None:
        if not self.has("config.json"):
            self.write("config.json", self.identity.encode())
            return
        advice = f"delete {self.path} to start again, or {ELSEWHERE}"
        try:
            kept = dict(json.loads(self.read("config.json", advice)))
        except (TypeError, ValueError, RecursionError) as error:
            raise FolderError(f"{self.path / 'config.json'} is damaged: {advice}") from error
        differing = [name for name in {**kept, **identity} if kept.get(name) != identity.get(name)]
        if differing:
            there_here = "; ".join(f"{_shown(n)} = {_shown(kept.get(n))} there, {_shown(identity.get(n))} here"
                                   for n in differing)  # fmt: skip
            raise FolderError(f"{self.path} holds another run ({there_here}): {ELSEWHERE}, or delete it")

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def write(self, name: str, content: bytes) -> None:
        """Keep a file, and its checksum.

        Raises:
          FolderError: if it cannot be written, as on a full disk.
        """
        file = self.path / name
        with writing(file):
            write_whole(_checksum_file(self.path, name), _checksum(name, content))
            write_whole(file, content)

    def write_network(self, name: str, network: AbstractNetworkDenoiser | Autoencoder) -> None:
        """Save a trained denoiser or autoencoder under `networks/`; what a killed run left there is replaced.

        Raises:
          FolderError: if it cannot be written.
        """
        folder = self.path / NETWORKS / name
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            save(network, folder)

    def check_network(self, name: str) -> None:
        """Compare what `write_network` wrote, if anything is there, with its checksums.

        Raises:
          FolderError: if it is damaged.
        """
        folder, stage = self.path / NETWORKS / name, self.path / "stages" / f"{name}.nc"
        if folder.exists():
            verify(folder, f"delete {folder} to do without, or {stage}, and the next run trains again")

    def begin_from(self, other: pathlib.Path) -> None:
        """Copy the checkpoints of another run, unless this run has its own: its trainings go on where those ended.

        Raises:
          FolderError: if the other run has none, or they cannot be copied.
        """
        source, target = other.expanduser() / CHECKPOINTS, self.path / CHECKPOINTS
        if target.exists():
            return
        if not source.is_dir():
            raise FolderError(f"{other} holds no checkpoints: give the folder of a run that trained")
        part = self.path / f".{CHECKPOINTS}.part"
        with writing(target):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source, part, ignore=shutil.ignore_patterns(LOCK))
            part.rename(target)

    def read(self, name: str, advice: str) -> bytes:
        """The content of a file that was written, see `read_checked`."""
        return read_checked(self.path, name, advice)

    def close(self) -> None:
        """Let others open the folder."""
        self._held.close()

    @contextlib.contextmanager
    def removed_if_unused(self) -> Iterator[None]:
        """Remove the folder if the block fails before a stage or a checkpoint is kept."""
        try:
            yield
        except BaseException:
            if not any(file.is_file() for kept in ("stages", CHECKPOINTS) for file in (self.path / kept).rglob("*")):
                shutil.rmtree(self.path)
                with contextlib.suppress(OSError):  # another run may use it by now
                    for parent in self._made:
                        parent.rmdir()
            raise


@contextlib.contextmanager
def writing(file: pathlib.Path, elsewhere: str = ELSEWHERE) -> Iterator[None]:
    """Errors of the system inside are FolderErrors that name the file and advise to write `elsewhere`."""
    try:
        yield
    except OSError as error:
        raise FolderError(f"cannot write to {file}: {error.strerror}; {elsewhere}") from error


def read_checked(folder: pathlib.Path, name: str, advice: str) -> bytes:
    """A file of a run's folder.

    Raises:
      FolderError: if the file or its checksum is missing or damaged; `advice` says what to do.
    """
    try:
        content, checksum = (folder / name).read_bytes(), _checksum_file(folder, name).read_bytes()
    except OSError as error:
        raise FolderError(f"{error.filename} cannot be read ({error.strerror}): {advice}") from error
    if checksum != _checksum(name, content):
        raise FolderError(f"{folder / name} is damaged: {advice}")
    return content


def _checksum(name: str, content: bytes) -> bytes:
    """A line in the format of the program sha256sum."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _checksum_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / "checksums" / f"{name}.sha256"


def write_whole(file: pathlib.Path, content: bytes) -> None:
    """Write a file whole or not at all: under a hidden name, which only a kill leaves behind, and renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _shown(value: object, most: int = 80) -> str:
    """A value of a file that anyone may have written: short, in printable ASCII."""
    text = value if isinstance(value, str) and value.isidentifier() and value.isascii() else json.dumps(value)
    return text if len(text) <= most else text[:most] + "..."
