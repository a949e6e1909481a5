"""Options of the experiment `memorisation-time`, and their presets."""

import dataclasses
import itertools
from typing import Literal

import numpy as np

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    VECTOR_MLP,
    check_counts,
    check_memory,
    check_network,
    check_options,
    check_positive,
    for_any_machine,
)

TRAINING = TrainConfig(
    steps=1,  # of no meaning here: steps follow from the points
    batch_size=128,
    learning_rate=1e-3,
    final_rate=1.0,
    warmup_steps=0,
    weight_decay=0.0,
    ema_decay=0.0,
    steps_per_chunk=2,
    steps_per_checkpoint=1000,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Find how long training takes to generalise and to memorise, against the number of training points."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: two minutes, one repeat of two sizes; default: under twenty minutes
    on two cores; paper: up to 8192 points and a wide network, for a GPU."""
    seed: int = 0
    """Decides the data, the networks' initial weights and every draw."""
    points: tuple[int, ...] = (128, 256, 512)
    """Sizes n of the training set, increasing; several times the dimension, or there is nothing to generalise from."""
    num_repeats: int = 3
    """Independent training sets and networks of each size; errors are over them."""
    dimension: int = 32
    """Dimension d of the data; the squared norm of the clusters' means is d."""
    std: float = 0.5
    """Standard deviation s of the clusters, per dimension."""
    width: int = 256
    """Width of the network."""
    steps_per_point: int = 20
    """Training steps over n; `train.steps` follows from it."""
    observations: int = 30
    """Moments of the training, evenly spaced in the logarithm of the step, at which the network is measured."""
    num_data: int = 512
    """Data generated at each of these."""
    sampler_steps: int = 16
    """Steps of the probability flow that generates, two calls of the network each."""
    train: TrainConfig = TRAINING
    """How to train: at a constant rate, or times would mean nothing."""

    def __post_init__(self):
        check_options(self, num_repeats=1, dimension=2, width=1, steps_per_point=1, observations=4, num_data=1)
        check_options(self, sampler_steps=1)
        if len(self.points) < 2 or self.points[0] < 3 or any(b <= a for a, b in itertools.pairwise(self.points)):
            raise ValueError(f"points = {self.points}: give at least 2 increasing sizes from 3 on")
        check_positive(self, "std")
        largest, d = max(self.points), self.dimension
        check_memory(largest * d, f"points up to {largest}, dimension = {d}: the data", "points or dimension")
        check_network(self, VECTOR_MLP)
        losses = f"points up to {largest}, steps_per_point = {self.steps_per_point}: the losses of all steps"
        check_memory(largest * self.steps_per_point, losses, "points or steps_per_point")
        check_counts(self, ("num_repeats", "points"), ("num_data", "dimension"), "observations", "sampler_steps")
        if self.train.steps != TRAINING.steps:
            raise ValueError(f"train.steps = {self.train.steps}: steps follow from the points, set steps_per_point")
        if self.points[0] * self.steps_per_point < 4 * self.train.steps_per_chunk:
            raise ValueError(
                f"{self.points[0]} points x steps_per_point = {self.steps_per_point} are fewer steps than 4 chunks of "
                f"{self.train.steps_per_chunk}: raise steps_per_point"
            )

    def observed(self, points: int) -> list[int]:
        """Steps at which the network is measured: whole chunks, the last step among them."""
        chunk = self.train.steps_per_chunk
        last = max(1, points * self.steps_per_point // chunk)
        return sorted({round(float(n)) * chunk for n in np.geomspace(1, last, self.observations)})

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(preset="quick", points=(64, 128), num_repeats=1, dimension=16, width=128, num_data=256),
        "default": Config(),
        "paper": Config(
            preset="paper",
            points=(512, 1024, 2048, 4096, 8192),
            num_repeats=5,
            dimension=64,
            width=1024,
            num_data=4096,
            train=dataclasses.replace(TRAINING, batch_size=512, learning_rate=5e-4),
        ),
    }
