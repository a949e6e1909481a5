"""Real images made ready for a diffusion model, and the model trained on them."""

import functools
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float32, Int32, Key

from diffusion import ConvUNet, Finite, TrainConfig, VectorProcess, from_flax, train
from hierarchical import Images, load_images, select_classes, split_images
from phasetree.experiment import Inputs, Training


class PreparedImages(NamedTuple):
    """Images of mean 0 and variance 1 over all pixels of the training set."""

    images: Images
    train: Float32[np.ndarray, "n height width channels"]
    train_labels: Int32[np.ndarray, " n"] | None
    held_out: Float32[np.ndarray, "k height width channels"]
    held_out_labels: Int32[np.ndarray, " k"] | None
    mean: float
    std: float


def prepare_images(
    source: str | pathlib.Path,
    side: int,
    multiple: int,
    seed: int,
    classes: tuple[str, ...] = (),
    *,
    background: float | None = None,
    channels_first: bool | None = None,
) -> PreparedImages:
    """Load, pad with black to a multiple of `multiple` pixels, split and standardise; all classes, or those named.

    `side`, `background` and `channels_first` are those of `load_images`.

    Several stages ask for the same images, so the last images are cached until their files change.

    Raises:
      ValueError: if all pixels are equal, or there are no such classes.
    """
    path = pathlib.Path(source)
    files = [path, *path.rglob("*")] if path.is_dir() else [path] if path.exists() else []
    modified = max((file.stat().st_mtime_ns for file in files), default=0)
    return _prepared(source, side, multiple, seed, classes, background, channels_first, modified)


@functools.lru_cache(maxsize=1)
def _prepared(
    source: str | pathlib.Path,
    side: int,
    multiple: int,
    seed: int,
    classes: tuple[str, ...],
    background: float | None,
    channels_first: bool | None,
    modified: int,
) -> PreparedImages:
    images = load_images(source, side, background=background, channels_first=channels_first)
    images = select_classes(images, classes) if classes else images
    training, held_out = split_images(images, seed)
    mean, std = float(training.pixels.mean()), float(training.pixels.std())
    if std == 0:
        raise ValueError(f"all pixels of {images.name} are equal: nothing can be learned from them")

    def ready(part: Images) -> np.ndarray:
        return ((_padded(part.pixels, multiple) - mean) / std).astype(np.float32)

    return PreparedImages(images, ready(training), training.labels, ready(held_out), held_out.labels, mean, std)


def _padded(pixels: Float32[np.ndarray, "n height width channels"], multiple: int) -> np.ndarray:
    """Add black margins, so that height and width are multiples of `multiple`."""
    missing = [-size % multiple for size in pixels.shape[1:3]]
    return np.pad(pixels, [(0, 0), *((size // 2, size - size // 2) for size in missing), (0, 0)])


def network_on_images(
    network_key: Key[Array, ""],
    key: Key[Array, ""],
    inputs: Inputs,
    data: PreparedImages,
    config: TrainConfig,
    *,
    width: int,
    levels: int,
    patch: int,
) -> Training:
    """A convolutional U-Net that denoises on the variance-preserving path; its record is the `loss` of every step."""
    shape = data.train.shape[1:]
    network = ConvUNet(shape[-1], width, levels, patch, rngs=nnx.Rngs(network_key))
    denoiser = from_flax(network, VectorProcess(), shape)
    report = inputs.training(config, "loss {:.3f}")
    result = train(key, denoiser, Finite(jnp.asarray(data.train)), config, folder=inputs.folder, report=report)
    attributes = {"long_name": "training loss", "units": "squared error of a number of variance 1"}
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses), attributes)}))
