"""Options of the experiment `level-collapse`, and their presets."""

import dataclasses
import itertools
from typing import Literal

import numpy as np

from hierarchical import TreeGaussian
from phasetree.experiments.checks import (
    DENSE_VAE,
    check_counts,
    check_different,
    check_memory,
    check_network,
    check_options,
    check_positive,
    for_any_machine,
)
from theory import linear_vae

OUTSIDE = 2.0  # the grid reaches this factor below the first threshold and above the last


@dataclasses.dataclass(frozen=True)
class Config:
    """Train autoencoders on a tree of Gaussians, and compare which latents survive tau with the closed form."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: under a minute; default: about two minutes on two cores; paper: more
    data and values of tau, dense networks too, half an hour."""
    seed: int = 0
    """Decides the data, the networks' initial weights and every draw."""
    branching: int = 3
    """Children s of a node."""
    variances: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1)
    """Variance that a node adds to the leaves below it, one number for each level: the leaves' own first, the root's
    last; their number less one is the depth L."""
    taus: tuple[float, ...] = ()
    """Weights tau of the KL, in the unit of the data's variance, increasing; none: `num_taus` between neighbouring
    thresholds of the tree, below the first and above the last, evenly spaced in the logarithm."""
    num_taus: int = 3
    """Values of tau on each plateau, where `taus` are not given."""
    num_latents: int | None = None
    """Latents k of every network, at most as many as leaves; none: as many."""
    num_data: int = 4096
    """Data of the training set."""
    matched: bool = False
    """Transform the data linearly such that their covariance is exactly the law's."""
    steps: int = 3000
    """Steps of each linear network, every one on the whole set."""
    dense: bool = False
    """Train dense networks too, on data that are drawn anew."""
    width: int = 128
    """Width of the dense networks, two hidden layers each in encoder and decoder."""
    dense_steps: int = 10_000
    """Steps of each dense network, on 256 data each."""

    def __post_init__(self):
        check_options(self, num_data=8, num_taus=1, steps=2, width=1, dense_steps=2)
        check_counts(self, "num_taus", "steps", "dense_steps")
        if self.dense:
            check_network(self, DENSE_VAE)
        check_positive(self, *["taus"] * bool(self.taus))
        check_different("taus", self.taus)
        if any(b <= a for a, b in itertools.pairwise(self.taus)):
            raise ValueError(f"taus = {self.taus}: give increasing numbers")
        leaves = self.law.num_leaves
        if not max(self.variances) > 0:
            raise ValueError(f"variances = {self.variances}: give at least one above 0")
        if self.num_latents is not None and not 1 <= self.num_latents <= leaves:
            raise ValueError(f"num_latents = {self.num_latents}: give 1 to {leaves}, the number of leaves")
        held = f"num_data = {self.num_data}, {leaves} leaves: data and covariance"
        check_memory(4.0 * leaves * (self.num_data + leaves), held, "num_data, branching or the number of variances")

    @property
    def law(self) -> TreeGaussian:
        """Of the data, in float32."""
        return TreeGaussian(self.branching, np.asarray(self.variances, np.float32))

    @property
    def latents(self) -> int:
        """k."""
        return self.law.num_leaves if self.num_latents is None else self.num_latents

    @property
    def grid(self) -> tuple[float, ...]:
        """All values of tau."""
        if self.taus:
            return self.taus
        sizes = float(self.branching) ** np.arange(len(self.variances))
        thresholds = linear_vae.collapse_levels(np.cumsum(sizes * self.variances)).tau
        ends = [thresholds[0] / OUTSIDE, *thresholds, thresholds[-1] * OUTSIDE]
        shares = (np.arange(self.num_taus) + 0.5) / self.num_taus
        return tuple(float(f"{a * (b / a) ** x:.4g}") for a, b in itertools.pairwise(ends) for x in shares)

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset


with for_any_machine():
    PRESETS = {
        "quick": Config(preset="quick", num_taus=1, num_data=2048, steps=1500),
        "default": Config(),
        "paper": Config(preset="paper", num_taus=5, num_data=16_384, steps=6000, dense=True),
    }
