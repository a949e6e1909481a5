"""Evidence of many data: an array of log-likelihoods of their leaves, noised strings, or arrays for several levels.

Log-likelihoods take v numbers per site, which have to be written, read, and transposed so that data are innermost. If
they are computed from noised symbols where they are read, a block of leaves and lanes at a time (`lanes_reader`), they
never leave the cache.
"""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from diffusion.noise.process import AbstractTokenProcess, over_batch, per_datum
from hierarchical import RandomHierarchyModel
from hierarchical.arguments import NO_SYMBOL, Given, Whole, as_numbers, as_whole, as_widest, mark_symbols

from .fast.compiler import in_memory
from .fast.segments import Segment, transposed_tile

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


class TreeEvidence(eqx.Module):
    """Log-likelihoods ln p(y_i | x_i = x) of the nodes i of several levels, nats."""

    inner: tuple[Float[Array, "*batch _nodes _symbols"] | None, ...]
    """Of each level above the leaves, root first; None for a level without evidence."""
    leaves: Float[Array, "*batch leaves v"]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.leaves.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.leaves.dtype

    def __len__(self) -> int:
        return len(self.leaves)


Evidence = LogLikelihoods | NoisedStrings
"""What the fast formulation takes."""
AnyEvidence = Float[Array, "*batch leaves v"] | NoisedStrings | TreeEvidence
GivenEvidence = Given | NoisedStrings | TreeEvidence | Mapping[int, Given]
"""What a user gives: log-likelihoods (..., leaves, v), `NoisedStrings`, or log-likelihoods by level, 0 the root's."""


def hard_evidence(x: Given, num_symbols: int) -> Float[Array, "*batch leaves v"]:
    """The evidence of strings some of whose sites are missing: 0 for the symbol that is there, `-inf` for all others.

    Args:
      x: symbols (..., leaves) of any integer dtype; -1, or the mask `num_symbols`, at missing sites, which have no
        evidence: zeros.

    Raises:
      ValueError: if a symbol is another; inside `jax.jit` its site gets NaN, which every operation refuses.
    """
    v = as_whole("num_symbols", num_symbols, 1)
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    symbols = mark_symbols(x, v)
    unknown = x == NO_SYMBOL if jnp.issubdtype(x.dtype, jnp.signedinteger) else np.zeros(x.shape, bool)
    wrong = (symbols == NO_SYMBOL) & ~unknown
    if not isinstance(wrong, Tracer) and wrong.any():
        raise ValueError(
            f"x holds the symbol {x[np.asarray(wrong)][0]}: give symbols 0 .. {v - 1}, -1 or {v} where one is missing"
        )
    shown = jax.nn.one_hot(symbols, v, dtype=bool)
    evidence = jnp.where(shown, 0.0, -jnp.inf)
    evidence = jnp.where((unknown | (symbols == v))[..., None], 0.0, evidence)
    return jnp.where(wrong[..., None], jnp.nan, evidence)


def noised_evidence(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch leaves *vector"], t: Float[Array, " batch"]
) -> Evidence:
    """The evidence of noised data: symbols are kept as they are, vectors become log-likelihoods."""
    if x_t.ndim == 2:
        return NoisedStrings(process, x_t, t)
    return process.site_evidence(x_t, per_datum(t, x_t))


def checked_evidence(
    evidence: Given | NoisedStrings, rhm: RandomHierarchyModel
) -> Float[Array, "*batch leaves v"] | NoisedStrings:
    """Evidence of the leaves as floats or noised strings; log-likelihoods of whole numbers become floats.

    Raises:
      ValueError: if a datum's shape is not (num_leaves, num_symbols), or the batch is empty.
    """
    given = evidence if isinstance(evidence, NoisedStrings) else as_numbers(evidence)
    leaves, v = rhm.num_leaves, rhm.num_symbols
    if given.shape[-2:] != (leaves, v) or len(given.shape) < 2:
        raise ValueError(f"evidence must be (..., leaves, symbols) = (..., {leaves}, {v}), got {given.shape}")
    if 0 in given.shape:
        raise ValueError(f"the batch {given.shape[:-2]} is empty: give the evidence of at least one datum")
    return given


