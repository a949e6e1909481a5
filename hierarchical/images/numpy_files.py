"""Images in `.npy` and `.npz` files, by the names that the data sets of others have: `images`, `x_train`, `data`."""

import pathlib

from ..files.arrays import is_archive, open_arrays
from ..files.printable import printable
from .from_arrays import channels_come_first, images_from_arrays
from .sets import Images

PIXELS = ("images", "x_train", "data")
LABELS = ("labels", "y_train", "target")
_WHILE_SCALED = 12  # bytes of each pixel in float64 and float32


def read_numpy(path: pathlib.Path, channels_first: bool | None = None) -> Images:
    """The images of a `.npy` file, or those of an `.npz` file with its labels.

    Raises:
      ValueError: if the file is damaged, has none or several of the arrays `PIXELS`, or several of the `LABELS`; or as
        `images_from_arrays`.
    """
    file = open_arrays(path)
    name = file.only(PIXELS) if is_archive(path) else ""
    if name is None:
        names = printable(", ".join(file.headers)) or "no arrays"
        raise ValueError(f"{str(path)!r} has {names}: give the images the name {PIXELS[0]}")
    shape, dtype = file.headers[name]
    channels_come_first(shape, path, channels_first)  # before anything is read
    pixels = file.read(name, copies=1 + -(-_WHILE_SCALED // max(dtype.itemsize, 1)))
    label_name = file.only(LABELS) if is_archive(path) else None
    labels = None if label_name is None else file.read(label_name)
    return images_from_arrays(pixels, labels, path, channels_first)
