"""The stages of the experiment `latent-diffusion`, and how they become one dataset.

learn-KIND-LEVEL-N     networks of a level of grammar N on so many strings, with data or, of the leaves, with a teacher
fresh-N                two networks of the leaves on strings drawn anew: with data, with a teacher
student                a student of the probability flow on a tree of clusters
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from diffusion import Fresh
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.latent_diffusion.config import Config
from phasetree.experiments.latent_diffusion.learning import FirstOf, Level, learn, level_of
from phasetree.experiments.latent_diffusion.students import student

KINDS = "data", "teacher"


def plan(config: Config) -> list[Stage]:
    """Networks of every level with data, of the leaves with a teacher, fresh strings, the student."""
    stages, units = [], len(config.samples)
    for number in range(config.num_grammars):
        cases = [("data", level) for level in range(1, config.depth + 1)] + [("teacher", config.depth)]
        for kind, level in cases:
            options = {"kind": kind, "level": level, "number": number}
            stages.append(Stage(f"learn-{kind}-{level}-{number}", learned, (), units, options))
        stages.append(Stage(f"fresh-{number}", fresh, (), 2, {"number": number}))
    return [*stages, Stage("student", student, (), 4)]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `kind` (data, teacher), `level`, `grammar` and number of strings `samples`: `excess` after each `step`,
      `best` and `valid` as `learning.learn` returns them, nats per masked site; `top`, what the topmost rules tell,
      loss_1 - loss_0 of `learning.py`, and `bayes`, loss_0. Of networks on fresh strings `fresh_excess`, `fresh_best`
      and `fresh_valid`. Of the student what `students.student` returns. What is not computed is NaN.
    """
    kinds = xr.Variable("kind", list(KINDS))
    grammars: list[xr.Dataset] = []
    for number in range(config.num_grammars):
        levels = range(1, config.depth + 1)
        with_data = xr.concat([results[f"learn-data-{level}-{number}"] for level in levels], _levels(levels))
        with_teacher = results[f"learn-teacher-{config.depth}-{number}"].expand_dims(level=[config.depth])
        grammars.append(xr.concat([with_data, with_teacher], kinds, join="outer").merge(results[f"fresh-{number}"]))
    dataset = xr.concat(grammars, "grammar").merge(results["student"])
    dataset.excess.attrs = {"long_name": "excess loss", "units": "nats per masked site", "process": "masking"}
    return dataset


def learned(config: Config, key: Key[Array, ""], inputs: Inputs, *, kind: str, level: int, number: int) -> xr.Dataset:
    """The networks of one level, each kept when it is trained."""
    at = level_of(config, key, number, level)
    parts: list[xr.Dataset] = []
    for count in config.samples:
        source, note = FirstOf(at.strings, jnp.int32(count)), f"{kind}, level {level}, {count} strings"

        def made(source=source, note=note) -> xr.Dataset:
            return learn(config, key, inputs, at, source, taught=kind == "teacher", note=note)

        parts.append(inputs.keep(f"strings-{count}", made))
    together = xr.concat(parts, xr.Variable("samples", list(config.samples)))
    return together.assign(top=_told(at), bayes=float(np.mean(at.exact)))


def fresh(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """The networks of the leaves on fresh strings, with data and with a teacher, the same strings and noise."""
    at = level_of(config, key, number, config.depth)
    parts: list[xr.Dataset] = []
    for kind in KINDS:

        def made(kind=kind) -> xr.Dataset:
            return learn(config, key, inputs, at, Fresh(at.upper), taught=kind == "teacher", note=f"{kind}, fresh")

        parts.append(inputs.keep(kind, made))
    together = xr.concat(parts, xr.Variable("kind", list(KINDS)))
    return together.rename({name: f"fresh_{name}" for name in ("excess", "best", "valid")})


def _told(at: Level) -> float:
    """What the topmost rules tell, on the half of the held-out strings on which losses are reported."""
    half = len(at.x0) // 2
    return float(np.mean((at.by_part - at.exact)[half:]))


def _levels(levels: range) -> xr.Variable:
    return xr.Variable("level", list(levels))
