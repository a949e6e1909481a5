"""What a decoder makes of two latents: decoded features on a grid, all other latents at their mean over data."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from hierarchical.arguments import Given, Whole, as_whole, at_least_float32

from ...latent.autoencoder import Autoencoder


class LatentMap(eqx.Module):
    """Decoded features on a grid of two latents."""

    first: Float[Array, " rows"]
    """Values of the first latent, from its least mean in the data to its largest."""
    second: Float[Array, " columns"]
    decoded: Float[Array, "rows columns d"]


def latent_map(
    autoencoder: Autoencoder, x: Given, first: Whole, second: Whole, sizes: Whole | Sequence[Whole] = 16
) -> LatentMap:
    """Decoded features on a grid that spans the means mu of data (..., d) along two latents.

    Args:
      first, second: different latents, 0 .. k - 1.
      sizes: numbers of values of the two, or one for both.

    Raises:
      ValueError: if the last axis of x is not d, there is no datum, a latent is out of range, both are the same, or a
        size is below 1.
    """
    i, j = as_whole("first", first, 0), as_whole("second", second, 0)
    if max(i, j) >= autoencoder.num_latents or i == j:
        raise ValueError(
            f"first = {first}, second = {second}: give two different latents, 0 .. {autoencoder.num_latents - 1}"
        )
    lengths = [*sizes] if isinstance(sizes, Sequence) else [sizes, sizes]
    if len(lengths) != 2:
        raise ValueError(f"sizes = {sizes}: give one number, or two")
    rows, columns = (as_whole("sizes", length, 1) for length in lengths)
    return _latent_map(autoencoder, at_least_float32(x), i, j, rows, columns)


@eqx.filter_jit
def _latent_map(
    autoencoder: Autoencoder, x: Float[Array, "..."], first: int, second: int, rows: int, columns: int
) -> LatentMap:
    mean = autoencoder.encode(x).mean.reshape(-1, autoencoder.num_latents)
    down, across = (
        jnp.linspace(jnp.min(mean[:, j]), jnp.max(mean[:, j]), size) for j, size in ((first, rows), (second, columns))
    )
    z = jnp.broadcast_to(jnp.mean(mean, 0)[None, None], (rows, columns, mean.shape[1]))
    z = z.at[..., first].set(down[:, None]).at[..., second].set(across[None])
    return LatentMap(down, across, autoencoder.decode(z))
