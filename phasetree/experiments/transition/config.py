"""Options of the experiment `transition`, and their presets."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from tyro.conf import arg

from diffusion import TrainConfig
from diffusion.noise.process import AbstractTokenProcess
from hierarchical import RandomHierarchyModel, load_rules
from phasetree.experiments.checks import check_counts, check_grammar, check_options, check_tree_network, for_any_machine
from phasetree.experiments.own_rules import take_rules
from phasetree.experiments.processes import PROCESSES

STRINGS = 64  # of each grammar of the ensemble
# first and last noise time of the grid; for Gaussian noise in units of the annealed threshold, if there is one
TIMES = {"masking": (0.05, 0.95), "uniform": (0.05, 0.95), "gaussian": (0.2, 3.2), "epsilon": (0.05, 0.99)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which the class, and every level below it, is lost; compare with exact theory."""

    preset: Literal["quick", "default", "paper", "paper-trained"] = "default"
    """Where all other options start from. quick: a grammar of depth 3, about a minute; default: under five minutes on
    two cores; paper: the published sizes v = 32, m = 8, L = 9, exact inference and theory without training;
    paper-trained: v = 16, m = 4, with training."""
    seed: int = 0
    """Decides the grammars, the networks' initial weights and every draw."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 3
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 4
    """L, levels of rules; strings have s^L symbols."""
    rules: pathlib.Path | None = None
    """File of rule tables (.json, .npz: docs/own-data.md) in the place of a drawn grammar; gives v, m, s and L. The
    ensemble and the annealed threshold stay those of random grammars of these sizes."""
    process: Literal["masking", "uniform", "gaussian", "epsilon"] = "masking"
    """Noise: t is the masked or replaced fraction, the OU time (gaussian), or eps. Epsilon is no channel: theory and
    exact inference only."""
    num_times: int = 17
    """Noise times of the curves of all levels."""
    num_data: int = 2048
    """Strings noised and denoised at each of them."""
    close_times: int = 9
    """Noise times around the loss of the class, where network and posterior are compared string by string."""
    close_data: int = 16_384
    """Strings at each of those."""
    num_grammars: int = 1
    """Grammars to train on, each with a network of its own."""
    ensemble: int = 32
    """Grammars over which exact inference is averaged, and whose own thresholds are measured."""
    depths: tuple[int, ...] = ()
    """Depths L at which the loss of the class is compared by exact inference, 2 4 6 8 10 say; none by default."""
    training_set: Annotated[int, arg(aliases=("-n",))] = 512
    """n, strings that the empirical denoiser knows; 0 leaves it out."""
    no_train: bool = False
    """Train nothing: exact inference and theory only."""
    width: int = 64
    """Width of the tree U-Net."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: TrainConfig(steps=10_000, learning_rate=4e-3))
    """Training of each network."""

    def __post_init__(self):
        check_options(self, width=1, num_grammars=1, training_set=0, close_data=2)
        take_rules(self)
        check_grammar(self, "num_data", "close_data", "training_set", STRINGS)
        check_counts(self, ("num_grammars", "num_times", "num_data"), ("num_grammars", "close_times", "close_data"))
        check_counts(self, ("ensemble", "num_times"))
        if self.trains:
            check_tree_network(self)
            check_counts(self, "steps")
        jax.eval_shape(self.random_grammar, jax.random.key(0))  # refuses impossible sizes
        for name in ("num_times", "close_times", "num_data", "ensemble"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} = {getattr(self, name)} is too small for a curve with errors: raise it")
        if any(depth < 1 for depth in self.depths) or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths = {self.depths}: give different numbers from 1 on")
        if self.depths:
            check_grammar(self, STRINGS, deepest="depths")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return f"{self.preset}-{self.rules.stem}" if self.rules else self.preset

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(v, m, s)."""
        return self.num_symbols, self.num_synonyms, self.branching

    @property
    def noise(self) -> AbstractTokenProcess:
        """The process that noises the strings."""
        return PROCESSES[self.process](self.num_symbols)

    @property
    def trains(self) -> bool:
        """Whether networks are trained; the epsilon-process cannot be learned."""
        return not self.no_train and self.process != "epsilon"

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """The grammar of the file, or a random one."""
        return load_rules(self.rules) if self.rules else self.random_grammar(key)

    def random_grammar(self, key: Key[Array, ""], depth: int | None = None) -> RandomHierarchyModel:
        """A random grammar of these sizes."""
        return RandomHierarchyModel(*self.sizes, depth or self.depth, key=key)

    def times(self, threshold: float) -> Float[np.ndarray, " times"]:
        """The noise times of the curves; `threshold` is the annealed one, NaN where there is none."""
        scale = threshold if self.process == "gaussian" and np.isfinite(threshold) else 1.0
        return np.linspace(*TIMES[self.process], self.num_times) * scale


_SHORT = TrainConfig(steps=1000, learning_rate=4e-3)
with for_any_machine():
    PRESETS = {
        "quick": Config("quick", depth=3, num_data=512, close_data=2048, ensemble=16, train=_SHORT),
        "default": Config(),
        "paper": Config(
            "paper", 0, 32, 8, 2, 9, num_data=256, close_data=1024, ensemble=12, training_set=0, no_train=True
        ),
        "paper-trained": Config(
            "paper-trained", 0, 16, 4, 2, 4, width=128, train=TrainConfig(steps=10_000, learning_rate=3e-3)
        ),
    }
