"""Images of a folder of image files, whose subfolders, if it has any, are the classes.

Every image is cut to a square around its middle and scaled to the same size. Where an image is transparent its colours
are arbitrary, and nobody sees them: they are replaced by a background that the caller chooses.
"""

import importlib
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from ..files.memory import check_memory
from ..files.printable import printable
from .from_arrays import numbered_labels
from .sets import Images

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
"""Names of folders that hold parts of a data set rather than classes."""
_MEMORY = 2 * 4 * 3  # bytes of each pixel: float32 in three channels, image by image and as one array


def read_folder(path: pathlib.Path, side: int, background: float | None = None) -> Images:
    """The images below a folder, in the order of their paths; arguments and errors as in `load_images`."""
    files = sorted(_image_files(path))
    if not files:
        raise ValueError(f"{str(path)!r} holds no images: give a folder with files {', '.join(sorted(SUFFIXES))}")
    folders = _class_folders(path, files)
    check_memory(_MEMORY * len(files) * side**2, f"reading {len(files)} images of {side} x {side} pixels")
    pixels = np.stack([_read_image(file, side, background) for file in files])
    if (pixels == pixels[..., :1]).all():  # all gray
        pixels = pixels[..., :1]
    name = printable(path.name or path.resolve().name)
    behind = "" if background is None else f", on a background of {background:g} where transparent"
    provenance = f"{len(files)} images of folder {name}, {side} x {side} pixels{behind}"
    labels, classes = numbered_labels(np.array(folders), path, len(files))
    return Images(name, pixels, labels, provenance, classes)


def _image_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files with an image's suffix below a folder, through symbolic links too, hidden ones left out."""
    waiting = [(folder, {folder.resolve()})]
    while waiting:
        place, above = waiting.pop()
        for entry in place.iterdir():
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if entry.resolve() in above:
                    raise ValueError(f"{str(entry)!r} links to a folder that it lies in: remove the link")
                waiting.append((entry, above | {entry.resolve()}))
            elif entry.suffix.lower() in SUFFIXES:
                yield entry


def _class_folders(path: pathlib.Path, files: list[pathlib.Path]) -> list[str]:
    """For each file the subfolder of `path` that it is below; empty names if all lie in `path` itself."""
    folders = [file.relative_to(path).parts[0] if file.parent != path else "" for file in files]
    if "" in folders and len(set(folders)) > 1:
        stray = str(files[folders.index("")])
        raise ValueError(f"{stray!r} lies beside folders of classes: move it into one of them, or all images out")
    parts = sorted(set(folders), key=lambda name: (not name.lower().startswith("train"), name))
    if {name.lower() for name in parts} <= PARTS:
        raise ValueError(
            f"{str(path)!r} holds {' and '.join(parts)}, the parts of a data set and not classes: give one of them, as "
            f"{str(path / parts[0])!r} (held-out images are drawn from it by the seed)"
        )
    return folders


def _read_image(file: pathlib.Path, side: int, background: float | None) -> Float32[np.ndarray, "side side 3"]:
    image = _decoded(file)
    if image.mode[0] in "IF":
        raise ValueError(f"{str(file)!r} has {image.mode} pixels, more than 8 bits: convert it to 8 bits first")
    if image.has_transparency_data:
        image = _on_background(image.convert("RGBA"), file, background)
    square = importlib.import_module("PIL.ImageOps").fit(image.convert("RGB"), (side, side))
    return np.asarray(square, np.float32) / 255


def _decoded(file: pathlib.Path):
    """The image, upright."""
    try:
        pillow = importlib.import_module("PIL.Image")
        operations = importlib.import_module("PIL.ImageOps")
    except ImportError as error:
        raise ImportError('reading image files needs the package pillow: pip install "phasetree[images]"') from error
    try:
        with warnings.catch_warnings():  # large images are read; those twice as large are an error below
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            with pillow.open(file) as opened:
                return operations.exif_transpose(opened)
    except pillow.DecompressionBombError as error:
        most = 2 * pillow.MAX_IMAGE_PIXELS
        raise ValueError(f"{str(file)!r} has more than {most} pixels: remove it or scale it down") from error
    except Exception as error:  # decoders of damaged files raise errors of many classes
        raise ValueError(
            f"{str(file)!r} cannot be read as an image ({printable(error)}): remove it or mend it"
        ) from error


def _on_background(image, file: pathlib.Path, background: float | None):
    """What is seen of an RGBA image in front of a gray level."""
    if image.getextrema()[3][0] == 255:
        return image
    if background is None:
        raise ValueError(
            f"{str(file)!r} has transparent pixels: pass background = 0 (black) .. 1 (white), or save it without "
            f"transparency"
        )
    pillow = importlib.import_module("PIL.Image")
    gray = round(255 * background)
    return pillow.alpha_composite(pillow.new("RGBA", image.size, (gray, gray, gray, 255)), image)
