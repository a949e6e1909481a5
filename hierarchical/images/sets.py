"""A set of real images as arrays: its classes, its source, and the choice of held-out images."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Float32, Int32

from ..files.printable import printable

LEAST = 100
"""Images of the smallest set that is accepted."""


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of images; `provenance` names its source and, if known, its licence."""

    name: str
    pixels: Float32[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"] | None
    """0 .. num_classes - 1; None for images without classes."""
    provenance: str
    classes: tuple[str, ...] = ()
    """The source's name of each class (a folder's name, a number), in the order of the labels."""

    def __post_init__(self):
        if self.labels is not None and self.labels.max(initial=-1) >= len(self.classes):
            raise ValueError(f"labels go up to {self.labels.max()}, classes = {self.classes}: name every class")

    @property
    def num_classes(self) -> int:
        """0 for images without classes."""
        return len(self.classes)

    @property
    def chance(self) -> float:
        """Probability that two images drawn at random have the same class; NaN without classes."""
        if self.labels is None:
            return float("nan")
        return float(np.sum((np.bincount(self.labels) / len(self.labels)) ** 2))

    @property
    def labels_sha256(self) -> str:
        """Fingerprint of the labels; for images without classes that of the empty string."""
        return hashlib.sha256(b"" if self.labels is None else self.labels.tobytes()).hexdigest()

    @property
    def sha256(self) -> str:
        """Fingerprint of the pixels, which identifies the training images in a checkpoint."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()

    def subset(self, chosen: Int32[np.ndarray, " k"]) -> "Images":
        """The images of these numbers, in their order."""
        labels = None if self.labels is None else self.labels[chosen]
        return dataclasses.replace(self, pixels=self.pixels[chosen], labels=labels)


def select_classes(images: Images, classes: tuple[str, ...]) -> Images:
    """The images of some classes, chosen by their names; the labels 0, 1, ... follow the order of `classes`.

    Raises:
      ValueError: if the images have no classes, a name is given twice or is not that of a class, or fewer than 100
        images are left.
    """
    names = printable(", ".join(classes))
    if images.labels is None:
        raise ValueError(f"{images.name} has no classes: classes = {names} cannot be chosen")
    if len(set(classes)) < len(classes) or not set(classes) <= set(images.classes):
        raise ValueError(f"classes = {names}: choose different ones among {', '.join(images.classes)}")
    place = {images.classes.index(name): new for new, name in enumerate(classes)}
    chosen = np.flatnonzero(np.isin(images.labels, list(place))).astype(np.int32)
    if len(chosen) < LEAST:
        raise ValueError(f"{images.name} has {len(chosen)} images of classes {names}: give at least {LEAST}")
    part = images.subset(chosen)
    labels = np.array([place[label] for label in images.labels[chosen].tolist()], np.int32)
    provenance = f"{images.provenance}; {len(chosen)} of them, of classes {names}"
    return dataclasses.replace(part, labels=labels, provenance=provenance, classes=classes)


def split_images(images: Images, seed: int, held_out: float = 0.1) -> tuple[Images, Images]:
    """Training images and held-out images, drawn by `seed`.

    Args:
      held_out: fraction of the images that is held out, between 0 and 1.

    Raises:
      ValueError: if no image would be left on one side.
    """
    if not 0 < round(held_out * len(images.pixels)) < len(images.pixels):
        raise ValueError(f"held_out = {held_out} of {len(images.pixels)} images: both parts need one image at least")
    order = np.random.default_rng(seed).permutation(len(images.pixels)).astype(np.int32)
    first = round(held_out * len(order))
    return images.subset(order[first:]), images.subset(order[:first])
