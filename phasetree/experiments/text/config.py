"""Options of the experiment `text`, and their presets."""

import dataclasses
import itertools
import pathlib
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import TRANSFORMER, check_counts, check_network, check_options, for_any_machine

TRAINING = TrainConfig(steps=1500, batch_size=32, learning_rate=2e-3, steps_per_chunk=20, steps_per_checkpoint=200)


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which changes of a real text are most correlated, and over how many tokens."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: about two minutes, a small network; default: about fifteen
    minutes on two cores; paper: windows of 128 tokens, 12 layers of width 768, 300 passages x 50 trajectories, on a
    GPU."""
    seed: int = 0
    """Decides the network's initial weights, the noise and every draw."""
    file: pathlib.Path | None = None
    """Any UTF-8 text file of at least 2000 characters; replaces the corpus."""
    sequences: pathlib.Path | None = None
    """File of token sequences (.npz, .npy, text: docs/own-data.md), at least 40, in the place of a text; a token is a
    word."""
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
    noise_levels: tuple[float, ...] = (0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Masked fractions t, increasing, in (0, 1], at which passages are regenerated."""
    num_data: int = 48
    """Held-out passages (windows) that are regenerated, spread evenly over the held-out text."""
    num_trajectories: int = 24
    """R, regenerations of each passage at each noise level."""
    tokens_per_step: int = 6
    """Tokens revealed at a time in regeneration. Those of one step do not see each other: 1 is exact and slowest."""
    control: bool = True
    """Whether to measure the control, the same text with its tokens shuffled."""
    control_steps: int = 300
    """Training steps of the control's network, which only has to learn how frequent tokens are."""

    def __post_init__(self):
        check_options(self, window=4, width=1, layers=1, heads=1, readings=1, num_trajectories=2, num_data=4)
        check_options(self, tokens_per_step=1, control_steps=1, vocabulary=256)
        check_counts(self, "num_data", "num_trajectories", "control_steps", "tokens_per_step")
        check_network(self, TRANSFORMER * self.layers, also=("layers",))
        if self.file and self.sequences:
            raise ValueError(f"file = {str(self.file)!r}, sequences = {str(self.sequences)!r}: give one of them")
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is not a multiple of heads = {self.heads}: change one of them")
        levels = self.noise_levels
        # stages are named by six digits of t: levels that agree in these would share a stage
        increasing = all(float(f"{a:g}") < float(f"{b:g}") for a, b in itertools.pairwise((0.0, *levels)))
        if len(levels) < 3 or not increasing or levels[-1] > 1:
            raise ValueError(f"noise_levels = {levels}: give at least 3 increasing masked fractions in (0, 1]")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        source = self.file or self.sequences
        return f"{self.preset}-{source.stem if source else self.corpus}"


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            width=64,
            layers=2,
            train=TrainConfig(
                steps=600, batch_size=32, learning_rate=4e-3, steps_per_chunk=20, steps_per_checkpoint=100
            ),
            noise_levels=(0.1, 0.4, 0.6, 0.8, 1.0),
            num_data=24,
            num_trajectories=12,
            tokens_per_step=8,
            control_steps=100,
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            vocabulary=8192,
            window=128,
            width=768,
            layers=12,
            heads=12,
            train=TrainConfig(steps=50_000, batch_size=256, learning_rate=3e-4, bfloat16=True),
            noise_levels=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
            num_data=300,
            num_trajectories=50,
            tokens_per_step=1,
            control_steps=2000,
        ),
    }
