"""Identities, which distinguish runs and stages.

A run is its experiment, the experiment's `GENERATION` and its config; a file or folder that the config names counts by
its content, so that a moved file is the same and a changed one another. A stage is, within its run, its name, its
options and the stages it needs. Nobody writes identities by hand.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from phasetree.experiment import Stage


def run_identity(experiment: str, generation: int, config: Any) -> dict[str, Any]:
    """The identity of a run in JSON values; `config` is a dataclass."""
    fields = dataclasses.asdict(config)
    return json.loads(json.dumps({"experiment": experiment, **fields, "generation": generation}, default=_by_content))


def stage_identity(stage: Stage, identities: dict[str, str]) -> str:
    """A digest; `identities` are those of earlier stages by name."""
    parts = [stage.name, dict(stage.options), [identities[name] for name in stage.inputs]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _by_content(value: Any) -> str:
    """The digest of a file's or folder's content; the name itself if there is none (a packaged text or set)."""
    if not isinstance(value, pathlib.Path):
        raise TypeError(f"config holds {value!r}: an identity is of JSON values and paths")
    if value.is_dir():
        files = sorted(file for file in value.rglob("*") if file.is_file())
        digests = "".join(f"{file.relative_to(value).as_posix()}\0{_digest(file)}\n" for file in files)
        return f"sha256 {hashlib.sha256(digests.encode()).hexdigest()}"
    return f"sha256 {_digest(value)}" if value.is_file() else str(value)


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
