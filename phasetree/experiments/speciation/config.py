"""Options of the experiment `speciation`, and their presets."""

import dataclasses
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    VECTOR_MLP,
    check_counts,
    check_grid,
    check_memory,
    check_network,
    check_options,
    for_any_machine,
)

TRAINING = TrainConfig(steps=3000, batch_size=256)


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which a diffusion decides between two clusters, and compare with theory."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: about a minute; default: five to six minutes on two cores; paper: up
    to 4096 dimensions, for a GPU."""
    seed: int = 0
    """Decides the networks' initial weights and every draw."""
    dimensions: tuple[int, ...] = (16, 64, 256, 1024)
    """Dimensions d in which the exact denoiser is measured; the squared norm of the means is d."""
    trained: tuple[int, ...] = (64,)
    """Those of the dimensions in which a network is trained."""
    no_train: bool = False
    """Train nothing: the exact denoiser only."""
    std: float = 0.6
    """Standard deviation s of the clusters, per dimension."""
    offsets: tuple[float, ...] = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
    """Where to measure: noise times minus the speciation time of each d, increasing and evenly spaced, OU units."""
    num_trajectories: int = 4096
    """R, U-turns and pairs of clones at each noise time."""
    sampler_steps: int = 32
    """Steps of the reverse equation and of the flow, two calls of the denoiser each. Their error falls with the square
    of their number; after 16, 8192 pairs of clones in 1024 dimensions show it, by seven standard errors."""
    width: int = 256
    """Width of the network, units of a layer."""
    train: TrainConfig = TRAINING
    """How to train; every batch is drawn anew."""

    def __post_init__(self):
        check_options(self, num_trajectories=16, sampler_steps=1, width=1)
        if not self.dimensions or min(self.dimensions) < 2 or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"dimensions = {self.dimensions}: give different numbers from 2 on")
        if not set(self.trained) <= set(self.dimensions):
            raise ValueError(f"trained = {self.trained} is not among dimensions = {self.dimensions}")
        if not 0 < self.std <= min(self.dimensions) ** 0.5 / 3:
            raise ValueError(
                f"std = {self.std}: must be positive, and at most a third of |m| = sqrt(d) = "
                f"{min(self.dimensions) ** 0.5:.3g}: clusters are identified by the side they are on"
            )
        check_grid("offsets", self.offsets)
        d, rows = max(self.dimensions), self.num_trajectories
        held = f"dimensions up to {d}, num_trajectories = {rows}: the trajectories"
        check_memory(4.0 * d * rows, held, "dimensions or num_trajectories")
        check_counts(self, "sampler_steps")
        if self.trained and not self.no_train:
            check_network(self, VECTOR_MLP)
            check_counts(self, "steps")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            dimensions=(16, 64),
            trained=(16,),
            num_trajectories=2048,
            width=128,
            train=TrainConfig(steps=1000, batch_size=256),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            dimensions=(64, 256, 1024, 4096),
            trained=(64, 256, 1024, 4096),
            num_trajectories=65_536,
            sampler_steps=64,
            width=2048,
            train=TrainConfig(steps=30_000, batch_size=1024, learning_rate=5e-4),
        ),
    }
