"""Images of the user's: folders of image files, .npz files and IDX files.

Pixels become numbers from 0 (black) to 1; all images of a set have one size. The subfolders of a folder are classes.
"""

import gzip
import importlib
import pathlib
import zipfile

import numpy as np
from jaxtyping import Float32, Int32

from .sets import Images

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read_folder(path: pathlib.Path, side: int) -> Images:
    try:
        image = importlib.import_module("PIL.Image")
        operations = importlib.import_module("PIL.ImageOps")
    except ImportError as error:
        raise ImportError('reading image files needs the package pillow: pip install "phasetree[images]"') from error
    files = sorted(file for file in path.rglob("*") if _is_image(file.relative_to(path)))
    pixels = []
    for file in files:
        try:
            with image.open(file) as opened:
                if opened.mode[0] in "IF":
                    raise ValueError(f"{file} has {opened.mode} pixels, more than 8 bits: convert it to 8 bits first")
                square = operations.fit(operations.exif_transpose(opened).convert("RGB"), (side, side))
        except OSError as error:
            raise ValueError(f"{file} cannot be read as an image ({error}): remove it or mend it") from error
        pixels.append(np.asarray(square, np.float32) / 255)
    if not pixels:
        raise ValueError(f"{str(path)!r} holds no images: give a folder with files {', '.join(sorted(SUFFIXES))}")
    stacked = np.stack(pixels)
    if (stacked == stacked[..., :1]).all():  # all gray
        stacked = stacked[..., :1]
    folders = [file.relative_to(path).parts[0] if file.parent != path else "" for file in files]
    if "" in folders and len(set(folders)) > 1:
        stray = files[folders.index("")]
        raise ValueError(f"{stray} lies beside folders of classes: move it into one of them, or all images out of them")
    provenance = f"{len(files)} images of folder {path.name}, {side} x {side} pixels"
    labels, classes = numbered_labels(np.array(folders), path, len(files))
    return Images(path.name, stacked, labels, provenance, classes)


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in file.parts)


def numbered_labels(
    raw: np.ndarray | None, source: str | pathlib.Path, count: int
) -> tuple[Int32[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Classes numbered from 0 without gaps, and their names; None and none where there are fewer than two."""
    if raw is None:
        return None, ()
    if raw.shape != (count,):
        raise ValueError(f"{source} has {count} images and labels of shape {raw.shape}: give one number for each image")
    classes, labels = np.unique(raw, return_inverse=True)
    return (labels.astype(np.int32), tuple(map(str, classes.tolist()))) if len(classes) > 1 else (None, ())


def read_npz(path: pathlib.Path) -> Images:
    try:
        with np.load(path) as arrays:
            if "images" not in arrays:
                raise ValueError(f"{path} has the arrays {', '.join(arrays)}: one must be named images")
            pixels, labels = arrays["images"], arrays.get("labels")
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no .npz file ({error}): write it with numpy.savez") from error
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise ValueError(
            f"images of {path} have shape {pixels.shape}: expected (n, height, width), or one axis more, 1 or 3 colours"
        )
    provenance = f"file {path.name}, {len(pixels)} images"
    labels, classes = numbered_labels(labels, path, len(pixels))
    return Images(path.name, scaled_pixels(pixels, path), labels, provenance, classes)


def read_idx(path: pathlib.Path) -> Images:
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    found = _idx(labels) if labels != path and labels.exists() else None
    pixels = _idx(path)
    if pixels.ndim != 3:
        raise ValueError(f"{path} holds an array of shape {pixels.shape}: images are (n, height, width)")
    provenance = f"file {path.name}, {len(pixels)} images"
    labels, classes = numbered_labels(found, path, len(pixels))
    return Images(path.name, scaled_pixels(pixels, path), labels, provenance, classes)


def _idx(path: pathlib.Path) -> np.ndarray:
    """An array in the format of the MNIST files: two zero bytes, type (8: bytes), axes, their sizes, the numbers."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): fetch it again") from error
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is neither a folder, nor .npz, nor an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * axes], ">i4")
    numbers = np.frombuffer(content, np.uint8, offset=min(4 + 4 * axes, len(content)))
    if len(shape) < axes or len(numbers) != np.prod(shape):
        said = tuple(shape.tolist())
        raise ValueError(f"{path} says that it holds {said} numbers and holds {len(numbers)}: fetch it again")
    return numbers.reshape(shape)


def scaled_pixels(pixels: np.ndarray, source: str | pathlib.Path) -> Float32[np.ndarray, "n height width channels"]:
    """Bytes divided by 255, other numbers so that the largest is 1; one channel where there are none."""
    if pixels.dtype.kind not in "buif" or not np.isfinite(pixels).all() or (pixels.size and pixels.min() < 0):
        raise ValueError(f"images of {source} have {pixels.dtype} pixels: give finite numbers, none below 0")
    largest = 255 if pixels.dtype == np.uint8 else max(float(pixels.max(initial=0)), 1e-30)
    scaled = (pixels / largest).astype(np.float32)
    return scaled[..., None] if scaled.ndim == 3 else scaled
