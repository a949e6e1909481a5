"""Real images made ready for a diffusion model, and the model trained on them."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int32, Key

from diffusion import AbstractNetworkDenoiser, ConvUNet, Finite, TrainConfig, VectorProcess, from_flax, train
from hierarchical import Images, load_images, select_classes, split_images


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

    Raises:
      ValueError: if all pixels are equal, or there are no such classes.
    """
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
    """Black margins, so that height and width are multiples of `multiple`."""
    missing = [-size % multiple for size in pixels.shape[1:3]]
    return np.pad(pixels, [(0, 0), *((size // 2, size - size // 2) for size in missing), (0, 0)])


def trained_on_images(
    network_key: Key[Array, ""],
    key: Key[Array, ""],
    data: PreparedImages,
    config: TrainConfig,
    *,
    width: int,
    levels: int,
    patch: int,
    folder: pathlib.Path,
    report: Callable[[int, float], None],
) -> tuple[AbstractNetworkDenoiser, Float[np.ndarray, " steps"]]:
    """A convolutional U-Net that denoises on the variance-preserving path, and its loss at every step."""
    shape = data.train.shape[1:]
    network = ConvUNet(shape[-1], width, levels, patch, rngs=nnx.Rngs(network_key))
    denoiser = from_flax(network, VectorProcess(), shape)
    examples = Finite(jnp.asarray(data.train))
    result = train(key, denoiser, examples, config, folder=folder, report=report)
    return result.denoiser, np.asarray(result.losses)
