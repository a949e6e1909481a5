"""How phasetree measures speed: one question per script, the answer checked before it is timed, one closing sentence.

`compare` compiles each case once, checks it, then times all cases in turns, so that a drift of the machine hits all of
them alike. Ratios of minima are what to quote; absolute times belong to the machine in the header.
"""

import argparse
import dataclasses
import json
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
from rich.console import Console
from rich.table import Table


@dataclasses.dataclass
class Case:
    """Something to time: `call` returns arrays, `check` raises if they are wrong."""

    name: str
    call: Callable[[], Any]
    check: Callable[[Any], None] = lambda answer: None


@dataclasses.dataclass
class Row:
    """Measured times of a case, seconds."""

    name: str
    compile_and_first: float
    best: float
    median: float


def compare(cases: list[Case], repeats: int = 10) -> list[Row]:
    """Time every case `repeats` times, interleaved, after one checked warm-up call each."""
    first = []
    for case in cases:
        start = time.perf_counter()
        answer = jax.block_until_ready(case.call())
        first.append(time.perf_counter() - start)
        case.check(answer)
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(repeats):
        for case, spent in zip(cases, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(case.call())
            spent.append(time.perf_counter() - start)
    return [
        Row(case.name, begun, min(spent), statistics.median(spent))
        for case, begun, spent in zip(cases, first, times, strict=True)
    ]


def arguments(description: str, **own: tuple[Callable[[str], Any], str]) -> argparse.Namespace:
    """The options of every benchmark, and those of its `own`: name, type and help."""
    parser = argparse.ArgumentParser(description=description)
    for name, (kind, explained) in own.items():
        parser.add_argument(f"--{name}", type=kind, help=explained)
    parser.add_argument("--json", type=pathlib.Path, help="also write header and rows to this file")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls per case (default 10)")
    return parser.parse_args()


def header() -> dict[str, Any]:
    """What the figures depend on."""
    git = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "jax": jax.__version__,
        "device": f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind} x {jax.device_count()}",
        "python": platform.python_version(),
        "commit": commit or None,
    }


def show(title: str, rows: list[Row], sentence: str, path: pathlib.Path | None) -> None:
    """Print header, table and closing sentence; write them as JSON if asked."""
    table = Table("case", "compile + first (s)", "best (ms)", "median (ms)", title=title)
    for row in rows:
        numbers = f"{row.compile_and_first:.2f}", f"{1e3 * row.best:.3f}", f"{1e3 * row.median:.3f}"
        table.add_row(row.name, *numbers)
    console = Console()
    console.print(*(f"{key} {value}" for key, value in header().items()), sep=" | ")
    console.print(table)
    console.print(sentence)
    if path:
        record = {**header(), "title": title, "rows": [dataclasses.asdict(row) for row in rows], "sentence": sentence}
        path.write_text(json.dumps(record, indent=1) + "\n")
