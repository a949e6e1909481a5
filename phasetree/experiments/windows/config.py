"""Options of the experiment `windows`, and their presets."""

import dataclasses
import itertools
import math
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    VECTOR_MLP,
    check_counts,
    check_grid,
    check_memory,
    check_network,
    check_options,
    check_positive,
    for_any_machine,
)

TRAINING = TrainConfig(steps=20_000, batch_size=512)


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which each level of a tree of clusters is decided, and compare with theory."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: about a minute; default: about eight minutes on two cores; paper:
    five levels and a wide network, for a GPU."""
    seed: int = 0
    """Decides the tree's directions, the network's initial weights and every draw."""
    level_offsets: tuple[float, ...] = (16.0, 4.0, 1.5)
    """m_l, how far a child is from its parent, first level first; each at most half of the one before."""
    dimension: int = 32
    """Dimension d of the data; the nodes of the tree have a direction each, 2^levels - 1 in all."""
    std: float = 1.0
    """Standard deviation s of the clusters, per dimension."""
    no_train: bool = False
    """Train nothing: the exact denoiser only."""
    offsets: tuple[float, ...] = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
    """Where to measure: noise times minus the predicted time of each level, increasing and evenly spaced, OU units."""
    num_trajectories: int = 16_384
    """R, U-turns at each noise time."""
    sampler_steps: int = 48
    """Steps of the reverse equation, two calls of the denoiser each."""
    width: int = 128
    """Width of the network, units of a layer."""
    train: TrainConfig = TRAINING
    """How to train; every batch is drawn anew."""

    def __post_init__(self):
        check_options(self, num_trajectories=16, sampler_steps=1, width=1, dimension=1)
        check_positive(self, "level_offsets", "std")
        if any(2 * b > a for a, b in itertools.pairwise(self.level_offsets)):
            raise ValueError(
                f"level_offsets = {self.level_offsets}: each must be at most half of the one before, or two levels are "
                f"decided at once and the theory of one level at a time does not hold"
            )
        check_grid("offsets", self.offsets)
        clusters, rows = 2.0 ** len(self.level_offsets), self.num_trajectories
        held = f"dimension = {self.dimension}, {clusters:.3g} clusters, num_trajectories = {rows}: the trajectories"
        needed = rows * (4 * self.dimension + clusters) + clusters * self.dimension
        check_memory(needed, held, "dimension, the number of levels or num_trajectories")
        check_counts(self, "sampler_steps")
        if not self.no_train:
            check_network(self, VECTOR_MLP)
            check_counts(self, "steps")
        if not self.offsets[0] < 0 < self.offsets[-1]:
            raise ValueError(f"offsets = {self.offsets}: 0, the predicted time, must lie inside")
        lowest = min(self.level_offsets)
        decided = lowest**2 + 1 - self.std**2
        if not (decided > 0 and math.log(decided) / 2 + self.offsets[0] > 0):
            raise ValueError(
                f"level_offsets = {self.level_offsets}, offsets from {self.offsets[0]}: the level at {lowest} would be "
                f"measured at a time below 0: raise its offset, or the first of the times' offsets"
            )

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            level_offsets=(8.0, 2.5),
            dimension=8,
            num_trajectories=2048,
            width=64,
            train=TrainConfig(steps=1500, batch_size=256),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            level_offsets=(64.0, 24.0, 9.0, 3.6, 1.5),
            dimension=256,
            num_trajectories=65_536,
            sampler_steps=96,
            width=1024,
            train=TrainConfig(steps=50_000, batch_size=1024, learning_rate=5e-4),
        ),
    }
