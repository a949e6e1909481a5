r"""A convolutional U-Net for small images, which reads the noise level from features of its time.

    first   squares of patch x patch pixels become the places of full resolution
    down    blocks at full, half, quarter ... resolution, twice as many channels at each
    across  attention between all places of the lowest resolution, where the whole image is in reach
    up      the same blocks back, each with the output of the block of the way down at its resolution

A block is two 3 x 3 convolutions, each after a norm over the channels of a place, with a residual connection; between
them each channel is scaled and shifted by a linear map of the time features. Layouts are (batch, height, width,
channels). The last layer starts at 0: an untrained network gives f = 0.

A convolution is written as nine shifted copies and one matrix product: inside a loop, where training steps and samplers
are, XLA's own convolution runs at 2 to 4 GFLOP/s on a CPU, forward and back, and this form at 57 to 101 (two cores, jax
0.10.2).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .time_features import TimeFeatures

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch _rows _columns _features"]
Features = Float[Array, "batch features"]


class ConvUNet(nnx.Module):
    """f(x_t, t) for images; height and width must be multiples of patch * 2^(levels - 1)."""

    def __init__(self, channels: int, width: int = 32, levels: int = 2, patch: int = 1, *, rngs: nnx.Rngs):
        """`width` is the number of channels at full resolution, whose places are `patch` x `patch` pixels."""
        for name, value in {"width": width, "levels": levels, "patch": patch}.items():
            if value < 1:
                raise ValueError(f"{name} = {value}: at least 1 needed")
        widths = [width * 2**level for level in range(levels)]
        features = 4 * width
        self.channels, self.width, self.levels, self.patch = channels, width, levels, patch
        self.time = TimeFeatures(features, rngs=rngs)
        self.first = Convolution(patch**2 * channels, width, rngs=rngs)
        self.down = nnx.List([Residual(max(w // 2, width), w, features, rngs=rngs) for w in widths])
        self.across = Attention(widths[-1], rngs=rngs)
        self.middle = Residual(widths[-1], widths[-1], features, rngs=rngs)
        above = [*widths[1:], widths[-1]]  # channels that come from the level below
        self.up = nnx.List([Residual(a + w, w, features, rngs=rngs) for a, w in zip(above, widths, strict=True)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.last = Convolution(width, patch**2 * channels, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x_t: Images, t: Float[Array, " batch"]) -> Images:
        step = self.patch * 2 ** (self.levels - 1)
        if x_t.shape[1] % step or x_t.shape[2] % step:
            raise ValueError(
                f"images of {x_t.shape[1]} x {x_t.shape[2]} pixels: give multiples of {step}, or fewer levels"
            )
        features = self.time(t).astype(self.last.product.kernel.dtype)
        h = self.first(gathered(x_t.astype(self.last.product.kernel.dtype), self.patch))
        kept = []
        for level, block in enumerate(self.down):
            h = block(_halved(h) if level else h, features)
            kept.append(h)
        h = self.middle(self.across(h), features)
        for level, block in reversed(list(enumerate(self.up))):
            h = block(jnp.concatenate([h, kept[level]], -1), features)
            h = _doubled(h) if level else h
        return spread(self.last(jax.nn.silu(self.norm(h))), self.patch)


class Convolution(nnx.Module):
    """3 x 3, zeros beyond the border."""

    def __init__(self, width_in: int, width_out: int, *, kernel_init=None, rngs: nnx.Rngs):
        init = kernel_init or nnx.initializers.lecun_normal()
        self.product = nnx.Linear(9 * width_in, width_out, kernel_init=init, rngs=rngs)

    def __call__(self, h: Maps) -> Maps:
        height, width = h.shape[1:3]
        padded = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return self.product(jnp.concatenate(shifted, -1))


class Residual(nnx.Module):
    """Two convolutions, the second after the time has scaled and shifted each channel; added to the input.

    Source: Dhariwal & Nichol, arXiv:2105.05233 (adaptive group normalisation, here with a norm over channels).
    """

    def __init__(self, width_in: int, width_out: int, features: int, *, rngs: nnx.Rngs):
        self.norm_in = nnx.RMSNorm(width_in, rngs=rngs)
        self.conv_in = Convolution(width_in, width_out, rngs=rngs)
        self.modulate = nnx.Linear(features, 2 * width_out, rngs=rngs)
        self.norm_out = nnx.RMSNorm(width_out, rngs=rngs)
        self.conv_out = Convolution(width_out, width_out, rngs=rngs)
        self.skip = nnx.Linear(width_in, width_out, use_bias=False, rngs=rngs) if width_in != width_out else None

    def __call__(self, h: Maps, features: Features) -> Maps:
        scale, shift = jnp.split(self.modulate(jax.nn.silu(features))[:, None, None], 2, -1)
        inner = self.conv_in(jax.nn.silu(self.norm_in(h)))
        inner = self.conv_out(jax.nn.silu(self.norm_out(inner) * (1 + scale) + shift))
        return inner + (h if self.skip is None else self.skip(h))


class Attention(nnx.Module):
    """Attention of every place to every other place, with a single head; added to the input."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, h: Maps) -> Maps:
        batch, height, width, channels = h.shape
        query, key, value = jnp.split(self.qkv(self.norm(h)).reshape(batch, height * width, -1), 3, -1)
        scores = jnp.einsum("bpc,bqc->bpq", query, key) * channels**-0.5
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(value.dtype)
        return h + self.out(jnp.einsum("bpq,bqc->bpc", weights, value)).reshape(h.shape)


def _halved(h: Maps) -> Maps:
    """Means of 2 x 2 places."""
    batch, height, width, channels = h.shape
    return h.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _doubled(h: Maps) -> Maps:
    """Every place four times."""
    return jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)


def gathered(x: Maps, patch: int) -> Maps:
    """Squares of patch x patch pixels as one place with more channels."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // patch, width // patch, -1)


def spread(x: Maps, patch: int) -> Maps:
    """The inverse of `gathered`."""
    batch, height, width, _ = x.shape
    squares = x.reshape(batch, height, width, patch, patch, -1)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * patch, width * patch, -1)
