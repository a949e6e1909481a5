r"""Embeddings of the patches of an image: a small convolutional network, trained here.

An image is cut into squares of p x p pixels, its patches. A linear map of a patch's pixels and a few 3 x 3 convolutions
over the grid of patches give each patch a vector, its embedding; what a patch means depends on what is around it. With
classes the network learns to predict the class from the mean embedding; without classes it learns to predict each
patch's pixels from its own embedding, which has few numbers (an auto-encoder of a patch in its surroundings).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from diffusion import TrainConfig, descend
from diffusion.networks.conv_unet import Convolution, gathered
from phasetree.experiment import Inputs

Images = Float[Array, "batch height width channels"]
WIDTH, FEATURES, BLOCKS = 64, 16, 2
BATCH = 64


class PatchEncoder(nnx.Module):
    """Maps images to embeddings (batch, rows, columns, features); `tell` maps embeddings to logits or pixels."""

    def __init__(self, channels: int, patch: int, num_classes: int, *, rngs: nnx.Rngs):
        """`num_classes` 0 makes an auto-encoder."""
        self.patch = patch
        self.enter = nnx.Linear(patch**2 * channels, WIDTH, rngs=rngs)
        self.norms = nnx.List([nnx.RMSNorm(WIDTH, rngs=rngs) for _ in range(BLOCKS)])
        self.blocks = nnx.List([Convolution(WIDTH, WIDTH, rngs=rngs) for _ in range(BLOCKS)])
        self.leave = nnx.Linear(WIDTH, FEATURES, rngs=rngs)
        self.tell = nnx.Linear(FEATURES, num_classes or patch**2 * channels, rngs=rngs)

    def __call__(self, images: Images) -> Float[Array, "batch rows columns features"]:
        h = self.enter(gathered(images, self.patch))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            h = h + jax.nn.gelu(block(norm(h)))
        return self.leave(h)


class PatchEmbedding(eqx.Module):
    """A trained `PatchEncoder` as a function of arrays."""

    definition: Any = eqx.field(static=True)
    params: PyTree
    num_classes: int = eqx.field(static=True)

    def patches(self, images: Images) -> Float[Array, "batch patches features"]:
        """The embedding of every patch, row by row."""
        embeddings = nnx.merge(self.definition, self.params)(images)
        return embeddings.reshape(len(images), -1, embeddings.shape[-1])

    def logits(self, images: Images) -> Float[Array, "batch classes"]:
        """Class logits of whole images."""
        network = nnx.merge(self.definition, self.params)
        return network.tell(network(images).mean((1, 2)))

    def loss(self, images: Images, labels: Int[Array, " batch"]) -> Float[Array, ""]:
        """Of a classifier the cross-entropy, nats per image; of an auto-encoder the mean squared error per pixel."""
        if self.num_classes:
            return optax.softmax_cross_entropy_with_integer_labels(self.logits(images), labels).mean()
        network = nnx.merge(self.definition, self.params)
        return jnp.mean((network.tell(network(images)) - gathered(images, network.patch)) ** 2)


class _EmbeddingLoss(eqx.Module):
    embedding: PatchEmbedding
    pixels: Images
    labels: Int[Array, " n"]
    batch_size: int = eqx.field(static=True)

    def __call__(self, params: PyTree, key: Key[Array, ""], shard: Callable) -> Float[Array, ""]:
        chosen = jax.random.randint(key, (self.batch_size,), 0, len(self.pixels))
        embedding = eqx.tree_at(lambda e: e.params, self.embedding, params)
        return embedding.loss(shard(self.pixels[chosen]), shard(self.labels[chosen]))


def patch_embedding(
    key: Key[Array, ""],
    inputs: Inputs,
    pixels: Images,
    labels: Int[Array, " n"] | None,
    patch: int,
    steps: int,
) -> PatchEmbedding:
    """Train an embedding on images, with their labels 0, 1, ... if there are any.

    Args:
      inputs: of the stage, which keeps the checkpoints and receives the progress.
      patch: side of a patch, pixels; must divide height and width.
      steps: of training, 64 images each.
    """
    network_key, train_key = jax.random.split(key)
    num_classes = 0 if labels is None else int(labels.max()) + 1
    encoder = PatchEncoder(pixels.shape[-1], patch, num_classes, rngs=nnx.Rngs(network_key))
    embedding = PatchEmbedding(*nnx.split(encoder), num_classes)
    given = jnp.zeros(len(pixels), jnp.int32) if labels is None else labels
    config = TrainConfig(steps, BATCH, 2e-3, steps_per_chunk=20)
    loss, report = _EmbeddingLoss(embedding, pixels, given, BATCH), inputs.training(config, "loss {:.3f}")
    trained = descend(train_key, loss, embedding.params, config, folder=inputs.folder, report=report)
    return eqx.tree_at(lambda e: e.params, embedding, trained.params)
