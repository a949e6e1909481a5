"""Options of the experiment `latent-diffusion`, and their presets."""

import dataclasses
from typing import Annotated, Literal

import jax
from jaxtyping import Array, Key
from tyro.conf import arg

from diffusion import Masking, TrainConfig
from hierarchical import RandomHierarchyModel
from phasetree.experiments.checks import check_counts, check_grammar, check_options, check_tree_network, for_any_machine

_TRAIN = TrainConfig(steps=1500, learning_rate=3e-3)


@dataclasses.dataclass(frozen=True)
class Config:
    """Count the strings that denoisers of each level need, with data and with an exact teacher."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: one grammar of depth 2, about a minute; default: three grammars
    of depth 3, about nine minutes on two cores; paper: ten grammars of depth 4, longer training, many hours."""
    seed: int = 0
    """Decides the grammars, the networks' initial weights and every draw."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 3
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 3
    """L, levels of rules; strings have s^L symbols."""
    num_grammars: int = 3
    """Grammars; all errors are those over them."""
    samples: tuple[int, ...] = (10, 40, 160, 640, 2560, 10_240)
    """P, numbers of training strings, increasing."""
    num_data: int = 4096
    """Held-out strings: half choose the step at which training is best, the others are what losses are measured on."""
    num_generated: int = 1024
    """Strings that each network generates."""
    width: int = 48
    """Width of every tree U-Net."""
    num_points: int = 4096
    """Points on which the student of few steps is compared with the flow."""
    student_steps: int = 3000
    """Updates of the student, of 256 data each."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: _TRAIN)
    """Training of each network; held-out losses are measured after every `steps_per_chunk`."""

    def __post_init__(self):
        check_options(
            self, depth=1, num_grammars=1, num_data=8, num_generated=2, width=1, num_points=8, student_steps=1
        )
        values = self.samples
        if list(values) != sorted(set(values)) or len(values) < 2 or values[0] < 1:
            raise ValueError(f"samples = {values}: give at least two increasing whole numbers from 1 on")
        check_grammar(self, "num_data", "num_generated", "samples")
        check_counts(self, ("num_grammars", "samples"), "num_points", "student_steps", "steps")
        check_tree_network(self)
        jax.eval_shape(self.grammar, jax.random.key(0))  # refuses impossible sizes

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset

    @property
    def noise(self) -> Masking:
        """The process that noises the strings."""
        return Masking(self.num_symbols)

    @property
    def looks(self) -> list[int]:
        """Steps after which held-out losses are looked at."""
        return [*range(self.train.steps_per_chunk, self.train.steps, self.train.steps_per_chunk), self.train.steps]

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """A random grammar of these sizes."""
        return RandomHierarchyModel(self.num_symbols, self.num_synonyms, self.branching, self.depth, key=key)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick", depth=2, num_grammars=1, samples=(32, 100, 320, 1000), num_points=1024,
            student_steps=600, train=dataclasses.replace(_TRAIN, steps=600),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper", depth=4, num_grammars=10, samples=(32, 100, 320, 1000, 3200, 10_000, 32_000), width=96,
            student_steps=20_000, train=dataclasses.replace(_TRAIN, steps=10_000),
        ),
    }  # fmt: skip
