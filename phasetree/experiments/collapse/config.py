"""Options of the experiment `collapse`, and their presets."""

import dataclasses
import itertools
import math
from typing import Literal

from phasetree.experiments.checks import check_counts, check_grid, check_options, check_positive, for_any_machine

LARGEST = 1e9  # numbers of a training set, 4 GB


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise below which the score of a finite training set returns its points, and compare with theory."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: half a minute; default: about five minutes on two cores; paper: up
    to 163,000 points and ten times the draws, for a GPU."""
    seed: int = 0
    """Decides every draw."""
    dimensions: tuple[int, ...] = (12, 20, 28, 36)
    """Dimensions d, increasing."""
    alpha: float = 0.25
    """ln n / d, nats: each set has n = e^(alpha d) points, rounded."""
    std: float = 1.0
    """Standard deviation s of the data, per dimension."""
    times: tuple[float, ...] = (0.4, 0.55, 0.7, 0.85, 1.0, 1.15, 1.3, 1.45, 1.6)
    """Noise times over the collapse time, increasing and evenly spaced, 1 among them."""
    num_sets: int = 512
    """Training sets, drawn independently; errors are over sets."""
    num_data: int = 16
    """Points of each set that are noised, the seeds, at each noise time."""
    num_trajectories: int = 4
    """R, how many of these are taken back by the reverse equation, a U-turn each."""
    sampler_steps: int = 24
    """Steps of the reverse equation, two calls of the denoiser each."""

    def __post_init__(self):
        check_options(self, num_sets=4, num_data=1, num_trajectories=1, sampler_steps=1)
        if (
            len(self.dimensions) < 1
            or min(self.dimensions) < 1
            or any(b <= a for a, b in itertools.pairwise(self.dimensions))
        ):
            raise ValueError(f"dimensions = {self.dimensions}: give increasing numbers from 1 on")
        check_positive(self, "alpha", "std")
        most = self.alpha * self.dimensions[-1]
        if most > math.log(LARGEST / self.dimensions[-1]):
            raise ValueError(
                f"alpha = {self.alpha}, dimensions up to {self.dimensions[-1]}: a set of e^{most:.0f} points holds "
                f"more than {LARGEST:.0e} numbers, lower one of them"
            )
        if self.points(self.dimensions[0]) < max(3, self.num_data) or self.num_trajectories > self.num_data:
            raise ValueError(
                f"n = e^(alpha d) = {self.points(self.dimensions[0])} points in d = {self.dimensions[0]}, num_data = "
                f"{self.num_data}, num_trajectories = {self.num_trajectories}: give at least 3 points, no more data "
                f"than those, no more trajectories than data"
            )
        check_counts(self, ("num_sets", "times"), "sampler_steps")
        check_grid("times", self.times, 0.0)
        if min(abs(time - 1) for time in self.times) > 1e-6:
            raise ValueError(f"times = {self.times}: the collapse time itself, 1, must be among them")

    def points(self, dimension: int) -> int:
        """n."""
        return round(math.exp(self.alpha * dimension))

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(preset="quick", dimensions=(12, 20), num_sets=128),
        "default": Config(),
        "paper": Config(preset="paper", dimensions=(12, 20, 28, 36, 48), num_sets=5120),
    }
