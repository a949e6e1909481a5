"""Images from any source: a folder, a file, or the name of a packaged set."""

import pathlib

from .folder import read_folder
from .idx import read_idx
from .numpy_files import read_numpy
from .packaged import PACKAGED_IMAGES
from .sets import LEAST, Images


def load_images(
    source: str | pathlib.Path = "digits",
    side: int = 32,
    *,
    background: float | None = None,
    channels_first: bool | None = None,
) -> Images:
    """Images of a folder or file or, by name, of an installed package.

    Args:
      source: one of

        - a folder with image files. If they lie in subfolders, the names of these are the classes. Folders and links to
          folders are equal; hidden files are left out. A folder with the parts of a data set (`train`, `test`, ...)
          is refused: give one of the parts.
        - an `.npz` file with an array `images`, `x_train` or `data`, (n, height, width), (n, height, width, channels)
          or (n, channels, height, width), and perhaps `labels`, `y_train` or `target`, (n,) or (n, 1); or a `.npy` file
          with such an array of images.
        - an IDX file (`.gz` or not). Its labels are read from the file `...labels-idx1...` beside `...images-idx3...`.
        - a key of `PACKAGED_IMAGES`.
      side: images of a folder are cut to a square around their middle and scaled to `side` x `side` pixels.
      background: gray level, from 0 (black) to 1 (white), that is seen through transparent pixels of a folder's images;
        None refuses images with such pixels. (Alpha channels that are opaque everywhere are dropped.)
      channels_first: whether axis 1 of an array of four axes holds the channels (else the last one does); None finds
        it where only one of the two has length 1 or 3.

    Raises:
      FileNotFoundError: if neither a file nor a packaged set has that name.
      ValueError: if there are fewer than 100 images, they need more memory than there is, a file is damaged or is
        not of the kind of its suffix, or an argument is out of range.
      ImportError: if the package that carries the set, or that reads image files, is not installed.
    """
    path = pathlib.Path(source)
    if side < 1:
        raise ValueError(f"side = {side}: give at least 1 pixel")
    if background is not None and not 0 <= background <= 1:
        raise ValueError(f"background = {background}: give a gray level from 0 (black) to 1 (white)")
    images = _read(path, side, background, channels_first)
    if len(images.pixels) < LEAST:
        raise ValueError(f"{str(path)!r} has {len(images.pixels)} images: give at least {LEAST}")
    return images


def _read(path: pathlib.Path, side: int, background: float | None, channels_first: bool | None) -> Images:
    if path.is_dir():
        return read_folder(path, side, background)
    if path.is_file():
        return read_numpy(path, channels_first) if path.suffix.lower() in (".npy", ".npz") else read_idx(path)
    if str(path) in PACKAGED_IMAGES:
        return PACKAGED_IMAGES[str(path)]()
    raise FileNotFoundError(
        f"no file {str(path)!r}: give a folder of images, an .npz, .npy or IDX file, or one of "
        f"{', '.join(sorted(PACKAGED_IMAGES))}"
    )
