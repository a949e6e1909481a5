"""Evidence of many data at their leaves: an array of log-likelihoods, or the noised strings that it is made of.

Log-likelihoods take v numbers per site, which have to be written, read, and transposed so that data are innermost. If
they are computed from noised symbols where they are read, a block of leaves and lanes at a time (`lanes_reader`), they
never leave the cache.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Shaped

from diffusion.noise.process import AbstractTokenProcess, over_batch, per_datum
from hierarchical.arguments import Given, as_numbers

from .fast.segments import Segment, in_memory, transposed_tile

NOT_ALLOWED = "the evidence holds NaN or +inf: give natural logarithms of likelihoods, -inf for impossible symbols"
LogLikelihoods = Float[Array, "batch leaves v"]


class NoisedStrings(eqx.Module):
    """Strings of discrete symbols, noised by the same process, each at its own time or all at the same time."""

    process: AbstractTokenProcess
    x_t: Int[Array, "*batch leaves"]
    t: Float[Array, "*times"]

    def __init__(self, process: AbstractTokenProcess, x_t: Given, t: Given):
        """Raises ValueError if shapes do not fit, or a known symbol or time is out of range."""
        self.process, self.x_t = process, process.noised(x_t)
        if self.x_t.ndim < 1 or process.noised_shape((1,)) != (1,):
            raise ValueError(f"x_t has shape {self.x_t.shape} and {process}: give strings (..., leaves) of symbols")
        self.t = over_batch(process.time(t, self.x_t), self.x_t.shape[:-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the log-likelihoods."""
        return *self.x_t.shape, self.process.num_symbols

    @property
    def dtype(self) -> jnp.dtype:
        return self.t.dtype

    def __len__(self) -> int:
        return len(self.x_t)


Evidence = LogLikelihoods | NoisedStrings
AnyEvidence = Float[Array, "*batch leaves v"] | NoisedStrings


def noised_evidence(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch leaves *vector"], t: Float[Array, " batch"]
) -> Evidence:
    """The evidence of noised data: symbols are kept as they are, vectors become log-likelihoods."""
    if x_t.ndim == 2:
        return NoisedStrings(process, x_t, t)
    return process.site_evidence(x_t, per_datum(t, x_t))


def checked_evidence(evidence: Given | NoisedStrings, datum: tuple[int, int]) -> AnyEvidence:
    """Evidence as floats or noised strings; log-likelihoods of whole numbers become floats.

    Raises:
      ValueError: if the evidence of a datum has another shape than `datum`, (leaves, symbols), or the batch is empty.
    """
    given = evidence if isinstance(evidence, NoisedStrings) else as_numbers(evidence)
    if given.shape[-2:] != datum or len(given.shape) < 2:
        raise ValueError(f"evidence must be (..., leaves, symbols) = (..., {datum[0]}, {datum[1]}), got {given.shape}")
    if 0 in given.shape:
        raise ValueError(f"the batch {given.shape[:-2]} is empty: give the evidence of at least one datum")
    return given


def is_allowed(log_likelihoods: Float[Array, "*batch leaves v"]) -> Bool[Array, ""]:
    """Whether they hold neither NaN nor +inf."""
    return jnp.all(log_likelihoods < jnp.inf)


def refuse_disallowed(evidence: AnyEvidence) -> None:
    """Refuse log-likelihoods that are not allowed, where they are known.

    Raises:
      ValueError: if they hold NaN or +inf.
    """
    if not isinstance(evidence, NoisedStrings | Tracer) and not is_allowed(evidence):
        raise ValueError(NOT_ALLOWED)


def rows_of(evidence: AnyEvidence) -> Evidence:
    """The evidence with one batch axis."""
    if isinstance(evidence, NoisedStrings):
        strings = evidence.x_t.reshape(-1, evidence.x_t.shape[-1]), evidence.t.reshape(-1)
        return eqx.tree_at(lambda rows: (rows.x_t, rows.t), evidence, strings)
    return evidence.reshape(-1, *evidence.shape[-2:])


def written_out(evidence: AnyEvidence) -> Float[Array, "*batch leaves v"]:
    """ln p(y_i | x_i = x) of every datum, leaf and symbol, nats; an array is returned as it is."""
    if isinstance(evidence, NoisedStrings):
        return evidence.process.site_evidence(evidence.x_t, per_datum(evidence.t, evidence.x_t))
    return evidence


def lanes_reader(evidence: Evidence, cut: Segment, leaves: int, lanes: int) -> Callable[..., Float[Array, "..."]]:
    """A function (leaf, lane) -> log-likelihoods (leaves, v, lanes) of the next `leaves` and `lanes`."""
    if isinstance(evidence, NoisedStrings):
        strings = evidence.x_t.reshape(cut.lanes, cut.nodes[-1])
        times = jnp.repeat(evidence.t, cut.roots)
        likelihood = jax.vmap(evidence.process.site_evidence, (1, 0), -1)

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
