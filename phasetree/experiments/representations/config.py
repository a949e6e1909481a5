"""Options of the experiment `representations`, and their presets."""

import dataclasses
from typing import Annotated, Literal

import jax
from jaxtyping import Array, Key
from tyro.conf import arg

from diffusion import Masking, TrainConfig
from hierarchical import RandomHierarchyModel
from phasetree.experiments.checks import (
    TRANSFORMER,
    check_counts,
    check_different,
    check_grammar,
    check_network,
    check_options,
    check_tree_network,
    for_any_machine,
)

KINDS = "tree", "transformer", "causal"
FORCED = "true", "wrong"
STRENGTHS = 1.0, 2.0, 4.0
_TRAIN = TrainConfig(steps=1500, learning_rate=3e-3)


@dataclasses.dataclass(frozen=True)
class Config:
    """Read the latents of a grammar, and their exact posterior, off the layers of trained networks."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: a grammar, a few minutes; default: three grammars, about nine
    minutes on two cores; paper: ten grammars and longer training, hours."""
    seed: int = 0
    """Decides the grammars, the networks' initial weights and every draw."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 2
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depth: Annotated[int, arg(aliases=("-L",))] = 3
    """L, levels of rules; strings have s^L symbols."""
    num_grammars: int = 3
    """Grammars, each with networks of its own; all errors are those over them."""
    times: tuple[float, ...] = (0.2, 0.5, 0.8)
    """Masked fractions at which states are read, increasing."""
    num_data: int = 2048
    """Strings at each of them: probes are fitted to half of them and scored on the others."""
    width: int = 48
    """Width of every network, a multiple of 4, the heads of a transformer."""
    num_layers: int = 3
    """Layers of the transformers."""
    num_features: int = 64
    """Directions of the sparse autoencoders."""
    num_active: int = 4
    """Of which a state is the sum."""
    feature_steps: int = 500
    """Steps of each of the six rounds that train a sparse autoencoder, on 256 states each."""
    train: TrainConfig = dataclasses.field(default_factory=lambda: _TRAIN)
    """Training of each network."""

    def __post_init__(self):
        check_options(self, num_grammars=1, num_data=16, num_layers=1, num_active=1, feature_steps=2, width=4)
        check_grammar(self, "num_data")
        check_tree_network(self)
        check_network(self, TRANSFORMER * self.num_layers, also=("num_layers",))
        check_counts(self, ("num_grammars", "times", "num_data"), ("num_features", "width"))
        check_counts(self, "feature_steps", "steps")
        jax.eval_shape(self.grammar, jax.random.key(0))  # refuses impossible sizes
        if not self.times or not all(0 < t < 1 for t in self.times) or sorted(self.times) != list(self.times):
            raise ValueError(f"times = {self.times}: give increasing masked fractions between 0 and 1")
        check_different("times", self.times)
        if self.width % 4:
            raise ValueError(f"width = {self.width}: give a multiple of 4")
        least, most = self.num_active, self.num_data * self.branching**self.depth
        if not least <= self.num_features <= most:
            raise ValueError(
                f"num_features = {self.num_features}: give {least} (num_active) to {most}, the sites of all data"
            )

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset

    @property
    def noise(self) -> Masking:
        """The process that noises the strings."""
        return Masking(self.num_symbols)

    @property
    def middle(self) -> float:
        """The time of the figure, the tables and the sparse autoencoders."""
        return self.times[len(self.times) // 2]

    def grammar(self, key: Key[Array, ""]) -> RandomHierarchyModel:
        """A random grammar of these sizes."""
        return RandomHierarchyModel(self.num_symbols, self.num_synonyms, self.branching, self.depth, key=key)


def layer_names(kind: str, depth: int, num_layers: int) -> list[str]:
    """Names of the states of a network, first layer first."""
    if kind == "tree":
        return [f"up_{level}" for level in reversed(range(depth + 1))] + [f"down_{n}" for n in range(1, depth + 1)]
    return ["embedding", *(f"layer_{number}" for number in range(1, num_layers + 1))]


def steered_layers(kind: str, level: int, depth: int, num_layers: int) -> list[str]:
    """Layers in which the symbol of a node at a level is forced: not chosen by what comes out.

    Of the tree U-Net the downward states of the node; the root's is 0, and those of its children take its place. Of a
    transformer every layer.
    """
    return [f"down_{max(level, 1)}"] if kind == "tree" else layer_names(kind, depth, num_layers)


def shown_layer(kind: str, level: int, depth: int, num_layers: int) -> str:
    """The middle one of these, of which costs are reported."""
    layers = steered_layers(kind, level, depth, num_layers)
    return layers[len(layers) // 2]


with for_any_machine():
    PRESETS = {
        "quick": Config("quick", num_grammars=1, times=(0.5,), width=32, train=dataclasses.replace(_TRAIN, steps=800)),
        "default": Config(),
        "paper": Config(
            "paper", num_grammars=10, num_data=4096, width=64, train=dataclasses.replace(_TRAIN, steps=10_000)
        ),
    }
