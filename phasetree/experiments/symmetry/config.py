"""Options of the experiment `symmetry`, and their presets."""

import dataclasses
import pathlib
from typing import Literal

from phasetree.experiments.checks import (
    WHITENED_MLP,
    check_counts,
    check_different,
    check_network,
    check_options,
    check_positive,
    for_any_machine,
)
from phasetree.experiments.symmetry.sets import CASES, OWN, check_set

SCORED = "ring", "mass-shell"  # sets on which a denoiser is trained
SWITCHED = "muon-pairs", "drell-yan"  # sets whose knob is swept with dense networks too


@dataclasses.dataclass(frozen=True)
class Config:
    """Count the degrees of freedom of symmetric data by three instruments, and find when a broken symmetry is seen."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: two sets, a minute; default: five sets, nine to ten minutes on two
    cores; paper: all sets, more data and longer training, hours."""
    seed: int = 0
    """Decides the data, the networks' initial weights and every draw."""
    sets: tuple[str, ...] = ("ring", "collision", "mass-shell", "muon-pairs", "drell-yan")
    """Sets of data, as listed by an error for a name that is none of them."""
    file: pathlib.Path | None = None
    """Data of one's own in place of the sets: a .npy, .npz, .csv or .txt file, a row for each datum; each feature is
    divided by its standard deviation."""
    no_train: bool = False
    """Train nothing: counts, exact scores, scores of the data alone, and theory."""
    num_data: int = 4096
    """Data of the measurements."""
    factors: tuple[float, ...] = (0.5, 0.8, 1.2, 1.4, 1.7)
    """Knobs of linear networks, over the knob at which theory says that a latent switches."""
    dense_factors: tuple[float, ...] = (1.2, 1.5)
    """The same of dense networks, beside 0."""
    num_taus: int = 5
    """Values of tau of linear networks, between half the least eigenvalue and the largest."""
    tau: float = 0.001
    """At which dense networks count degrees of freedom, in the unit of the features."""
    num_seeds: int = 5
    """Dense networks at each knob, with weights of their own."""
    num_latents: int | None = None
    """Latents of the dense networks that count; none: as many as features."""
    num_trials: int = 2
    """Dense networks that count; the one of least free energy is taken."""
    steps: int = 3000
    """Steps of each linear network, every one on all data."""
    dense_steps: int = 6000
    """Steps of each dense network that counts, on 256 data each."""
    switch_steps: int = 3000
    """Steps of each dense network whose knob is swept."""
    score_steps: int = 2000
    """Steps of each denoiser."""
    width: int = 128
    """Width of the dense networks, three hidden layers each in encoder and decoder, and of the denoisers."""
    noise: float = 0.5
    """Noise at which symmetries of the law are searched, over the standard deviation of a feature that varies."""
    set_noise: float = 0.15
    """The same of the set of the data."""

    def __post_init__(self):
        least = {"num_data": 512, "num_taus": 2, "num_seeds": 2, "num_trials": 1, "width": 1}
        check_options(self, **least, steps=2, dense_steps=2, switch_steps=2, score_steps=2)
        if self.num_latents is not None and self.num_latents < 1:
            raise ValueError(f"num_latents = {self.num_latents}: must be at least 1")
        check_counts(self, "num_data", "num_taus", "num_seeds", "num_trials")
        check_counts(self, "steps", "dense_steps", "switch_steps", "score_steps")
        if self.num_latents is not None:
            check_counts(self, ("num_latents", "width"))
        if not self.no_train:
            check_network(self, WHITENED_MLP)
        check_positive(self, "tau", "noise", "set_noise", "factors", "dense_factors")
        for name in ("factors", "dense_factors"):
            check_different(name, getattr(self, name))
        if sum(factor > 1 for factor in self.factors) < 2 or sum(factor < 1 for factor in self.factors) < 2:
            raise ValueError(f"factors = {self.factors}: give at least two below and two above 1")
        if sum(factor > 1 for factor in self.dense_factors) < 2:
            raise ValueError(f"dense_factors = {self.dense_factors}: give at least two above 1")
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets = {self.sets}: give at least one, each once")
        for name in self.sets:
            check_set(name)

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset if self.file is None else f"{self.preset}-{self.file.stem}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of all sets that are measured."""
        return self.sets if self.file is None else (OWN,)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            sets=("ring", "muon-pairs"),
            num_data=1024,
            num_taus=3,
            num_seeds=2,
            num_trials=1,
            steps=1500,
            dense_steps=1500,
            switch_steps=1000,
            score_steps=800,
            width=64,
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            sets=tuple(CASES),
            num_data=16_384,
            num_taus=9,
            num_trials=4,
            steps=6000,
            dense_steps=30_000,
            switch_steps=10_000,
            score_steps=8000,
            width=192,
        ),
    }
