"""Options of the experiment `text-demo`, and their presets."""

import dataclasses
import pathlib
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    TRANSFORMER,
    check_counts,
    check_different,
    check_network,
    check_options,
    for_any_machine,
)

TRAINING = TrainConfig(steps=2000, batch_size=32, learning_rate=2e-3, steps_per_chunk=20, steps_per_checkpoint=200)


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on a real text by masking its tokens; measure bits per character, and what regeneration changes."""

    preset: Literal["quick", "default"] = "default"
    """Starting point for all other options. quick: about a minute, a small network; default: under ten on two cores."""
    seed: int = 0
    """Decides the network's initial weights, the noise and every draw."""
    file: pathlib.Path | None = None
    """Any UTF-8 text file of at least 2000 characters; replaces the corpus."""
    corpus: str = "king-james"
    """Name of a text that an installed package carries (king-james, python-topics)."""
    vocabulary: int = 1024
    """Byte-pair tokens, at least 256; at most 256 plus one per 100 characters of training text are used."""
    window: int = 64
    """Tokens per window (letter d); less if the held-out blocks of a short text are shorter."""
    width: int = 128
    """Width of the transformer."""
    layers: int = 4
    """Layers of the transformer."""
    heads: int = 4
    """Attention heads per layer; must divide the width."""
    train: TrainConfig = TRAINING
    """How to train; a step sees batch_size windows."""
    readings: int = 100
    """Maximum number of passes of training over the text: a short text takes fewer steps than asked for."""
    noise_levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Masked fractions t, in (0, 1], at which passages are regenerated."""
    strata: int = 16
    """Noise levels at which each held-out window is evaluated for the bound."""
    num_data: int = 48
    """Held-out passages (windows) that are regenerated."""
    num_trajectories: int = 2
    """R, regenerations of each passage at each noise level."""
    tokens_per_step: int = 2
    """Tokens revealed at a time in regeneration; 1 is exact and slowest."""

    def __post_init__(self):
        check_options(self, window=1, width=1, layers=1, heads=1, readings=1, strata=1, num_trajectories=1)
        check_options(self, tokens_per_step=1)
        check_counts(self, "num_data", "num_trajectories", "strata", "tokens_per_step")
        check_network(self, TRANSFORMER * self.layers, also=("layers",))
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is not a multiple of heads = {self.heads}: change one of them")
        if self.vocabulary < 256:
            raise ValueError(f"vocabulary = {self.vocabulary}: at least 256, one token per byte")
        if self.num_data < 2:
            raise ValueError(f"num_data = {self.num_data}: an error bar needs at least 2")
        if not self.noise_levels or not all(0 < t <= 1 for t in self.noise_levels):
            raise ValueError(f"noise_levels = {self.noise_levels}: give masked fractions in (0, 1]")
        check_different("noise_levels", self.noise_levels)

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return f"{self.preset}-{self.file.stem}" if self.file else self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            width=64,
            layers=2,
            train=TrainConfig(
                steps=600, batch_size=32, learning_rate=4e-3, steps_per_chunk=20, steps_per_checkpoint=100
            ),
            noise_levels=(0.2, 0.5, 0.8),
            strata=4,
            num_data=24,
            num_trajectories=1,
        ),
        "default": Config(),
    }
