"""Images in the format of the MNIST files, IDX, packed by gzip or not.

```
two zero bytes, the type (8: bytes), the number of axes, their sizes (4 bytes each, big-endian), the numbers
```
"""

import gzip
import math
import pathlib
import zlib

import numpy as np

from ..files.memory import check_memory
from .from_arrays import images_from_arrays
from .sets import Images

_MEMORY = 14  # bytes for each byte of a file: as read, as an array, and as float64 and float32


def read_idx(path: pathlib.Path) -> Images:
    """The images of an IDX file, and the labels of the file beside it (`labels-idx1` for `images-idx3`) if it exists.

    Raises:
      ValueError: if the file is of another kind, is damaged, or does not hold images.
    """
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = _array(beside) if beside != path and beside.exists() else None
    return images_from_arrays(_array(path), labels, path)


def _array(path: pathlib.Path) -> np.ndarray:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            start = file.read(4)
            if start[:3] != b"\x00\x00\x08" or len(start) < 4:
                raise ValueError(f"{str(path)!r} is neither a folder, nor .npz, nor .npy, nor an IDX file of bytes")
            sizes = file.read(4 * start[3])
            shape = tuple(np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").tolist())
            check_memory(_MEMORY * math.prod(shape), f"reading {str(path)!r}")
            content = file.read(math.prod(shape) + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{str(path)!r} cannot be unpacked ({error}): fetch it again") from error
    if len(shape) < start[3] or len(content) != math.prod(shape):
        held = f"{len(content)} follow" if len(content) <= math.prod(shape) else "more follow"
        raise ValueError(f"the header of {str(path)!r} gives {shape} numbers, {held}: fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)
