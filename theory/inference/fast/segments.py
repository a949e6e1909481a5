"""Cutting the batch into pieces, the tree into segments whose subtrees are lanes, and moving numbers between layouts.

The words are drawn in `README.md`. A *piece* is a number of data whose messages take some MiB: a cache holds them, and
the next piece reuses their memory.

The subtrees below the nodes of one level are trees like the data of a batch are. A `Segment` is a stretch of levels
read in this way: one small tree, each of whose messages is a row over n * batch *lanes*, n nodes at its top. A buffer
(local nodes, symbols, lanes) holds them. At the cut between two segments the roots of the lower one, which are lanes,
become the leaves of the upper one, which are nodes; `enter` and `leave` move them.

How the tree is cut decides the speed, not the result: a `Cutting` for each kind of device.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree

from hierarchical import RandomHierarchyModel

from .compiler import after, in_memory
from .contraction import Messages, most_rules


class Cutting(eqx.Module):
    """How much a device works on at a time."""

    enough_lanes: int = eqx.field(static=True)
    """A segment that has so many is not cut for more."""
    growth: int = eqx.field(static=True)
    """A cut that does not give enough lanes multiplies them by this at least."""
    floats_of_a_piece: int = eqx.field(static=True)
    """Of all messages."""
    floats_of_a_block: int = eqx.field(static=True)
    """Of evidence that is transposed at a time."""
    tile: int = eqx.field(static=True)
    """Rows and columns of a result that are transposed at a time."""


WHOLE = 2**62
SEGMENTS = Cutting(enough_lanes=256, growth=8, floats_of_a_piece=2**22, floats_of_a_block=2**16, tile=128)
"""For a core with caches: rows that keep the overhead of a loop small, pieces that reuse memory. Timed on CPUs."""
LEVELS = Cutting(enough_lanes=WHOLE, growth=1, floats_of_a_piece=2**28, floats_of_a_block=WHOLE, tile=WHOLE)
"""For thousands of cores: all nodes of a level in one step. Tested on CPUs, not timed on any other device."""

LEAST_WORK = 2_000_000  # rules times inner nodes of all data: below this compiling and overhead decide
MOST_ENTRIES = 2**24  # of all downward lists, each of the greatest possible length

_DTYPES = (jnp.float32, jnp.float64)


class Segment(eqx.Module):
    """Levels `top` .. `bottom`, as trees of `nodes` local nodes per level whose lanes are (datum, root)."""

    top: int = eqx.field(static=True)
    bottom: int = eqx.field(static=True)
    branching: int = eqx.field(static=True)
    roots: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    cutting: Cutting

    @property
    def lanes(self) -> int:
        return self.roots * self.batch

    @property
    def nodes(self) -> list[int]:
        """Local nodes of each level."""
        return [self.branching**depth for depth in range(self.bottom - self.top + 1)]

    def place(self, level: int) -> slice:
        """The local nodes of a level, in the order of the tree; root first."""
        depth = level - self.top
        return slice(sum(self.nodes[:depth]), sum(self.nodes[: depth + 1]))

    def block(self, symbols: int) -> tuple[int, int]:
        """Leaves and lanes of a block of evidence: it fits in a cache, and its rows are long also when transposed."""
        leaves, floats = self.nodes[-1], self.cutting.floats_of_a_block
        while leaves * symbols > floats // 128 and leaves % self.branching == 0:
            leaves //= self.branching
        return leaves, min(self.lanes, max(1, floats // (leaves * symbols)))

    @property
    def level_of_inner_nodes(self) -> Int[Array, " inner"]:
        """For each local node that has children, its level."""
        return jnp.asarray([self.top + depth for depth, nodes in enumerate(self.nodes[:-1]) for _ in range(nodes)])

    @property
    def breadth_first(self) -> "Walk":
        """The nodes that have children in their order; every node has a place of its own."""
        inner = jnp.arange(sum(self.nodes[:-1]), dtype=jnp.int32)
        return Walk(inner, self.level_of_inner_nodes, inner, self.branching * inner + 1, sum(self.nodes))

    @property
    def depth_first(self) -> "Walk":
        """A node, then all below its first child, then all below the next.

        Places are reused: at any step only the children of the nodes on the way to the root have one.
        """
        s, steps = self.branching, []
        waiting = [(0, 0, 1)]  # node, its place, the place of its first child
        while waiting:
            node, place, below = waiting.pop()
            if node < sum(self.nodes[:-1]):
                steps.append((node, place, below))
                waiting += [(s * node + 1 + j, below + j, below + s) for j in reversed(range(s))]
        node, place, below = jnp.asarray(steps, jnp.int32).T
        return Walk(node, self.level_of_inner_nodes[node], place, below, 1 + s * (len(self.nodes) - 1))


class Walk(NamedTuple):
    """An order of the nodes that have children, each after its parent; and where messages to nodes are kept."""

    node: Int[Array, " inner"]
    level: Int[Array, " inner"]
    place: Int[Array, " inner"]
    place_of_children: Int[Array, " inner"]
    places: int


def cutting_here() -> Cutting:
    """The cutting for the device on which JAX computes by default."""
    device = getattr(jax.config, "jax_default_device", None)  # a device, or its platform's name
    platform = jax.default_backend() if device is None else getattr(device, "platform", device)
    return SEGMENTS if platform == "cpu" else LEVELS


def serves(rhm: RandomHierarchyModel, dtype: DTypeLike) -> bool:
    """Whether the sweep serves: for a full grammar, one branching number, levels of similar sizes, floats."""
    v, m, s = max(rhm.vocabulary), max(rhm.num_synonyms), rhm.branching[0]
    if rhm.filter_level or len(set(rhm.branching)) > 1 or (v + 1) * v * m >= 2**31 or dtype not in _DTYPES:
        return False
    if rhm.depth * s * v * most_rules(v, m, s) > MOST_ENTRIES:
        return False
    return v * m * sum(rhm.num_nodes[:-1]) <= 4 * _work(rhm)


def pays(rhm: RandomHierarchyModel, batch: int) -> bool:
    """Whether there is enough to do for the fast formulation to be faster."""
    return _work(rhm) * batch >= LEAST_WORK


def _work(rhm: RandomHierarchyModel) -> int:
    """Rules times inner nodes."""
    return sum(n * v * m for n, v, m in zip(rhm.num_nodes, rhm.vocabulary, rhm.num_synonyms, strict=False))


def data_at_once(rhm: RandomHierarchyModel, cutting: Cutting | None = None) -> int:
    """Number of data in a piece; by default that of this device."""
    floats = (cutting or cutting_here()).floats_of_a_piece
    return max(1, floats // (max(rhm.vocabulary) * sum(rhm.num_nodes)))


def in_pieces(function: Callable, size: int, rows: PyTree[Array], key: Key[Array, ""] | None = None) -> Any:
    """`function(key, rows)` of at most `size` rows at a time, each time with a key of its own: an entry per row.

    All pieces have the same length. Where it does not divide the rows, the last piece overlaps the piece before it and
    overwrites its results.
    """
    batch = len(jax.tree.leaves(rows)[0])
    count = -(-batch // size)
    if count <= 1:
        return function(key, rows)
    size = -(-batch // count)

    @jax.jit  # traced once, for both the shapes and the loop
    def piece(i):
        first = jnp.minimum(i * size, batch - size)
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), rows)
        return first, function(None if key is None else jax.random.fold_in(key, i), part)

    def step(i, results):
        first, new = piece(i)
        return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, first, 0), results, new)

    results = jax.tree.map(lambda x: jnp.zeros((batch, *x.shape[1:]), x.dtype), jax.eval_shape(piece, jnp.int32(0))[1])
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(count), step, results)


def segments(rhm: RandomHierarchyModel, batch: int, cutting: Cutting) -> list[Segment]:
    """Cuts of the tree, top first; each multiplies the lanes of the one above enough, or gives enough of them."""
    cuts, enough = [0], cutting.enough_lanes
    for level in range(1, rhm.depth):
        above, lanes = rhm.num_nodes[cuts[-1]] * batch, rhm.num_nodes[level] * batch
        if above < enough and lanes >= min(cutting.growth * above, enough):
            cuts.append(level)
    ends = [*cuts[1:], rhm.depth]
    return [Segment(a, b, rhm.branching[0], rhm.num_nodes[a], batch, cutting) for a, b in zip(cuts, ends, strict=True)]


@jax.named_scope("lanes to data")
def transposed(table: Float[Array, "_nodes symbols lanes"], place: slice, size: int) -> Float[Array, "lanes _rows"]:
    """The rows of some nodes of a table as columns: a tile of this size at a time, which a cache holds."""
    symbols, columns = table.shape[1:]
    first, count = symbols * place.start, symbols * (place.stop - place.start)
    high, wide = min(size, count), min(size, columns)
    along, across = -(-count // high), -(-columns // wide)
    matrix = table.reshape(-1, columns)

    def step(i, turned):
        row = jnp.minimum(high * (i // across), count - high)
        column = jnp.minimum(wide * (i % across), columns - wide)
        tile = jax.lax.dynamic_slice(matrix, (first + row, column), (high, wide))
        return jax.lax.dynamic_update_slice(turned, transposed_tile(tile), (column, row))

    return jax.lax.fori_loop(0, along * across, step, jnp.zeros((columns, count), matrix.dtype))


def transposed_tile(tile: Float[Array, "rows columns"]) -> Float[Array, "columns rows"]:
    """The transposed tile in memory, by way of groups of eight rows: twice as fast as at once."""
    rows, columns = tile.shape
    width = math.gcd(rows, 8)
    groups = in_memory(in_memory(tile).reshape(-1, width, columns).transpose(0, 2, 1))  # (groups, columns, width)
    return in_memory(groups.transpose(1, 0, 2)).reshape(columns, rows)


def enter(roots: Messages, cut: Segment) -> Messages:
    """The roots of the segment below, (..., lanes), as local leaves of this one, (leaves, ..., lanes)."""

    def regroup(x):
        return jnp.moveaxis(x.reshape(*x.shape[:-1], cut.lanes, cut.nodes[-1]), -1, 0)

    return jax.tree.map(regroup, roots)


def leave(leaves: Messages) -> Messages:
    """The inverse of `enter`: (leaves, ..., lanes) of this segment -> (1, ..., lanes) of the one below."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1).reshape(1, *x.shape[1:-1], -1), leaves)


def with_room(x: Float[Array, "nodes *rest"], before: int, after: int) -> Float[Array, "more_nodes *rest"]:
    room = jnp.zeros((before + len(x) + after, *x.shape[1:]), x.dtype)
    return jax.lax.dynamic_update_slice_in_dim(room, x, before, 0)


def at(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def part(tree, node, count: int):
    """`count` nodes from `node` on."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, node, count, 0), tree)


def put(tree, new, node, lane: Int[Array, ""] | int = 0):
    """`new` in the place of the nodes from `node` on, and the lanes from `lane` on."""

    def replaced(x, y):
        start = (node, *(0,) * (x.ndim - 2), lane)
        return jax.lax.dynamic_update_slice(x, y, [jnp.asarray(i, jnp.int32) for i in start])

    return jax.tree.map(replaced, tree, new)


def keep(messages: Messages, new: Messages, node) -> Messages:
    """`put`, for new messages that are made of the old: the new error of the old `least`, which it then overwrites."""
    error = put(messages.error, new.error, node)
    least = after(new.least, error[:1])
    return Messages(put(messages.table, new.table, node), error, put(messages.least, least, node))
