r"""The fast formulation of inference: linear in the messages, a node at a time for many lanes, and guarded.

Messages are sums over rules of products of rows, `contraction` (1) and (2). `upward` and `downward` set their order;
here stands what they answer.

**Layout.** The tree is cut into `segments`: small trees, the lanes of whose messages are many subtrees at once. Lanes
are innermost, and a rule is one multiply-add of long contiguous rows. The loop over local nodes has one body, so
compile time grows with the number of segments (one to four), not with depth; rules are traced, so a new grammar of the
same sizes compiles nothing. With the cutting `LEVELS` a segment is a level, and its loop one step.

**Memory traffic.** A node reads s v C floats and writes v C, C being the lanes: some 32 KiB each, which stay in a
core's second-level cache while the rules pass over them, four of each output row at a time. A rule reads s rows; the
sums go to that cache and back once for four rules. Downward, the cavities on the way to the root stay there too
(`Segment.depth_first`). Leaves are turned into lanes, and posteriors back into data, a tile at a time for the same
reason. Every message goes to memory and back about twice.

Large batches are computed a piece at a time (`in_pieces`). Every function returns its result and, for each datum,
whether all of its piece is precise (the guard of `contraction`); where it is not, the caller takes `logarithmic`.
"""

from itertools import chain

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from hierarchical import Derivation, RandomHierarchyModel

from ...logspace import entr
from ..evidence import Evidence
from .counts import segment_counts, segment_entropy
from .downward import BatchLevelTables, downward, level_table, level_tables
from .draws import drawn_levels
from .segments import SEGMENTS, Cutting, data_at_once, in_pieces, segments
from .upward import upward

Reliable = Bool[Array, " batch"]
RuleCounts = tuple[Float[Array, "batch _parents _synonyms"], ...]


def log_evidence(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[Float[Array, " batch"], Reliable]:
    """ln p(y) of each datum, nats."""

    def piece(_, rows):
        up = upward(rhm, rows, segments(rhm, len(rows), cutting))
        return up.log_evidence, _of_all(up.reliable, rows)

    return in_pieces(piece, data_at_once(rhm, cutting), evidence)


def marginals(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS, *, cavity: bool = False
) -> tuple[BatchLevelTables, Reliable]:
    """Posterior of every node, root first; with `cavity` its cavity."""

    def piece(_, rows):
        cuts = segments(rhm, len(rows), cutting)
        tables, reliable = downward(rhm, upward(rhm, rows, cuts), cuts, cavity=cavity)
        return level_tables(rhm, cuts, tables), _of_all(reliable, rows)

    return in_pieces(piece, data_at_once(rhm, cutting), evidence)


def cavity_marginals(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[BatchLevelTables, Reliable]:
    """Cavity of every node, root first."""
    return marginals(rhm, evidence, cutting, cavity=True)


def posterior_sample(
    key: Key[Array, ""], rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[Derivation, Reliable]:
    """One exact draw of the tree for each datum."""

    def piece(key, rows):
        cuts = segments(rhm, len(rows), cutting)
        up = upward(rhm, rows, cuts)
        levels = drawn_levels(key, rhm, up, cuts)
        valid = tuple(jnp.ones(level.shape, bool) for level in levels)
        return Derivation(levels, valid), _of_all(up.reliable, rows)

    # a clone, because the safe formulation may need the key too
    return in_pieces(piece, data_at_once(rhm, cutting), evidence, jax.random.clone(key))


def leaves_and_counts(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[tuple[Float[Array, "batch leaves v"], RuleCounts], Reliable]:
    """Posterior of the leaves, and how often each rule is used: the slope of `log_evidence`."""

    def piece(_, rows):
        answer, reliable = _leaves_and_counts(rhm, rows, cutting)
        return answer, _of_all(reliable, rows)

    return in_pieces(piece, data_at_once(rhm, cutting), evidence)


def rule_counts(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[RuleCounts, Reliable]:
    """How often each rule is used."""

    def piece(_, rows):
        (_, counts), reliable = _leaves_and_counts(rhm, rows, cutting)
        return counts, _of_all(reliable, rows)

    return in_pieces(piece, data_at_once(rhm, cutting), evidence)


def posterior_entropy(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting = SEGMENTS
) -> tuple[Float[Array, " batch"], Reliable]:
    """Entropy of the root and of every choice of a rule below it, nats."""

    def piece(_, rows):
        cuts = segments(rhm, len(rows), cutting)
        up = upward(rhm, rows, cuts)
        tables, reliable = downward(rhm, up, cuts, cavity=False)
        of_segments = zip(cuts, up.messages, tables, strict=True)
        choices = [segment_entropy(rhm, cut, messages.table, table) for cut, messages, table in of_segments]
        root = jnp.sum(entr(tables[0][0]), 0)  # of (symbols, lanes), the lanes of the top being the data
        return root + sum(choices), _of_all(reliable, rows)

    return in_pieces(piece, data_at_once(rhm, cutting), evidence)


def _leaves_and_counts(
    rhm: RandomHierarchyModel, evidence: Evidence, cutting: Cutting
) -> tuple[tuple[Float[Array, "batch leaves v"], RuleCounts], Bool[Array, ""]]:
    cuts = segments(rhm, len(evidence), cutting)
    up = upward(rhm, evidence, cuts)
    tables, reliable = downward(rhm, up, cuts, cavity=False)
    of_segments = zip(cuts, up.messages, tables, strict=True)
    counts = [segment_counts(rhm, cut, messages.table, table) for cut, messages, table in of_segments]
    return (level_table(rhm, cuts[-1], tables[-1], rhm.depth), tuple(chain.from_iterable(counts))), reliable


def _of_all(reliable: Bool[Array, ""], data: Evidence) -> Reliable:
    return jnp.broadcast_to(reliable, len(data))
