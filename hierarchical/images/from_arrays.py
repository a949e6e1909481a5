"""From arrays of any layout and type to a set of images: pixels from 0 (black) to 1, channels last, classes from 0."""

import pathlib

import numpy as np
from jaxtyping import Float32, Int32

from ..files.printable import printable
from .sets import Images

CHANNELS = (1, 3)


def images_from_arrays(
    pixels: np.ndarray, labels: np.ndarray | None, path: pathlib.Path, channels_first: bool | None = None
) -> Images:
    """The images of a file; arguments as in `load_images`.

    Raises:
      ValueError: if the pixels have another shape, or are not numbers from 0 on; if there are not as many labels.
    """
    name = printable(path.name)
    first = channels_come_first(pixels.shape, path, channels_first)
    scaled = scaled_pixels(np.moveaxis(pixels, 1, -1) if first else pixels, path)
    numbers, classes = numbered_labels(labels, path, len(pixels))
    return Images(name, scaled, numbers, f"file {name}, {len(pixels)} images", classes)


def channels_come_first(shape: tuple[int, ...], path: pathlib.Path, channels_first: bool | None) -> bool:
    """Whether the second axis, rather than the last, holds the channels; `channels_first` decides if given.

    Raises:
      ValueError: if no such axis has 1 or 3 channels, or both have and `channels_first` is None.
    """
    if len(shape) == 3 and min(shape[1:]) > 0:
        return False
    if len(shape) != 4 or min(shape[1:]) == 0:
        raise ValueError(_expected(shape, path))
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first and last and channels_first is None:
        raise ValueError(
            f"images of {str(path)!r} have shape {shape}, whose second and last axis may both be channels: "
            f"pass channels_first = True or False"
        )
    channels_first = first if channels_first is None else channels_first
    if not (first if channels_first else last):
        raise ValueError(_expected(shape, path))
    return channels_first


def scaled_pixels(pixels: np.ndarray, source: str | pathlib.Path) -> Float32[np.ndarray, "n height width channels"]:
    """Bytes divided by 255, other numbers by their maximum; one channel where the array has no axis of channels."""
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"images of {str(source)!r} have {pixels.dtype} pixels: give real numbers")
    if not np.isfinite(pixels).all():
        raise ValueError(f"images of {str(source)!r} have pixels that are NaN or infinite: give finite numbers")
    if pixels.size and pixels.min() < 0:
        raise ValueError(f"images of {str(source)!r} have pixels down to {pixels.min()}: give numbers from 0 on")
    if pixels.dtype == np.uint8:
        scaled = np.divide(pixels, np.float32(255), dtype=np.float32)
    else:
        scaled = (pixels / max(float(pixels.max(initial=0)), 1e-30)).astype(np.float32)
    return scaled[..., None] if scaled.ndim == 3 else scaled


def numbered_labels(
    labels: np.ndarray | None, source: str | pathlib.Path, count: int
) -> tuple[Int32[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Classes numbered from 0 without gaps, and their names; `(None, ())` if there are fewer than two classes."""
    if labels is None:
        return None, ()
    if labels.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"{str(source)!r} has {count} images and labels of shape {labels.shape}: give one label for each image"
        )
    if labels.dtype.kind not in "buifUS" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise ValueError(f"labels of {str(source)!r} are {labels.dtype}: give finite numbers, or text")
    classes, numbers = np.unique(labels.reshape(count), return_inverse=True)
    names = (name.decode(errors="replace") if isinstance(name, bytes) else name for name in classes.tolist())
    return (numbers.astype(np.int32), tuple(map(printable, names))) if len(classes) > 1 else (None, ())


def _expected(shape: tuple[int, ...], path: pathlib.Path) -> str:
    return (
        f"images of {str(path)!r} have shape {shape}: expected (n, height, width), (n, height, width, channels) or "
        f"(n, channels, height, width) with 1 or 3 channels"
    )
