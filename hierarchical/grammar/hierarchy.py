r"""Random hierarchy models: a grammar whose every symbol expands, level by level, into a tuple of symbols.

A datum is the string of leaves of a tree. The root is a class drawn uniformly; a node with symbol a at level l picks
one of the m production rules of a,

    a  ->  (x_1, ..., x_s),      with probability p_l(k | a),  k = 1 .. m   (uniform, or Zipf: p ~ k^-(1+z)),   (1)

and its s children take the symbols x_1 .. x_s. Levels count from 0 (root, the class) to `depth` (leaves), so that
`rules[l]` leads from level l to level l + 1. The rules are drawn at random subject to one condition: no s-tuple has two
parents. Hence a string determines its tree, and its entropy is that of the choices made (N_l(a): expected number of
nodes of level l with symbol a),

    H = ln n + sum_l sum_a N_l(a) H[p_l(. | a)]      =  ln n + (number of inner nodes) ln m  for uniform rules.   (2)

*Hierarchical filtering* at level k removes the correlations above that level: the s^k nodes of level k are drawn
independently given the root, each from the marginal the full grammar gives it; levels 1 .. k-1 then have no nodes.

Sources: Cagnetta et al., arXiv:2307.02129 (the model); Cagnetta et al., arXiv:2505.07067 (Zipf rules); Garnier-Brun et
al., arXiv:2408.15138 (filtering).
"""

import itertools
import math
import operator
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key

from ..arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole, mark_symbols
from ..law import AbstractLaw, Sample, Shape, check_shape
from .derivation import Derivation
from .rules import RuleLogProbs, Rules, as_table, check_level, check_table, draw_rules, match, zipf_log_probs
from .sizes import LARGEST, check_filter_level, per_level, resolve_depth, whole_per_level


