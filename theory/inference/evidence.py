"""Evidence of many data at their leaves: an array of log-likelihoods, or the noised strings that it is made of.

Log-likelihoods take v numbers per site, which have to be written, read, and turned so that data are innermost. Made of
noised symbols where they are read, a block of leaves and lanes at a time (`lanes_reader`), they never leave the cache.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from diffusion.noise.process import AbstractTokenProcess

from .fast.segments import Segment, in_memory, transposed_tile

LogLikelihoods = Float[Array, "batch leaves v"]
LeafEvidence = Float[Array, "leaves v"]


class NoisedStrings(eqx.Module):
    """Strings of discrete symbols, each noised by the same process at a time of its own."""

    process: AbstractTokenProcess
    x_t: Int[Array, "batch leaves"]
    t: Float[Array, " batch"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the log-likelihoods."""
        batch, leaves = self.x_t.shape
        return batch, leaves, self.process.num_symbols

    @property
    def dtype(self) -> jnp.dtype:
        return self.t.dtype

    def __len__(self) -> int:
        return len(self.x_t)


Evidence = LogLikelihoods | NoisedStrings


def noised_evidence(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch leaves *vector"], t: Float[Array, " batch"]
) -> Evidence:
    """What noised data say of their leaves: symbols are kept as they are, vectors become log-likelihoods."""
    if x_t.ndim == 2:
        return NoisedStrings(process, x_t, t)
    return jax.vmap(process.log_likelihood)(x_t, t)


def written_out(evidence: Evidence | LeafEvidence) -> LogLikelihoods | LeafEvidence:
    """ln p(y_i | x_i = x) of every datum, leaf and symbol, nats; an array is returned as it is."""
    if isinstance(evidence, NoisedStrings):
        return jax.vmap(evidence.process.log_likelihood)(evidence.x_t, evidence.t)
    return evidence


def lanes_reader(evidence: Evidence, cut: Segment, leaves: int, lanes: int) -> Callable[..., Float[Array, "..."]]:
    """A function (leaf, lane) -> log-likelihoods (leaves, v, lanes) of so many local leaves and lanes from there on."""
    if isinstance(evidence, NoisedStrings):
        strings = evidence.x_t.reshape(cut.lanes, cut.nodes[-1])
        times = jnp.repeat(evidence.t, cut.roots)
        likelihood = jax.vmap(evidence.process.log_likelihood, (1, 0), -1)

        def made(leaf, lane):
            x_t = jax.lax.dynamic_slice(strings, (lane, leaf), (lanes, leaves))
            return likelihood(in_memory(x_t.T), jax.lax.dynamic_slice_in_dim(times, lane, lanes))

        return made

    v = evidence.shape[-1]
    data = evidence.reshape(cut.lanes, cut.nodes[-1] * v)

    def turned(leaf, lane):
        block = jax.lax.dynamic_slice(data, (lane, v * leaf), (lanes, v * leaves))
        return transposed_tile(block).reshape(leaves, v, lanes)

    return turned
