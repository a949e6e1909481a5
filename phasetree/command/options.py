"""Options of a run, read by tyro in two passes: the preset first, then everything else with the preset as default.

The second pass sees one dataclass: the experiment's own config and, after its fields, `--out`, `--start`, `--seeds` and
`--debug`. So one list explains all options, `--preset` first. tyro draws its complaints in a box; here they become one
sentence.
"""

import contextlib
import dataclasses
import io
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from phasetree.command.terminal import UsageError

OUT = Annotated[
    pathlib.Path | None,
    arg(
        help="Folder of the run; without it results/EXPERIMENT-PRESET-seedN (a text file or a set of images adds its "
        "name). If it holds this run, the run continues.",
        metavar="PATH",
    ),
]
START = Annotated[
    pathlib.Path | None,
    arg(
        help="Folder of a finished run with fewer --steps, at --final-rate 1: this run continues from its checkpoints.",
        metavar="PATH",
    ),
]
SEEDS = Annotated[
    int,
    arg(help="Number of seeds, from --seed on: findings are averaged, with errors from the scatter between seeds."),
]
DEBUG = Annotated[bool, arg(help="Show the traceback of an error instead of one line.")]

MOST_SEEDS = 10_000
"""Each is a whole run, with a folder of its own."""


@dataclasses.dataclass(frozen=True)
class First:
    """The options that must be known before the others can be read."""

    preset: str = "default"
    debug: bool = False


class Options(NamedTuple):
    """A configuration, the folder of its run (None: the default folder), the number of seeds, the run to continue."""

    config: Any
    out: pathlib.Path | None
    seeds: int
    start: pathlib.Path | None


def first_options(words: Sequence[str]) -> First:
    """The preset and `--debug`, wherever they stand among `words`."""
    with one_sentence():
        first, _ = tyro.cli(First, args=words, add_help=False, return_unknown_args=True, config=(FlagCreatePairsOff,))
    return first


def read_options(prog: str, presets: Mapping[str, Any], preset: str, words: Sequence[str]) -> Options:
    """The config that `words` describe on top of the preset; `--help` prints every option and exits.

    Raises:
      UsageError: if an option is unknown or its value impossible.
    """
    from phasetree.experiments.checks import for_any_machine  # here, for it imports JAX

    if preset not in presets:
        raise UsageError(f"--preset {preset}: choose one of {', '.join(presets)}")
    config, kind = presets[preset], type(presets[preset])
    extra = [("out", OUT, None), ("start", START, None), ("seeds", SEEDS, 1), ("debug", DEBUG, False)]
    names = [field.name for field in dataclasses.fields(config)]
    if "preset" not in names:
        extra.append(("preset", tyro.extras.literal_type_from_choices(list(presets)), preset))
    merged = dataclasses.make_dataclass(kind.__name__, extra, bases=(kind,), frozen=True)
    with for_any_machine():
        default = merged(**_fields(config, names))
    with one_sentence():
        got = tyro.cli(
            merged,
            args=words,
            default=default,
            prog=prog,
            description=f"{kind.__doc__}\n\n{_describe(presets)}",
            config=(OmitArgPrefixes, FlagCreatePairsOff),
        )
    if not 1 <= got.seeds <= MOST_SEEDS or (got.seeds > 1 and got.start):
        raise UsageError(f"--seeds {got.seeds}: give 1 to {MOST_SEEDS}, and 1 beside --start")
    return Options(kind(**_fields(got, names)), _home("out", got.out), got.seeds, _home("start", got.start))


def _home(name: str, path: pathlib.Path | None) -> pathlib.Path | None:
    """A path without ~."""
    try:
        return path and path.expanduser()
    except RuntimeError:
        raise UsageError(f"--{name} {path}: there is no such user") from None


def _fields(config: Any, names: list[str]) -> dict[str, Any]:
    return {name: vars(config)[name] for name in names}


def _describe(presets: Mapping[str, Any]) -> str:
    """A line for each preset: the options in which it differs from the default."""
    usual = dict(leaves(presets["default"])) if "default" in presets else {}
    lines = []
    for name, config in presets.items():
        changed = [f"{key} {value}" for key, value in leaves(config) if key != "preset" and usual.get(key) != value]
        lines.append(f"  {name:14} {', '.join(changed) or 'the defaults below'}")
    return "presets (--preset NAME; options beside it replace its values):\n" + "\n".join(lines)


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of all options, those of nested configs too."""
    for field in dataclasses.fields(config):
        value = vars(config)[field.name]
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, " ".join(map(str, value)) if isinstance(value, tuple) else value


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn the box in which tyro draws a complaint into a UsageError of one sentence."""
    with contextlib.redirect_stderr(io.StringIO()) as box:
        try:
            yield
        except SystemExit as error:
            if not error.code:  # help has been printed
                raise
            raise UsageError(_sentence(box.getvalue())) from None


def _sentence(box: str) -> str:
    """The complaint, which stands between the title and the first rule below it, and the options that it suggests."""
    rows = [row.strip("│ ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    parts = [list(part) for rule, part in itertools.groupby(rows[1:], lambda row: not row.strip("─-╰╯")) if not rule]
    if not parts:
        return box.strip()
    sentence = re.sub(r"^Error parsing (?!-)\w+: ", "", " ".join(parts[0]))  # the message of our config follows
    near = [row.split(",")[0] for part in parts if part[0].startswith("Perhaps") for row in part if row[:2] == "--"]
    return f"{sentence} (perhaps {' or '.join(near)})" if near else sentence