def as_evidence(evidence: GivenEvidence, rhm: RandomHierarchyModel) -> AnyEvidence:
    """`checked_evidence`, or that of several levels: of one dtype, the widest, and with the same batch axes.

    Raises:
      ValueError: as in `checked_evidence`; or if a level has no nodes, the array of a level does not have its nodes and
        symbols, or batch axes do not fit.
    """
    if isinstance(evidence, TreeEvidence):
        return evidence
    if not isinstance(evidence, Mapping):
        return checked_evidence(evidence, rhm)
    given = _by_level(evidence, rhm)
    dtype = next(iter(given.values())).dtype if given else jnp.result_type(float)
    given.setdefault(rhm.depth, jnp.zeros((rhm.num_leaves, rhm.num_symbols), dtype))
    batch = _common_axes(given, rhm)
    full = {level: jnp.broadcast_to(array, (*batch, *array.shape[-2:])) for level, array in given.items()}
    if len(full) == 1:
        return full[rhm.depth]
    return TreeEvidence(tuple(full.get(level) for level in range(rhm.depth)), full[rhm.depth])


def _by_level(evidence: Mapping[int, Given], rhm: RandomHierarchyModel) -> dict[int, Float[Array, "..."]]:
    """The arrays as floats of one dtype; levels that the grammar does not have are refused."""
    present, floats = [level for level, nodes in enumerate(rhm.num_nodes) if nodes], []
    for level, array in evidence.items():
        if isinstance(level, bool | np.bool_) or not isinstance(level, Whole) or level not in present:
            raise ValueError(f"evidence of level {level!r}: this grammar has nodes at the levels {present}")
        if isinstance(array, NoisedStrings):
            raise ValueError(f"evidence of level {level}: give log-likelihoods, process.log_likelihood(x_t, t)")
        try:
            floats.append(as_numbers(array))
        except (TypeError, ValueError) as error:
            raise ValueError(f"evidence of level {level}: {error}") from error
    return dict(zip(map(int, evidence), as_widest(*floats), strict=True)) if floats else {}


def _common_axes(given: Mapping[int, Float[Array, "..."]], rhm: RandomHierarchyModel) -> tuple[int, ...]:
    """The batch axes to which those of all levels are broadcast."""
    for level, array in given.items():
        nodes, symbols = rhm.num_nodes[level], rhm.vocabulary[level]
        if array.shape[-2:] != (nodes, symbols) or array.ndim < 2:
            wanted = f"(..., nodes, symbols) = (..., {nodes}, {symbols})"
            raise ValueError(f"evidence of level {level} must be {wanted}, got {array.shape}")
    axes = {level: array.shape[:-2] for level, array in given.items()}
    try:
        batch = jnp.broadcast_shapes(*axes.values())
    except ValueError:
        raise ValueError(f"batch axes of the evidence of levels differ: {axes}") from None
    if 0 in batch:
        raise ValueError(f"the batch {batch} is empty: give the evidence of at least one datum")
    return batch


def is_allowed(log_likelihoods: PyTree[Float[Array, "..."]]) -> Bool[Array, ""]:
    """Whether they hold neither NaN nor +inf."""
    return jnp.all(jnp.stack([jnp.all(array < jnp.inf) for array in jax.tree.leaves(log_likelihoods)]))


def refuse_disallowed(evidence: AnyEvidence) -> None:
    """Refuse log-likelihoods that are not allowed, where they are known.

    Raises:
      ValueError: if they hold NaN or +inf.
    """
    if not isinstance(evidence, NoisedStrings | Tracer) and not is_allowed(evidence):
        raise ValueError(NOT_ALLOWED)


def rows_of(evidence: AnyEvidence) -> Evidence | TreeEvidence:
    """The evidence with one batch axis."""
    if isinstance(evidence, NoisedStrings):
        strings = evidence.x_t.reshape(-1, evidence.x_t.shape[-1]), evidence.t.reshape(-1)
        return eqx.tree_at(lambda rows: (rows.x_t, rows.t), evidence, strings)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[-2:]), evidence)


def written_out(evidence: Float[Array, "*batch leaves v"] | NoisedStrings) -> Float[Array, "*batch leaves v"]:
    """ln p(y_i | x_i = x) of every datum, leaf and symbol, nats; an array is returned as it is."""
    if isinstance(evidence, NoisedStrings):
        return evidence.process.site_evidence(evidence.x_t, per_datum(evidence.t, evidence.x_t))
    return evidence


def in_full(evidence: AnyEvidence) -> Float[Array, "*batch leaves v"] | TreeEvidence:
    """`written_out`, for the formulation that takes evidence of all levels too."""
    return evidence if isinstance(evidence, TreeEvidence) else written_out(evidence)


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
