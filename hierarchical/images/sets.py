"""A set of real images as arrays: its classes, where it comes from, and which images are kept away from training."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Float32, Int32

LEAST = 100


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of images and where it comes from; `provenance` names the source and, if known, the licence."""

    name: str
    pixels: Float32[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"] | None
    """0 .. the number of classes - 1; None where there are no classes."""
    provenance: str
    classes: tuple[str, ...] = ()
    """What the source calls each class: folders' names, or its numbers; in the order of the labels."""

    def __post_init__(self):
        if self.labels is not None and self.labels.max(initial=-1) >= len(self.classes):
            raise ValueError(f"labels up to {self.labels.max()} and classes = {self.classes}: name every class")

    @property
    def num_classes(self) -> int:
        """0 where there are no classes."""
        return len(self.classes)

    @property
    def chance(self) -> float:
        """Probability that two images drawn at random are of one class; NaN without classes."""
        if self.labels is None:
            return float("nan")
        return float(np.sum((np.bincount(self.labels) / len(self.labels)) ** 2))

    @property
    def labels_sha256(self) -> str:
        """Fingerprint of the labels; that of nothing where there are none."""
        return hashlib.sha256(b"" if self.labels is None else self.labels.tobytes()).hexdigest()

    @property
    def sha256(self) -> str:
        """Fingerprint of the pixels, by which a checkpoint knows what it was trained on."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()

    def subset(self, chosen: Int32[np.ndarray, " k"]) -> "Images":
        """The images of these numbers, in their order."""
        labels = None if self.labels is None else self.labels[chosen]
        return dataclasses.replace(self, pixels=self.pixels[chosen], labels=labels)


def select_classes(images: Images, classes: tuple[str, ...]) -> Images:
    """The images of some classes, by the names that the source gives them; they become 0, 1, ... in the order given.

    Raises:
      ValueError: if there are no classes, one is asked for twice or is not there, or too few images are left.
    """
    said = ", ".join(classes)
    if images.labels is None:
        raise ValueError(f"{images.name} has no classes: classes = {said} cannot be chosen")
    if len(set(classes)) < len(classes) or not set(classes) <= set(images.classes):
        raise ValueError(f"classes = {said}: choose different ones among {', '.join(images.classes)}")
    place = {images.classes.index(name): new for new, name in enumerate(classes)}
    chosen = np.flatnonzero(np.isin(images.labels, list(place))).astype(np.int32)
    if len(chosen) < LEAST:
        raise ValueError(f"{images.name} has {len(chosen)} images of classes {said}: give at least {LEAST}")
    part = images.subset(chosen)
    labels = np.array([place[label] for label in images.labels[chosen].tolist()], np.int32)
    provenance = f"{images.provenance}; {len(chosen)} of them, of classes {said}"
    return dataclasses.replace(part, labels=labels, provenance=provenance, classes=classes)


def split_images(images: Images, seed: int, held_out: float = 0.1) -> tuple[Images, Images]:
    """Training and held-out images, drawn by `seed`; `held_out` is the fraction of the latter."""
    order = np.random.default_rng(seed).permutation(len(images.pixels)).astype(np.int32)
    first = round(held_out * len(order))
    return images.subset(order[first:]), images.subset(order[:first])
