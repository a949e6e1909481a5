r"""A grammar of which only the tree is known: every symbol may expand into every tuple, with probabilities to learn.

    p(x_1 .. x_s | a)    for every symbol a of a level and every tuple of the level below, rows that sum to 1        (1)

Tuples may have several parents, so a string has many trees, and its probability is the sum over them: the upward sweep
of belief propagation computes it, as for any grammar. A grammar whose tuples have one parent each is a special case.

Strings alone do not tell which tuples of the root's children belong to the same class: a soft grammar of one class
describes them as well as any. With labels, the classes are the root's symbols.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from diffusion.measure.recovery import Recovered
from hierarchical import RandomHierarchyModel
from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_numbers, as_symbols, as_whole
from hierarchical.grammar.sizes import whole_per_level

from ..belief_propagation import RuleCounts, log_evidence, rule_counts
from ..evidence import hard_evidence

LARGEST_TABLE = 2**16  # tuples of a level
Tuples = Int32[np.ndarray, "_tuples _branching"]


class SoftGrammar(eqx.Module):
    """Probabilities (1) of each level of rules, root first."""

    tuples: tuple[Int[Array, "_tuples _branching"], ...]
    """The tuples that symbols of each level may expand into, each once."""
    log_probs: tuple[Float[Array, "_parents _tuples"], ...]
    """ln of (1), nats."""
    num_symbols: int = eqx.field(static=True)
    """v: symbols of the leaves."""

    @classmethod
    def random(
        cls,
        key: AnyKey,
        num_symbols: Whole | Sequence[Whole],
        branching: Sequence[Whole],
        num_classes: Whole = 1,
        *,
        concentration: float = 1.0,
    ) -> "SoftGrammar":
        """Rows drawn from a symmetric Dirichlet law: where learning may start.

        Args:
          num_symbols: v; a sequence gives levels 1 .. depth their own.
          branching: children of a node of each level, root first.
          num_classes: symbols of the root: 1 for strings without labels.
          concentration: of the Dirichlet law: large values start near the uniform grammar, which is a saddle.

        Raises:
          ValueError: if a level has more than 2^16 tuples, or a size is no positive whole number.
        """
        below = whole_per_level("num_symbols", num_symbols, len(branching), 1)
        parents = (as_whole("num_classes", num_classes, 1), *below[:-1])
        tuples = [_all_tuples(v, as_whole("branching", s, 2)) for v, s in zip(below, branching, strict=True)]
        if not concentration > 0:
            raise ValueError(f"concentration = {concentration}: must be positive")
        keys = jax.random.split(as_key(key), len(tuples))
        rows = [
            jax.nn.log_softmax(jax.random.loggamma(k, concentration, (n, len(table))))
            for k, n, table in zip(keys, parents, tuples, strict=True)
        ]
        return cls(tuple(map(jnp.asarray, tuples)), tuple(rows), below[-1])

    @classmethod
    def from_model(cls, rhm: RandomHierarchyModel, *, smoothing: float = 0.0) -> "SoftGrammar":
        """A grammar's own probabilities over all tuples, a share `smoothing` of every row spread evenly over them.

        Raises:
          ValueError: if the grammar is filtered, a level has more than 2^16 tuples, or the share is outside [0, 1].
        """
        if rhm.filter_level or not 0 <= smoothing <= 1:
            raise ValueError(
                f"filter_level = {rhm.filter_level}, smoothing = {smoothing}: give a full grammar and a share"
            )
        tables, rows = [], []
        for level, rules in enumerate(rhm.rules):
            v, s = rhm.vocabulary[level + 1], rules.shape[2]
            table = _all_tuples(v, s)
            probs = jnp.exp(rhm.log_prob_of_rules(level))
            codes = rules @ jnp.asarray(_places(v, s))
            dense = jnp.zeros((len(rules), len(table)), probs.dtype)
            dense = dense.at[jnp.arange(len(rules))[:, None], codes].add(probs)
            tables.append(jnp.asarray(table))
            rows.append(jnp.log((1 - smoothing) * dense + smoothing / len(table)))
        return cls(tuple(tables), tuple(rows), rhm.num_symbols)

    @classmethod
    def from_recovered(
        cls,
        found: Recovered,
        num_symbols: Whole | Sequence[Whole],
        num_classes: Whole = 1,
        *,
        smoothing: float = 0.1,
    ) -> "SoftGrammar":
        """What clusters of tuples say, where learning starts best: counts of tuples in each cluster, as shares.

        Where the root was not found, its classes start alike, with the tuples that occur.

        Args:
          num_symbols: v; a sequence gives levels 1 .. depth their own; at least as many as clusters.
          smoothing: the share of every row that is spread evenly over all tuples, so that learning can mend clusters.

        Raises:
          ValueError: as in `random`; or if clusters are more than symbols, or the share is outside [0, 1].
        """
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing = {smoothing}: give a share, 0 to 1")
        depth = max(found.levels)
        below = whole_per_level("num_symbols", num_symbols, depth, 1)
        parents = (as_whole("num_classes", num_classes, 1), *below[:-1])
        tables, rows = [], []
        for level, (n, v) in enumerate(zip(parents, below, strict=True)):
            s = found.levels[level + 1].shape[1] // (found.levels[level].shape[1] if level else 1)
            table = _all_tuples(v, s)
            shares = _shares(found, level, n, v, s)
            tables.append(jnp.asarray(table))
            rows.append(jnp.log(as_numbers((1 - smoothing) * shares + smoothing / len(table))))
        return cls(tuple(tables), tuple(rows), below[-1])

    @property
    def depth(self) -> int:
        """Levels of rules."""
        return len(self.tuples)

    @property
    def num_leaves(self) -> int:
        """Length of a string."""
        return math.prod(table.shape[1] for table in self.tuples)

    def log_evidence(self, strings: Given, labels: Given | None = None) -> Float[Array, "*batch"]:
        """ln p(string), nats, or ln p(string, label).

        Args:
          strings: (..., leaves) symbols; -1 where one is missing.
          labels: (...) symbols of the root.

        Raises:
          ValueError: if a shape does not fit, or a symbol is out of range.
        """
        return log_evidence(self.model, self.evidence(strings, labels))

    def expected_counts(self, strings: Given, labels: Given | None = None) -> RuleCounts:
        """How often each symbol expands into each tuple, its posterior mean, (..., parents, tuples) for each level.

        Arguments and errors as of `log_evidence`.
        """
        return rule_counts(self.model, self.evidence(strings, labels))

    def evidence(self, strings: Given, labels: Given | None) -> Float[Array, "*batch leaves v"] | dict[int, Array]:
        """The evidence of strings, and of their labels, as inference takes it."""
        leaves = hard_evidence(strings, self.num_symbols).astype(self.log_probs[0].dtype)
        if labels is None:
            return leaves
        root = as_symbols(labels, len(self.log_probs[0]), "labels")
        shown = jax.nn.one_hot(root, len(self.log_probs[0]), dtype=bool)[..., None, :]
        return {0: jnp.where(shown, 0.0, -jnp.inf).astype(leaves.dtype), self.depth: leaves}

    @property
    def model(self) -> RandomHierarchyModel:
        """As a grammar whose tuples have several parents: for sums over trees, such as `theory.marginals`, alone."""
        rules = [
            jnp.broadcast_to(table[None], (len(rows), *table.shape))
            for table, rows in zip(self.tuples, self.log_probs, strict=True)
        ]
        vocabulary = (*(len(rows) for rows in self.log_probs), self.num_symbols)
        return RandomHierarchyModel.of_tables(rules, self.log_probs, vocabulary)


def _shares(found: Recovered, level: int, n: int, v: int, s: int) -> Float[np.ndarray, "_parents _tuples"]:
    """How often each of n symbols of a level has which tuple of v symbols below it, in rows that sum to 1."""
    beneath = found.levels[level + 1]
    codes = beneath.reshape(len(beneath), -1, s) @ _places(v, s)
    symbols = found.levels.get(level, np.zeros_like(codes))
    if symbols.max() >= n or beneath.max() >= v:
        raise ValueError(f"level {level} has clusters beyond {n} symbols, of {v} below: give more")
    counts = np.zeros((n, v**s))
    np.add.at(counts, (symbols, codes), 1)
    if level not in found.levels:  # the root, whose classes are not known
        counts[:] = counts[0]
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / v**s)


def _places(v: int, s: int) -> Int32[np.ndarray, " s"]:
    """Read as digits with these values, each tuple is the number of its row in `_all_tuples`."""
    return (v ** np.arange(s - 1, -1, -1)).astype(np.int32)


def _all_tuples(v: int, s: int) -> Tuples:
    """Every tuple, in the order of the numbers that its symbols write.

    Raises:
      ValueError: if they are too many.
    """
    if s * math.log2(v) > math.log2(LARGEST_TABLE):
        raise ValueError(f"{v}^{s} tuples are more than {LARGEST_TABLE}: rules of this level cannot be learned freely")
    return np.indices((v,) * s, np.int32).reshape(s, -1).T
