"""Options of the experiment `susceptibility`, and their presets."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import jax
from jaxtyping import Array, Key
from tyro.conf import arg

from diffusion import TrainConfig
from hierarchical import RandomHierarchyModel, load_rules
from phasetree.experiments.checks import check_counts, check_grammar, check_options, check_tree_network, for_any_machine
from phasetree.experiments.own_rules import take_rules


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which changes of a datum are most correlated; compare with exact inference and controls."""

    preset: Literal["quick", "default", "paper", "epsilon"] = "default"
    """Starting point for all other options. quick: a grammar of depth 3, about a minute; default: about six minutes on
    two cores; paper: v = 32, m = 8, L = 9 with 256 data and as many trajectories, exact inference without training;
    epsilon: the same sizes, the epsilon-process beside mean field, a minute."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 3
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 4
    """L, levels of rules; strings have s^L symbols."""
    rules: pathlib.Path | None = None
    """File of rule tables (.json, .npz: docs/own-data.md) in the place of a drawn grammar; gives v, m, s and L."""
    process: Literal["masking", "uniform", "epsilon"] = "masking"
    """Noise process; t is the masked fraction, the replaced fraction or eps. Epsilon is no channel: nothing is trained,
    exact covariances and mean field replace the trajectories, and only controls are noised and denoised."""
    first_time: float = 0.05
    """The smallest noise level, in (0, 1)."""
    last_time: float = 0.95
    """The largest noise level, in (0, 1)."""
    num_times: int = 13
    """Noise levels, evenly spaced."""
    num_data: int = 256
    """Data of each grammar."""
    num_trajectories: int = 128
    """R, how many times each datum is noised and denoised at every noise level; for epsilon, only in the controls."""
    num_grammars: int = 1
    """Grammars, each with a network of its own. With several, errors are taken over grammars, else over data."""
    depths: tuple[int, ...] = ()
    """Depths L at which chi of exact inference is compared, by as many data and trajectories each; none by default."""
    controls: bool = True
    """Whether to measure controls: a Markov chain and a flat mixture made from the first grammar, a Gaussian field."""
    no_train: bool = False
    """Train nothing: exact inference only. Nothing is trained for epsilon either."""
    width: int = 64
    """Width of the tree U-Net, channels of a node."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: TrainConfig(steps=10_000, learning_rate=4e-3))
    """Training of each network."""
    seed: int = 0
    """Decides the grammars, the networks' initial weights and every draw."""

    def __post_init__(self):
        check_options(self, width=1)
        take_rules(self)
        check_grammar(self, "num_data", "num_trajectories")
        check_counts(self, ("num_grammars", "num_times", "num_data"))
        if self.trains:
            check_tree_network(self)
            check_counts(self, "steps")
        if self.rules is None:
            jax.eval_shape(self.grammar, jax.random.key(0))  # refuses impossible sizes
        for name, least in {"num_times": 3, "num_data": 4, "num_trajectories": 2, "num_grammars": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)} is too small: at least {least}")
        if any(depth < 1 for depth in self.depths) or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths = {self.depths}: give different numbers from 1 on")
        if self.depths and (self.rules or self.process == "epsilon"):
            raise ValueError(
                f"depths = {self.depths} are of random grammars under a channel: leave out rules and epsilon"
            )
        if self.depths:
            check_grammar(self, "num_data", "num_trajectories", deepest="depths")
        if not 0 < self.first_time < self.last_time < 1:
            raise ValueError(
                f"first_time = {self.first_time}, last_time = {self.last_time}: give 0 < first_time < last_time < 1"
            )

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        parts = [self.preset]
        parts += [self.process] if self.process not in ("masking", self.preset) else []
        parts += [self.rules.stem] if self.rules else []
        return "-".join(parts)

    @property
    def trains(self) -> bool:
        """Whether networks are trained."""
        return not self.no_train and self.process != "epsilon"

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """The grammar of the file, or a random one."""
        if self.rules:
            return load_rules(self.rules)
        return RandomHierarchyModel(self.num_symbols, self.num_synonyms, self.branching, self.depth, key=key)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            "quick",
            depth=3,
            num_times=7,
            num_data=64,
            num_trajectories=32,
            train=TrainConfig(steps=1000, learning_rate=4e-3),
        ),
        "default": Config(),
        "paper": Config(
            "paper", 32, 8, 2, 9, last_time=0.6, num_times=12, num_trajectories=256, controls=False, no_train=True
        ),
        "epsilon": Config(
            "epsilon",
            32,
            8,
            2,
            9,
            process="epsilon",
            first_time=0.5,
            num_times=19,
            num_data=32,
            controls=False,
            no_train=True,
        ),
    }
