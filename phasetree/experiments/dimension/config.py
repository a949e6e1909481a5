"""Options of the experiment `dimension`, and their presets."""

import dataclasses
import pathlib
from typing import Literal

from diffusion import TrainConfig
from phasetree.experiments.checks import WHITENED_MLP, check_counts, check_network, check_options, for_any_machine
from phasetree.experiments.dimension.sets import check_set

TRAINING = TrainConfig(steps=5000, batch_size=256, ema_decay=0.998)


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the dimension of data by every estimator, from exact and trained denoisers and from data alone."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: one sphere, about a minute; default: spheres, a curve and a union,
    about five minutes on two cores; paper: images too, about an hour."""
    seed: int = 0
    """Decides the sets' directions, the networks' initial weights and every draw."""
    sets: tuple[str, ...] = ("sphere-10", "sphere-50", "line", "union")
    """Sets of data: sphere-K (a K-sphere in 100 dimensions), line (sin t .. sin 100 t), union (a 10- and a 30-sphere),
    squares-K and blobs-K (images of 32 x 32 pixels with K parameters), and the sets of images of `--images`."""
    file: pathlib.Path | None = None
    """Data of one's own in place of the sets: a .npy, .npz, .csv or .txt file, a row for each datum."""
    images: pathlib.Path | None = None
    """Images in place of the sets: the name of a set that an installed package carries (digits, mnist, fashion-mnist),
    a folder of images, or a file of them. Each is laid flat."""
    side: int = 32
    """Images of a folder are cut to a square and scaled to this many pixels."""
    no_train: bool = False
    """Train nothing: the exact denoisers, and the data alone."""
    num_data: int = 32
    """Data at which denoisers are asked, fresh or held out."""
    num_points: int = 2500
    """Data of which the estimators from data alone are given, at most."""
    num_draws: int = 64
    """Pairs of scores at each datum and noise level."""
    width: int = 192
    """Width of the networks, units of a layer."""
    train: TrainConfig = TRAINING
    """How to train; batches of a set are drawn anew."""

    def __post_init__(self):
        check_options(self, num_data=4, num_points=10, num_draws=2, width=1, side=1)
        if self.file is None and self.images is None:  # of data of one's own these are limits
            check_counts(self, "num_data", "num_points")
        check_counts(self, "num_draws")
        if not self.no_train:
            check_network(self, WHITENED_MLP)
            check_counts(self, "steps")
        if self.file is not None and self.images is not None:
            raise ValueError(f"file = {str(self.file)!r}, images = {str(self.images)!r}: give one of them")
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets = {self.sets}: give at least one, each once")
        for name in self.sets:
            check_set(name)

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        source = self.file or self.images
        return self.preset if source is None else f"{self.preset}-{source.stem}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of all sets that are measured."""
        return self.sets if self.file is None and self.images is None else ("own",)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick",
            sets=("sphere-10",),
            num_data=16,
            num_points=1000,
            width=96,
            train=TrainConfig(steps=600, batch_size=256, ema_decay=0.998),
        ),
        "default": Config(),
        "paper": Config(
            preset="paper",
            sets=("sphere-10", "sphere-50", "line", "union", "squares-10", "squares-20", "squares-100", "blobs-10",
                  "blobs-20", "blobs-100"),
            width=512,
            train=TrainConfig(steps=8000, batch_size=256, ema_decay=0.998),
        ),
    }  # fmt: skip
