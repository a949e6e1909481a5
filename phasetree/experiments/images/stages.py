"""The stages of the experiment `images`, each kept in the folder when done, and how they become one dataset."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from diffusion import AbstractNetworkDenoiser, ReverseSDE, TrainConfig, forward_backward
from diffusion.measure import GridGeometry, connected_sums, displacement, over_trajectories
from diffusion.networks.conv_unet import gathered, spread
from phasetree.experiments.images.config import ImagesConfig
from phasetree.progress import training_bar
from phasetree.recipes.training import named_key
from phasetree.recipes.vision import (
    PatchEmbedding,
    PreparedImages,
    prepare_images,
    trained_embedding,
    trained_on_images,
)
from phasetree.results import ResultFolder

IMAGES_AT_ONCE = 512
SHOWN = 3  # images kept
SHORTEST = 0.01  # the smallest time of training; below it the mean of x_0 is taken
KINDS = ("embedding", "control", "pixels")


class Lab(NamedTuple):
    """All that was trained."""

    data: PreparedImages
    denoiser: AbstractNetworkDenoiser
    embedding: PatchEmbedding


def run(config: ImagesConfig, folder: ResultFolder) -> xr.Dataset:
    """Train embedding and denoiser, regenerate, correlate. Resumes from what `folder` holds.

    Returns:
      For every held-out image (`datum`) and time t: `sums` S(r) of correlated changes at a distance of r patches, for
      each `kind` of change (embedding, control, pixels); the fraction of regenerations whose class is `kept`; the mean
      `length` of displacements; some images; training losses and the classifier's accuracy.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there are no such images, see `load_images`.
      FolderError: if the images have changed since the folder was made.
    """
    multiple = math.lcm(config.patch, config.square * 2 ** (config.levels - 1))
    layout = {"background": config.background, "channels_first": config.channels_first}
    data = prepare_images(config.images, config.side, multiple, config.seed, config.classes, **layout)
    if len(data.held_out) < config.data:
        raise ValueError(
            f"{data.images.name} leaves {len(data.held_out)} held-out images, data = {config.data} are asked for: "
            f"lower data, or give more images"
        )
    grid = GridGeometry(data.train.shape[1] // config.patch, data.train.shape[2] // config.patch)
    if min(grid.height, grid.width) < 2:
        raise ValueError(
            f"patch = {config.patch} leaves {grid.height} x {grid.width} patches of {data.images.name}: at least 2 x 2 "
            f"are needed, lower patch"
        )
    two_classes = _two_class_statistics(data)
    embedding = _embedding(config, folder, data)
    denoiser, losses = _denoiser(config, folder, data)
    lab = Lab(data, denoiser, embedding)
    examples = folder.stage("examples", lambda: _examples(config, lab))
    dataset = xr.merge([_correlated(config, folder, lab, grid), examples])
    loss = ("step", losses, {"long_name": "training loss", "units": "squared error of a number of variance 1"})
    dataset = dataset.assign({"loss": loss, **_accuracy(lab)}).assign_coords(
        t=list(config.noise_levels), distance=grid.distances, kind=list(KINDS)
    )
    dataset.t.attrs = {"long_name": "Ornstein-Uhlenbeck time", "units": "1"}
    dataset.distance.attrs = {"long_name": "distance", "units": "patches"}
    return dataset.assign_attrs(
        config=folder.config,
        source=data.images.name,
        provenance=data.images.provenance,
        sha256=data.images.sha256,
        seed=config.seed,
        num_classes=data.images.num_classes,
        chance=data.images.chance,
        pixels=f"{data.train.shape[1]} x {data.train.shape[2]}",
        patch=config.patch,
        rows=grid.height,
        columns=grid.width,
        trained_on=len(data.train),
        **two_classes,
    )


def _two_class_statistics(data: PreparedImages) -> dict[str, float]:
    """What speciation times follow from, of standardised training images; nothing unless there are two classes.

    Returns:
      The largest eigenvalue of the data's covariance, |m|^2 for class means m apart by 2m, and the mean variance of the
      classes along m. |m|^2 is without bias: what the means' own errors add on average is taken off, but not below 0.
    """
    if data.images.num_classes != 2 or data.train_labels is None:
        return {}
    rows = data.train.reshape(len(data.train), -1).astype(float)
    centred = rows - rows.mean(0)
    halves = [rows[data.train_labels == label] for label in (0, 1)]
    if min(map(len, halves)) < 2:
        sizes = {name: len(part) for name, part in zip(data.images.classes, halves, strict=True)}
        raise ValueError(f"training images of each class: {sizes}, at least 2 are needed: give more images")
    noise = sum(np.sum(np.var(part, 0, ddof=1)) / len(part) for part in halves) / 4
    half = (halves[1].mean(0) - halves[0].mean(0)) / 2
    along = half / np.linalg.norm(half)
    return {
        "largest_variance": float(np.linalg.svd(centred, compute_uv=False)[0] ** 2 / len(rows)),
        "squared_norm": max(0.0, float(half @ half - noise)),
        "variance_along": float(np.mean([np.var(part @ along) for part in halves])),
    }


def _embedding(config: ImagesConfig, folder: ResultFolder, data: PreparedImages) -> PatchEmbedding:
    training = TrainConfig(config.encoder_steps, 64, 2e-3, steps_per_chunk=20)
    what = "classifier" if data.train_labels is not None else "auto-encoder"
    with training_bar(f"training the {what}", training, "loss {:.3f}") as report:
        return trained_embedding(
            named_key(config.seed, "embedding", 0),
            jnp.asarray(data.train),
            None if data.train_labels is None else jnp.asarray(data.train_labels),
            config.patch,
            training,
            folder=folder.path / "checkpoints" / "embedding",
            report=report,
        )


def _denoiser(
    config: ImagesConfig, folder: ResultFolder, data: PreparedImages
) -> tuple[AbstractNetworkDenoiser, np.ndarray]:
    with training_bar(f"training on {data.images.name}", config.train, "loss {:.3f}") as report:
        return trained_on_images(
            named_key(config.seed, "network", 0),
            named_key(config.seed, "train", 0),
            data,
            config.train,
            width=config.width,
            levels=config.levels,
            patch=config.square,
            folder=folder.path / "checkpoints" / "denoiser",
            report=report,
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


def _correlated(config: ImagesConfig, folder: ResultFolder, lab: Lab, grid: GridGeometry) -> xr.Dataset:
    """Sums of correlated changes of all images at every time, a stage for each."""
    statistic = _Changes(lab.embedding, grid, config.patch)
    images = lab.data.held_out[: config.data]
    calls = min(config.data, -(-config.data * config.trajectories // IMAGES_AT_ONCE))
    pieces = np.array_split(images, calls)
    levels: list[xr.Dataset] = []
    with tqdm(desc="regenerating", total=len(config.noise_levels) * len(pieces), unit="call") as bar:

        def level(number: int, t: float) -> xr.Dataset:
            found = []
            for key, piece in zip(
                jax.random.split(named_key(config.seed, "regenerate", number), len(pieces)), pieces, strict=True
            ):
                changes = over_trajectories(
                    key,
                    lab.denoiser,
                    jnp.asarray(piece),
                    jnp.float32(t),
                    statistic,
                    num_trajectories=config.trajectories,
                    sampler=_sampler(config),
                    at_once=IMAGES_AT_ONCE,
                    beside=jax.random.randint(
                        jax.random.fold_in(named_key(config.seed, "mix", number), len(found)),
                        (len(piece), grid.height, grid.width),
                        0,
                        config.trajectories,
                    ),
                )
                found.append(jax.tree.map(np.asarray, changes))
                bar.update()
            joined = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
            dims = {"sums": ("datum", "kind", "distance"), "length": ("datum", "kind"), "kept": ("datum",)}
            return xr.Dataset({name: (dims[name], value) for name, value in joined.items()})

        for number, t in enumerate(config.noise_levels):
            levels.append(folder.stage(f"t-{t:g}", lambda number=number, t=t: level(number, t)))
            bar.update(len(levels) * len(pieces) - bar.n)
    return xr.concat(levels, "t", data_vars="all")


def _examples(config: ImagesConfig, lab: Lab) -> xr.Dataset:
    """A few held-out images in gray levels from 0 to 1, regenerated once from every time, and their displacements."""
    x0 = jnp.asarray(lab.data.held_out[:SHOWN])
    original = lab.embedding.patches(x0)
    pictures, lengths = [], []
    for number, t in enumerate(config.noise_levels):
        key = named_key(config.seed, "examples", number)
        times = jnp.full(len(x0), t, jnp.float32)
        again = forward_backward(key, lab.denoiser, x0, times, sampler=_sampler(config))[0]
        pictures.append(np.asarray(again))
        lengths.append(np.asarray(jnp.linalg.norm(lab.embedding.patches(again) - original, axis=-1)))

    def gray(standardised):
        return np.clip(np.asarray(standardised) * lab.data.std + lab.data.mean, 0, 1)

    pixels = ("row", "column", "channel")
    return xr.Dataset(
        {
            "original": (("example", *pixels), gray(x0)),
            "regenerated": (("t", "example", *pixels), gray(np.stack(pictures))),
            "displacement": (("t", "example", "patch"), np.stack(lengths)),
        }
    )


def _accuracy(lab: Lab) -> dict[str, float]:
    """Of the classifier on all held-out images, with its binomial standard error; nothing without classes."""
    if not lab.embedding.num_classes:
        return {}
    logits = eqx.filter_jit(lambda embedding, x: embedding.logits(x))(lab.embedding, jnp.asarray(lab.data.held_out))
    classes = np.argmax(np.asarray(logits), -1)
    right = float(np.mean(classes == lab.data.held_out_labels))
    return {"accuracy": right, "accuracy_stderr": math.sqrt(right * (1 - right) / len(classes))}


def _sampler(config: ImagesConfig) -> ReverseSDE:
    return ReverseSDE(config.sampler_steps, SHORTEST)
