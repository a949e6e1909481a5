"""Options of the experiment `jacobian`, and their presets."""

import dataclasses
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from tyro.conf import arg

from diffusion import GaussianProcess, TrainConfig
from hierarchical import RandomHierarchyModel
from phasetree.experiments.checks import check_counts, check_grammar, check_options, check_tree_network, for_any_machine

TIMES = (0.3, 2.3)  # first and last noise time, in units of the annealed threshold, if there is one


@dataclasses.dataclass(frozen=True)
class Config:
    """Find where the Jacobian of the denoiser has its largest eigenvalue; compare with the loss of the class."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Where all other options start from. quick: depth 3, under two minutes; default: under five minutes on two
    cores; paper: v = 16, m = 4, depth 5, more grammars, strings and noise times, longer training."""
    seed: int = 0
    """Decides the grammars, the network's initial weights and every draw."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 3
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 4
    """L, levels of rules; strings have s^L symbols."""
    num_grammars: int = 16
    """Grammars whose exact denoisers are asked; at least 4, over which the peak is located."""
    num_data: int = 48
    """Strings of each grammar, noised at each noise time."""
    num_times: int = 21
    """Noise times, evenly spaced from .3 to 2.3 annealed thresholds."""
    search_steps: int = 8
    """Blocks of 3 products by which each leading vector is searched; the residual is reported."""
    no_train: bool = False
    """Train nothing: exact denoisers only."""
    width: int = 64
    """Width of the tree U-Net."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: TrainConfig(steps=2000, learning_rate=4e-3))
    """Training of the network, on strings of the first grammar."""

    def __post_init__(self):
        check_options(self, width=1, num_grammars=4, num_data=2, num_times=3, search_steps=1)
        check_grammar(self, "num_data")
        check_counts(self, ("num_grammars", "num_times", "num_data"))
        if not self.no_train:
            check_tree_network(self)
            check_counts(self, "steps")
        jax.eval_shape(self.grammar, jax.random.key(0))  # refuses impossible sizes

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(v, m, s)."""
        return self.num_symbols, self.num_synonyms, self.branching

    @property
    def noise(self) -> GaussianProcess:
        """The process that noises the strings."""
        return GaussianProcess(num_symbols=self.num_symbols)

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """A random grammar of these sizes."""
        return RandomHierarchyModel(*self.sizes, self.depth, key=key)

    def times(self, threshold: float) -> Float[np.ndarray, " times"]:
        """The noise times, given the annealed threshold, NaN where there is none."""
        return np.linspace(*TIMES, self.num_times) * (threshold if np.isfinite(threshold) else 1.0)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick", depth=3, num_grammars=8, num_data=32, num_times=11, train=TrainConfig(steps=500)
        ),
        "default": Config(),
        "paper": Config(
            preset="paper", num_symbols=16, num_synonyms=4, depth=5, num_grammars=32, num_data=64, num_times=31,
            search_steps=12, train=TrainConfig(steps=10_000, learning_rate=3e-3),
        ),
    }  # fmt: skip
