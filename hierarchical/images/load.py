"""One door for images: a folder, a file, or the name of a packaged set."""

import pathlib

from .packaged import PACKAGED_IMAGES
from .readers import read_folder, read_idx, read_npz
from .sets import LEAST, Images


def load_images(source: str | pathlib.Path = "digits", side: int = 32) -> Images:
    """Images of a folder or file or, by name, of an installed package.

    Args:
      source: a folder with images (in subfolders, whose names are the classes, or not); an .npz file with arrays
        `images`, (n, height, width) or (n, height, width, channels), and perhaps `labels`; an IDX file (`.gz` or not),
        whose labels are read from the file named alike if it is there; or a key of `PACKAGED_IMAGES`.
      side: images of a folder are cut to a square around their middle and scaled to `side` x `side` pixels.

    Raises:
      FileNotFoundError: if there is neither a file nor a packaged set of that name.
      ValueError: if there are fewer than 100 images, or a file is not of the kind its name says.
      ImportError: if the package that carries the set is not installed.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        images = read_folder(path, side)
    elif path.suffix == ".npz" and path.exists():
        images = read_npz(path)
    elif path.exists():
        images = read_idx(path)
    elif str(path) in PACKAGED_IMAGES:
        images = PACKAGED_IMAGES[str(path)]()
    else:
        names = ", ".join(sorted(PACKAGED_IMAGES))
        raise FileNotFoundError(
            f"no file {str(path)!r}: give a folder of images, an .npz or IDX file, or one of {names}"
        )
    if len(images.pixels) < LEAST:
        raise ValueError(f"{str(path)!r} has {len(images.pixels)} images: give at least {LEAST}")
    return images
