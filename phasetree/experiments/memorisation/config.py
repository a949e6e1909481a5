"""Options of the experiment `memorisation`, and their presets."""

import dataclasses
import pathlib
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    VECTOR_MLP,
    check_counts,
    check_different,
    check_network,
    check_options,
    check_positive,
    for_any_machine,
)

DIGITS = pathlib.Path("digits")
TRAINING = TrainConfig(steps=12_000, batch_size=128, learning_rate=1e-3, ema_decay=0.999)


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare detectors of memorised data where it is known what was memorised."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: two minutes; default: digits of 8 x 8 pixels, ten minutes on two
    cores; paper: digits of MNIST, a wider network, about an hour."""
    seed: int = 0
    """Decides the modes' network, which images are held out and planted, and every draw."""
    images: pathlib.Path = DIGITS
    """Name of a set that an installed package carries (digits, mnist, fashion-mnist), or one's own: a folder of images,
    or a file of them. Each is laid flat."""
    file: pathlib.Path | None = None
    """Data of one's own in place of the images: a .npy, .npz, .csv or .txt file, a row for each datum; all
    other options for images then apply to these rows."""
    side: int = 32
    """Images of a folder are cut to a square and scaled to this many pixels."""
    num_train: int = 300
    """Images that the network is trained on, and as many others that it is not."""
    num_planted: int = 30
    """How many of these are planted several times."""
    copies: int = 10
    """How many times each of them is in the training set."""
    noises: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    """Noise s at which images are asked, in units of the standard deviation of a pixel."""
    shares: tuple[float, ...] = (0.0, 0.02, 0.05, 0.2, 1.0)
    """Share of the training set's score in the score, the rest being the law's."""
    num_pairs: int = 16
    """Pairs of directions of the flux of each datum."""
    num_repeats: int = 8
    """Draws of the law and its training set, for every share."""
    modes_steps: int = 3000
    """Training steps of the network of the three modes, of 512 data each."""
    width: int = 256
    """Width of the networks, units of a layer."""
    train: TrainConfig = TRAINING
    """How to train on the images."""

    def __post_init__(self):
        check_options(self, num_train=20, num_planted=2, copies=2, num_pairs=2, num_repeats=2, modes_steps=1)
        check_options(self, width=1, side=1)
        check_counts(
            self, ("num_planted", "copies"), "num_train", "num_pairs", ("num_repeats", "shares"), "modes_steps", "steps"
        )
        check_network(self, VECTOR_MLP)
        check_positive(self, "noises")
        check_different("noises", self.noises)
        check_different("shares", self.shares)
        if self.file is not None and self.images != DIGITS:
            raise ValueError(f"file = {str(self.file)!r}, images = {str(self.images)!r}: give one of them")
        if not all(0 <= share <= 1 for share in self.shares) or not self.shares:
            raise ValueError(f"shares = {self.shares}: give numbers from 0 to 1")
        if self.num_planted >= self.num_train:
            raise ValueError(f"num_planted = {self.num_planted} of num_train = {self.num_train}: plant fewer")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return f"{self.preset}-{self.images.stem if self.file is None else self.file.name}"

    @property
    def source(self) -> pathlib.Path:
        """Where the images, or the rows of a file, come from."""
        return self.file or self.images


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            num_train=60,
            num_planted=10,
            num_repeats=2,
            width=64,
            train=dataclasses.replace(TRAINING, steps=1500),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            images=pathlib.Path("mnist"),
            num_train=500,
            num_planted=50,
            num_repeats=24,
            width=1024,
            train=dataclasses.replace(TRAINING, steps=30_000),
        ),
    }
