"""What the experiment `transition` can be asked: its options and their presets."""

import dataclasses
from typing import Annotated, Literal

import jax
from jaxtyping import Array, Key
from tyro.conf import arg

from diffusion import TrainConfig
from hierarchical import RandomHierarchyModel
from phasetree.experiments.checks import check_grammar, check_options

# first and last noise time of the grid; for Gaussian noise in units of the infinite-depth threshold, if there is one
TIMES = {"masking": (0.05, 0.95), "uniform": (0.05, 0.95), "gaussian": (0.2, 3.2), "epsilon": (0.05, 0.99)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which the class, and every level below it, is lost; compare with exact theory."""

    preset: Literal["quick", "default", "paper", "paper-trained"] = "default"
    """Where all other options start from. quick: a grammar of depth 3, about a minute; default: under five minutes on
    two cores; paper: the published sizes v = 32, m = 8, L = 9, exact inference and theory without training;
    paper-trained: v = 16, m = 4, with training."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 3
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 4
    """L, levels of rules; strings have s^L symbols."""
    process: Literal["masking", "uniform", "gaussian", "epsilon"] = "masking"
    """Noise: t is the masked or replaced fraction, the OU time (gaussian), or eps. Epsilon is no channel: theory and
    exact inference only."""
    num_times: int = 17
    """Noise levels."""
    num_data: int = 4096
    """Strings noised and denoised at every noise level."""
    num_grammars: int = 1
    """Grammars to train on, each with a network of its own."""
    ensemble: int = 32
    """Grammars over which exact inference is averaged."""
    training_set: Annotated[int, arg(aliases=("-n",))] = 512
    """n, strings that the empirical denoiser knows; 0 leaves it out."""
    width: int = 64
    """Width of the tree U-Net; 0 trains nothing."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: TrainConfig(steps=10_000, learning_rate=4e-3))
    """Training of each network."""
    seed: int = 0
    """Everything random follows from it."""

    def __post_init__(self):
        check_options(self)
        check_grammar(self)
        jax.eval_shape(self.grammar, jax.random.key(0))  # refuses impossible sizes
        for name in ("num_times", "num_data", "num_grammars", "ensemble"):
            if getattr(self, name) < 2 - (name == "num_grammars"):
                raise ValueError(f"{name} = {getattr(self, name)} is too small for a curve with errors: raise it")
        for name in ("training_set", "width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: give a positive number, or 0 to leave it out")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """A random grammar of these sizes."""
        return RandomHierarchyModel(self.num_symbols, self.num_synonyms, self.branching, self.depth, key=key)


PRESETS = {
    "quick": Config("quick", depth=3, num_data=512, train=TrainConfig(steps=1000, learning_rate=4e-3)),
    "default": Config(),
    "paper": Config("paper", 32, 8, 2, 9, num_data=512, ensemble=12, width=0),
    "paper-trained": Config(
        "paper-trained", 16, 4, 2, 4, width=128, train=TrainConfig(steps=10_000, learning_rate=3e-3)
    ),
}