class RandomHierarchyModel(AbstractLaw):
    """A grammar of fixed depth with unambiguous random rules; see the head of this file."""

    rules: tuple[Rules, ...]
    """One table per level, root level first: `rules[l][a, k]` is the k-th tuple that symbol a of level l expands to."""
    rule_log_probs: tuple[RuleLogProbs | None, ...]
    """ln p_l(k | a) of equation (1), nats; None stands for uniform rules."""
    vocabulary: tuple[int, ...] = eqx.field(static=True)
    """Number of symbols at each level, root (the classes) first."""
    filter_level: int = eqx.field(static=True)
    """Level from which the grammar is kept: its nodes are independent given the class; 0 for the full grammar."""

    def __init__(
        self,
        num_symbols: Whole | Sequence[Whole],
        num_synonyms: Whole | Sequence[Whole],
        branching: Whole | Sequence[Whole],
        depth: Whole | None = None,
        num_classes: Whole | None = None,
        *,
        zipf_exponent: float | Sequence[float | None] | None = None,
        shared_rules: bool = False,
        filter_level: Whole = 0,
        key: AnyKey,
    ):
        """Draw a grammar.

        Args:
          num_symbols: v, symbols of a level; a sequence gives levels 1 .. depth their own.
          num_synonyms: m, rules per symbol; a sequence gives levels 0 .. depth-1 their own.
          branching: s, children per node; a sequence likewise.
          depth: L, number of rule levels; may be left out when one of the above is a sequence.
          num_classes: n, symbols of the root; default as many as at level 1.
          zipf_exponent: z in p(k) ~ k^-(1+z), k = 1 .. m; None for uniform rules, a sequence for chosen levels.
          shared_rules: one rule table for all levels (all sizes must then agree, num_classes included).
          filter_level: k in [1, depth] draws the nodes of level k independently given the class; 0 filters nothing.
          key: random key for the rules.

        Raises:
          ValueError: if m rules for each symbol cannot all be distinct s-tuples, or the sizes contradict each other, or
            a size is not a whole number.
        """
        key = as_key(key)
        depth = resolve_depth(depth, num_symbols, num_synonyms, branching, zipf_exponent)
        below = whole_per_level("num_symbols", num_symbols, depth)
        vocabulary = (below[0] if num_classes is None else as_whole("num_classes", num_classes), *below)
        synonyms = whole_per_level("num_synonyms", num_synonyms, depth)
        children = whole_per_level("branching", branching, depth)
        zipf = per_level("zipf_exponent", zipf_exponent, depth)
        for level in range(depth):
            check_level(level, vocabulary[level], synonyms[level], children[level], vocabulary[level + 1])
        sizes = list(zip(vocabulary[:-1], synonyms, children, vocabulary[1:], strict=True))
        if shared_rules:
            if len(set(sizes)) > 1:
                raise ValueError(
                    f"shared_rules needs the same sizes at every level, got (parents, synonyms, branching, symbols) = "
                    f"{sizes}: leave num_classes out and pass integers"
                )
            self.rules = (draw_rules(key, *sizes[0]),) * depth
        else:
            keys = jax.random.split(key, depth)
            self.rules = tuple(draw_rules(k, *size) for k, size in zip(keys, sizes, strict=True))
        self.rule_log_probs = tuple(
            None if z is None else zipf_log_probs(z, n, m) for z, (n, m, _, _) in zip(zipf, sizes, strict=True)
        )
        self.vocabulary = vocabulary
        self.filter_level = check_filter_level(filter_level, depth)

    @classmethod
    def from_rules(
        cls,
        rules: Sequence[Given],
        rule_log_probs: Sequence[Given | None] | None = None,
        *,
        num_symbols: Whole | None = None,
        filter_level: Whole = 0,
    ) -> "RandomHierarchyModel":
        """A grammar from given tables, root level first.

        Args:
          rules: integer arrays (parents, synonyms, branching); the symbols in table l are the parents of table l + 1.
          rule_log_probs: ln p(k | a) per table, each row normalised; None (for all or for one table) is uniform.
          num_symbols: size of the leaf alphabet; default: as many symbols as the last table has parents, or uses.
          filter_level: as in the constructor.

        Raises:
          ValueError: if a symbol lies outside its alphabet, or a tuple has two parents, or probabilities do not add up.
        """
        rules = tuple(as_table(level, table) for level, table in enumerate(rules))
        if not rules or any(table.ndim != 3 for table in rules):
            raise ValueError(
                f"rules must be tables (parents, synonyms, branching), got shapes {[r.shape for r in rules]}"
            )
        if num_symbols is None:
            num_symbols = max(rules[-1].shape[0], int(np.max(rules[-1])) + 1)
        num_symbols = as_whole("num_symbols", num_symbols, 1)
        vocabulary = (*(table.shape[0] for table in rules), num_symbols)
        given = (None,) * len(rules) if rule_log_probs is None else rule_log_probs
        log_probs = tuple(None if row is None else as_numbers(row) for row in given)
        if len(log_probs) != len(rules):
            raise ValueError(
                f"{len(log_probs)} tables of rule_log_probs for {len(rules)} tables of rules: give one each"
            )
        for level, (table, row) in enumerate(zip(rules, given, strict=True)):
            check_table(level, table, row, vocabulary[level + 1])
        return cls.of_tables(rules, log_probs, vocabulary, check_filter_level(filter_level, len(rules)))

    @classmethod
    def of_tables(
        cls,
        rules: Sequence[Rules | Int32[np.ndarray, "_parents _synonyms _branching"]],
        rule_log_probs: Sequence[RuleLogProbs | None],
        vocabulary: tuple[int, ...],
        filter_level: int = 0,
    ) -> "RandomHierarchyModel":
        """The tables as they are, unchecked. If a tuple has several parents, sums over trees are right, not `parse`.

        Args:
          vocabulary: symbols of every level, root first.
        """
        model = object.__new__(cls)  # the constructor draws rules; these are given
        object.__setattr__(model, "rules", tuple(map(jnp.asarray, rules)))
        object.__setattr__(model, "rule_log_probs", tuple(rule_log_probs))
        object.__setattr__(model, "vocabulary", vocabulary)
        object.__setattr__(model, "filter_level", filter_level)
        return model

    @property
    def depth(self) -> int:
        """L: number of levels of rules; the tree has depth + 1 levels of nodes."""
        return len(self.rules)

    @property
    def num_classes(self) -> int:
        """n: symbols of the root."""
        return self.vocabulary[0]

    @property
    def num_symbols(self) -> int:
        """v: symbols of the leaves."""
        return self.vocabulary[-1]

    @property
    def num_synonyms(self) -> tuple[int, ...]:
        """m at each level of rules."""
        return tuple(table.shape[-2] for table in self.rules)

    @property
    def branching(self) -> tuple[int, ...]:
        """s at each level of rules."""
        return tuple(table.shape[-1] for table in self.rules)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(v, m, s), where all levels agree, as the functions of `theory.mean_field` take them.

        Raises:
          ValueError: if two levels differ in one of them, or there are another number of classes than of symbols.
        """
        sizes = {*zip(self.vocabulary[:-1], self.num_synonyms, self.branching, self.vocabulary[1:], strict=True)}
        ((parents, m, s, v),) = sizes if len(sizes) == 1 else [(0, 0, 0, -1)]
        if parents != v:
            raise ValueError(
                f"levels differ: symbols {self.vocabulary}, synonyms {self.num_synonyms}, branching {self.branching}; "
                f"there is no one (v, m, s)"
            )
        return v, m, s

    @property
    def num_nodes(self) -> tuple[int, ...]:
        """Nodes of each level, root first; 0 at the levels that filtering removes."""
        full = itertools.accumulate(self.branching, operator.mul, initial=1)
        return tuple(0 if 0 < level < self.filter_level else count for level, count in enumerate(full))

    @property
    def num_leaves(self) -> int:
        """d: length of a string."""
        return math.prod(self.branching)

    def log_prob_of_rules(self, level: int) -> RuleLogProbs:
        """ln p_l(k | a), nats, also where it is uniform."""
        given = self.rule_log_probs[level]
        if given is not None:
            return given
        synonyms = self.num_synonyms[level]
        return jnp.full((self.vocabulary[level], synonyms), -math.log(synonyms))

    @property
    def transitions(self) -> tuple[Float[Array, "_branching _parents _symbols"], ...]:
        """For each level of rules, the probability that child j of a parent a is the symbol x, its siblings summed."""

        def transition(level: int) -> Array:
            table, probs = self.rules[level], jnp.exp(self.log_prob_of_rules(level))
            matrix = jnp.zeros((table.shape[2], table.shape[0], self.vocabulary[level + 1]), probs.dtype)
            j, a = jnp.arange(table.shape[2])[:, None, None], jnp.arange(table.shape[0])[None, :, None]
            return matrix.at[j, a, table.transpose(2, 0, 1)].add(probs[None])

        return tuple(transition(level) for level in range(self.depth))

    @property
    def filtered_transition(self) -> Float[Array, "nodes classes symbols"]:
        """p(symbol of node i of `filter_level` | class), the law that filtering draws these nodes from."""
        result = jnp.eye(self.num_classes)[None]  # (1, n, n)
        for step in self.transitions[: self.filter_level]:
            product = jnp.einsum("iab,jbx->ijax", result, step)
            result = product.reshape(-1, *product.shape[2:])
        return result

    @property
    def entropy(self) -> float | Float[Array, ""]:
        """Entropy of a derivation, nats, exact: equation (2). It is that of the string, which determines its tree.

        Under filtering a string no longer determines its class; the value then is the entropy of class and tree.
        """
        if self.filter_level == 0 and all(row is None for row in self.rule_log_probs):
            choices = zip(self.num_nodes, self.num_synonyms, strict=False)
            return math.log(self.num_classes) + sum(nodes * math.log(m) for nodes, m in choices)
        total, counts = jnp.log(self.num_classes), jnp.full(self.num_classes, 1 / self.num_classes)
        for level in range(self.depth):
            if level < self.filter_level - 1:
                continue
            if level == self.filter_level - 1:
                law = self.filtered_transition
                total += jnp.sum(_entropy(law)) / self.num_classes
                counts = jnp.sum(law, (0, 1)) / self.num_classes
            else:
                total += counts @ _entropy(jnp.exp(self.log_prob_of_rules(level)))
                counts = jnp.einsum("a,jax->x", counts, self.transitions[level])
        return total

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Draw strings, with their `Derivation`s as `latent`; many at once as `sample_trees` does.

        Raises:
          ValueError: if a length of `shape` is not positive, or a string has more than 2^31 - 1 leaves.
        """
        key, shape = as_key(key), check_shape(shape)
        if shape == ():
            self.check_fits(1)
            tree = self._sample_tree(key)
        else:
            from .sampling import sample_trees  # which draws from a model, and so imports this file

            tree = sample_trees(key, self, math.prod(shape))
            tree = jax.tree.map(lambda level: level.reshape(*shape, -1), tree)
        return Sample(tree.leaves, tree)

    def check_fits(self, size: int) -> None:
        """Refuse so many strings as have more leaves than an array can hold.

        Raises:
          ValueError: naming the depth.
        """
        if size * self.num_leaves > LARGEST:
            raise ValueError(
                f"{size} strings of 10^{math.log10(self.num_leaves):.3g} leaves (depth = {self.depth}) do not fit an "
                f"array of at most 2^31 - 1: lower depth or branching, or draw fewer at a time"
            )

    def _sample_tree(self, key: Key[Array, ""]) -> Derivation:
        root_key, *keys = jax.random.split(key, self.depth + 1)
        levels = [jax.random.randint(root_key, (1,), 0, self.num_classes, jnp.int32)]
        for level, k in enumerate(keys):
            levels.append(self.draw_children(level, levels, k))
        return Derivation(tuple(levels), tuple(jnp.ones(x.shape, bool) for x in levels))

    def draw_children(self, level: int, levels: list[Array], key: Key[Array, ""]) -> Int[Array, " children"]:
        """Symbols of level + 1, given those of the levels up to `level`, root first."""
        if level < self.filter_level - 1:
            return jnp.zeros(0, jnp.int32)
        if level == self.filter_level - 1:
            law = self.filtered_transition[:, levels[0][0]]  # (nodes, symbols)
            return jax.random.categorical(key, jnp.log(law)).astype(jnp.int32)
        parents, log_probs = levels[-1], self.rule_log_probs[level]
        if log_probs is None:
            choice = jax.random.randint(key, parents.shape, 0, self.num_synonyms[level], jnp.int32)
        else:
            choice = jax.random.categorical(key, log_probs[parents])
        return self.rules[level][parents, choice].reshape(-1)

    def parse(self, leaves: Given) -> Derivation:
        """Read the tree off a string, bottom up.

        A node is valid if its children are and form the tuple of some rule; otherwise its symbol is -1. A symbol
        outside the alphabet (the mask, say) is an invalid leaf. Under filtering the class is not determined: the root
        is -1, and valid if at least one class can give the string.

        Raises:
          ValueError: if a string does not have `num_leaves` symbols, or does not hold integers.
        """
        leaves = mark_symbols(leaves, self.num_symbols)  # the mask is kept
        if leaves.shape[-1:] != (self.num_leaves,):
            raise ValueError(f"a string of this grammar has {self.num_leaves} leaves, got shape {leaves.shape}")
        if leaves.ndim == 1:
            return self._parse(leaves)
        trees = jax.vmap(self._parse)(leaves.reshape(-1, self.num_leaves))
        return jax.tree.map(lambda level: level.reshape(*leaves.shape[:-1], -1), trees)

    def _parse(self, leaves: Int[Array, " leaves"]) -> Derivation:
        levels, valid = [leaves], [(leaves >= 0) & (leaves < self.num_symbols)]
        for level in reversed(range(self.filter_level, self.depth)):
            symbols = match(self.rules[level], levels[0].reshape(-1, self.branching[level]), self.vocabulary[level + 1])
            levels.insert(0, symbols)
            valid.insert(0, (symbols >= 0) & valid[0].reshape(-1, self.branching[level]).all(-1))
        if self.filter_level:
            law = self.filtered_transition
            possible = law[jnp.arange(law.shape[0]), :, jnp.maximum(levels[0], 0)] > 0  # (nodes, classes)
            classes = jnp.any(possible.all(0)) & valid[0].all()
            levels = [jnp.full(1, -1, leaves.dtype), *[jnp.zeros(0, leaves.dtype)] * (self.filter_level - 1), *levels]
            valid = [classes[None], *[jnp.zeros(0, bool)] * (self.filter_level - 1), *valid]
        return Derivation(tuple(levels), tuple(valid))


def _entropy(probs: Float[Array, "*rows k"]) -> Float[Array, "*rows"]:
    return jnp.sum(jax.scipy.special.entr(probs), -1)
