"""The stages of the experiment `images`, and how they become one dataset.

data         what the images are, and the statistics of two classes
embedding    the classifier, or auto-encoder, that embeds patches
train        the denoiser
examples     a few images, regenerated
t-T          correlated changes of all held-out images from noise time T
"""

import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key

from diffusion import ReverseSDE, forward_backward
from diffusion.measure import GridGeometry, connected_sums, displacement, over_trajectories
from diffusion.networks.conv_unet import gathered, spread
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.images.config import Config
from phasetree.recipes.training import named_key
from phasetree.recipes.vision import (
    PatchEmbedding,
    PreparedImages,
    network_on_images,
    patch_embedding,
    prepare_images,
)
from theory.gaussian.labelled import labelled_speciation

IMAGES_AT_ONCE = 512
SHOWN = 3  # images kept
SHORTEST = 0.01  # the smallest time of training; below it the mean of x_0 is taken
KINDS = ("embedding", "control", "pixels")


def plan(config: Config) -> list[Stage]:
    """Train embedding and denoiser, regenerate, correlate."""
    both, units = ("embedding", "train"), len(config.noise_levels)
    levels = [
        Stage(f"t-{t:g}", correlated, both, options={"number": number}) for number, t in enumerate(config.noise_levels)
    ]
    networks = [Stage("embedding", embedding), Stage("train", trained, units=units)]
    return [Stage("data", described, units=0.1), *networks, Stage("examples", examples, both), *levels]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every held-out image (`datum`) and noise time `t`: `sums` S(r) of correlated changes at a distance of r
      patches, for each `kind` of change (embedding, control, pixels); the fraction of regenerations whose class is
      `kept`; the mean `length` of displacements; some images; the training loss and the classifier's accuracy.
    """
    about = results["data"].attrs
    levels = xr.concat([results[f"t-{t:g}"] for t in config.noise_levels], "t", data_vars="all")
    dataset = xr.merge([levels, results["examples"], results["train"].loss, results["embedding"]])
    distances = GridGeometry(int(about["rows"]), int(about["columns"])).distances
    dataset = dataset.assign_coords(t=list(config.noise_levels), distance=distances, kind=list(KINDS))
    dataset.t.attrs = {"long_name": "noise time", "units": "1", "process": "Ornstein-Uhlenbeck"}
    dataset.distance.attrs = {"long_name": "distance", "units": "patches"}
    return dataset.assign_attrs(about)


def _ready(config: Config) -> PreparedImages:
    """The images, as every stage sees them."""
    multiple = math.lcm(config.patch, config.square * 2 ** (config.levels - 1))
    layout = {"background": config.background, "channels_first": config.channels_first}
    return prepare_images(config.images, config.side, multiple, config.seed, config.classes, **layout)


def _grid(config: Config, data: PreparedImages) -> GridGeometry:
    return GridGeometry(data.train.shape[1] // config.patch, data.train.shape[2] // config.patch)


def described(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """What the images are, in attributes.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there are no such images, see `load_images`, or too few.
    """
    data = _ready(config)
    grid = _grid(config, data)
    if len(data.held_out) < config.num_data:
        raise ValueError(
            f"{data.images.name} leaves {len(data.held_out)} held-out images, num_data = {config.num_data} are asked "
            f"for: lower num_data, or give more images"
        )
    if grid.height * grid.width < 2:
        raise ValueError(
            f"patch = {config.patch} leaves {grid.height} x {grid.width} patches of {data.images.name}: lower it"
        )
    return xr.Dataset(
        attrs={
            "source": data.images.name,
            "provenance": data.images.provenance,
            "sha256": data.images.sha256,
            "num_classes": data.images.num_classes,
            "chance": data.images.chance,
            "pixels": f"{data.train.shape[1]} x {data.train.shape[2]}",
            "patch": config.patch,
            "rows": grid.height,
            "columns": grid.width,
            "trained_on": len(data.train),
            **speciation_attributes(key, data),
        }
    )


def speciation_attributes(key: Key[Array, ""], data: PreparedImages) -> dict[str, float]:
    """The times at which two classes are decided, predicted from training images, with errors; else nothing."""
    if data.images.num_classes != 2 or data.train_labels is None:
        return {}
    times = labelled_speciation(named_key(key, "speciation", 0), data.train, data.train_labels)
    predicted = {"signal_time": times.signal_time, "covariance_time": times.covariance_time}
    return {f"{name}{part}": float(number) for name, estimate in predicted.items()
            for part, number in (("", estimate.value), ("_stderr", estimate.stderr))}  # fmt: skip


def embedding(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """Of patches; its record is the classifier's accuracy on all held-out images, with its binomial error."""
    data = _ready(config)
    labels = None if data.train_labels is None else jnp.asarray(data.train_labels)
    steps, pixels = config.encoder_steps, jnp.asarray(data.train)
    found = patch_embedding(named_key(key, "embedding", 0), inputs, pixels, labels, config.patch, steps)
    if not found.num_classes:
        return Training(found, xr.Dataset())
    logits = eqx.filter_jit(lambda embedding, x: embedding.logits(x))(found, jnp.asarray(data.held_out))
    classes = np.argmax(np.asarray(logits), -1)
    right = float(np.mean(classes == data.held_out_labels))
    error = math.sqrt(right * (1 - right) / len(classes))
    return Training(found, xr.Dataset({"accuracy": right, "accuracy_stderr": error}))


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The denoiser."""
    return network_on_images(
        named_key(key, "network", 0),
        named_key(key, "train", 0),
        inputs,
        _ready(config),
        config.train,
        width=config.width,
        levels=config.levels,
        patch=config.square,
    )


class _Changes(eqx.Module):
    """What is asked of an image and its regenerations."""

    embedding: PatchEmbedding
    geometry: GridGeometry
    patch: int = eqx.field(static=True)

    def __call__(self, x0, regenerated, shifts) -> dict[str, Array]:
        mixed = _mixed(regenerated, shifts, self.patch)
        embedded = self.embedding.patches(jnp.concatenate([x0[None], regenerated, mixed]))
        original, changed, control = jnp.split(embedded, (1, 1 + len(regenerated)))
        sigma = {
            "embedding": displacement(original[0], changed),
            "control": displacement(original[0], control),
            "pixels": displacement(_patches(x0[None], self.patch)[0], _patches(regenerated, self.patch)),
        }
        found = {
            "sums": jnp.stack([connected_sums(sigma[kind], self.geometry) for kind in KINDS]),
            "length": jnp.stack([jnp.mean(sigma[kind]) for kind in KINDS]),
        }
        if self.embedding.num_classes:
            classes = jnp.argmax(self.embedding.logits(jnp.concatenate([x0[None], regenerated])), -1)
            found["kept"] = jnp.mean(classes[1:] == classes[0], dtype=jnp.float32)
        return found


def _patches(images: Float[Array, "batch height width channels"], patch: int) -> Float[Array, "batch patches pixels"]:
    found = gathered(images, patch)
    return found.reshape(len(images), -1, found.shape[-1])


def _mixed(
    regenerated: Float[Array, "trajectories height width channels"], shifts: Int[Array, "rows columns"], patch: int
) -> Float[Array, "trajectories height width channels"]:
    """The same patches, each from another trajectory: every patch is shifted by its own number of trajectories.

    Over uniform draws of `shifts` the covariance of any two patches is 0.
    """
    squares = gathered(regenerated, patch)
    count, rows, columns, _ = squares.shape
    chosen = (jnp.arange(count)[:, None, None] + shifts[None]) % count
    return spread(squares[chosen, jnp.arange(rows)[None, :, None], jnp.arange(columns)[None, None]], patch)


def correlated(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """Sums of correlated changes of all images at one time."""
    data = _ready(config)
    grid = _grid(config, data)
    statistic = _Changes(inputs["embedding"].model, grid, config.patch)
    calls = min(config.num_data, -(-config.num_data * config.num_trajectories // IMAGES_AT_ONCE))
    pieces = np.array_split(data.held_out[: config.num_data], calls)
    keys, parts = jax.random.split(named_key(key, "regenerate", number), len(pieces)), []
    for piece_key, piece in zip(keys, pieces, strict=True):
        mix_key = jax.random.fold_in(named_key(key, "mix", number), len(parts))
        shape = (len(piece), grid.height, grid.width)
        changes = over_trajectories(
            piece_key,
            inputs["train"].model,
            jnp.asarray(piece),
            jnp.float32(config.noise_levels[number]),
            statistic,
            num_trajectories=config.num_trajectories,
            sampler=_sampler(config),
            at_once=IMAGES_AT_ONCE,
            beside=jax.random.randint(mix_key, shape, 0, config.num_trajectories),
        )
        parts.append(jax.tree.map(np.asarray, changes))
        inputs.advance(1 / len(pieces))
    joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    dims = {"sums": ("datum", "kind", "distance"), "length": ("datum", "kind"), "kept": ("datum",)}
    return xr.Dataset({name: (dims[name], value) for name, value in joined.items()})


def examples(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """A few held-out images in gray levels from 0 to 1, regenerated once from every time, and their displacements."""
    data, denoiser, embedded = _ready(config), inputs["train"].model, inputs["embedding"].model
    x0 = jnp.asarray(data.held_out[:SHOWN])
    original = embedded.patches(x0)
    pictures, lengths = [], []
    for number, t in enumerate(config.noise_levels):
        times = jnp.full(len(x0), t, jnp.float32)
        example_key, sampler = named_key(key, "examples", number), _sampler(config)
        again = forward_backward(example_key, denoiser, x0, times, sampler=sampler)[0]
        pictures.append(np.asarray(again))
        lengths.append(np.asarray(jnp.linalg.norm(embedded.patches(again) - original, axis=-1)))

    def gray(standardised):
        return np.clip(np.asarray(standardised) * data.std + data.mean, 0, 1)

    pixels = ("row", "column", "channel")
    return xr.Dataset(
        {
            "original": (("example", *pixels), gray(x0)),
            "regenerated": (("t", "example", *pixels), gray(np.stack(pictures))),
            "displacement": (("t", "example", "patch"), np.stack(lengths)),
        }
    )


def _sampler(config: Config) -> ReverseSDE:
    return ReverseSDE(config.sampler_steps, SHORTEST)
