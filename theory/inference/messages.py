r"""Messages across one layer of the tree: from the evidence below to a parent, from a parent to its children.

Over the rules k = (x_1 .. x_s) of a symbol a, with t_k(a) the weight of one rule,

    t_k(a) = p(k | a) prod_j u_j(x_j),            u(a) = sum_k t_k(a).                                             (1)

Downward, the posterior P(a) of a node is shared out over its rules and handed to its children. Nothing is divided by a
message that could vanish, and every term is a probability, so nothing cancels and nothing under- or overflows:

    P(a, k) = P(a) t_k(a) / u(a),                 P_j(x) = sum of P(a, k) over (a, k) with x_j = x.                 (2)

The *cavity* message of a child, sent by everything outside its subtree, has the products over its siblings:

    c_j(x) ~ sum of c(a) p(k | a) prod_{i != j} u_i(x_i) over (a, k) with x_j = x,     P_j(x) ~ c_j(x) u_j(x).      (3)

Messages are logarithms, so float32 keeps its relative precision for evidence of any contrast. A hard zero is -inf
and stays -inf; `theory.logspace` handles the sums in which it could become NaN.

Layout: symbols first, then *lanes*, all (node, datum) pairs of a level in a row. A rule is then an operation on whole
contiguous rows; slot k of every symbol is gathered, added and reduced before slot k + 1 (`lax.scan`), so the only
temporaries are the rows of one slot.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from ..logspace import finite, log_sum, log_where_positive

Message = Float[Array, "symbols lanes"]
Children = Float[Array, "branching child_symbols lanes"]
Symbols = Int[Array, " lanes"]


class AbstractLayer(eqx.Module):
    """How children depend on their parent. The lanes of all arguments are the parents, of all data."""

    @property
    @abc.abstractmethod
    def branching(self) -> int:
        """Children of every parent."""

    @abc.abstractmethod
    def up(self, children: Children) -> Message:
        """ln u(a) of the parents, equation (1)."""

    @abc.abstractmethod
    def down(self, posterior: Message, message: Message, children: Children) -> Children:
        """Posterior probabilities of the children given those of the parents, whose `up` message is `message`, (2)."""

    @abc.abstractmethod
    def cavity(self, parent: Message, children: Children) -> Children:
        """ln c_j(x) of the children given ln c(a) of the parents, equation (3), up to a constant per child."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], parents: Symbols, children: Children) -> Int[Array, "branching lanes"]:
        """Symbols of the children given those of the parents and the evidence below."""

    @abc.abstractmethod
    def entropy(self, posterior: Message, message: Message, children: Children) -> Float[Array, " lanes"]:
        """Entropy of the children given their parent and the evidence, its posterior mean, nats; as of `down`."""

    @abc.abstractmethod
    def best(self, children: Children) -> tuple[Message, Int[Array, "branching symbols lanes"]]:
        """The largest ln p(children | a) + ln u(children) of every parent symbol a, and children that reach it."""


class ProductionLayer(AbstractLayer):
    """Children are the tuple of one rule of the parent, equations (1) to (3)."""

    rules: Int[Array, "synonyms parents branching"]
    log_probs: Float[Array, "synonyms parents"]

    @property
    def branching(self) -> int:
        return self.rules.shape[2]

    def up(self, children):
        def largest(best, slot):
            return jnp.maximum(best, log_weight(slot, children)), None

        def accumulate(total, slot):
            return total + jnp.exp(log_weight(slot, children) - shift), None

        start = jnp.zeros((self.rules.shape[1], children.shape[2]), children.dtype)
        slots = self.rules, self.log_probs
        best, _ = jax.lax.scan(largest, start - jnp.inf, jax.lax.stop_gradient(slots))
        shift = finite(jax.lax.stop_gradient(best))
        total, _ = jax.lax.scan(accumulate, start, slots)
        return log_where_positive(total) + shift

    def down(self, posterior, message, children):
        normaliser = finite(message)

        def share(shares, slot):
            joint = posterior * jnp.exp(log_weight(slot, children) - normaliser)
            return [shares[j].at[slot[0][:, j]].add(joint) for j in range(self.branching)], None

        start = [jnp.zeros(children.shape[1:], children.dtype)] * self.branching
        return jnp.stack(jax.lax.scan(share, start, (self.rules, self.log_probs))[0])

    def cavity(self, parent, children):
        def siblings(slot, j):
            rules, log_probs = slot
            others = [children[i][rules[:, i]] for i in range(self.branching) if i != j]
            return sum(others, start=parent + log_probs[:, None])

        def largest(best, slot):
            return [best[j].at[slot[0][:, j]].max(siblings(slot, j)) for j in range(self.branching)], None

        def accumulate(total, slot):
            rows = [slot[0][:, j] for j in range(self.branching)]
            terms = [jnp.exp(siblings(slot, j) - shift[j][rows[j]]) for j in range(self.branching)]
            return [total[j].at[rows[j]].add(terms[j]) for j in range(self.branching)], None

        start = [jnp.zeros(children.shape[1:], children.dtype)] * self.branching
        slots = self.rules, self.log_probs
        best, _ = jax.lax.scan(largest, [x - jnp.inf for x in start], slots)
        shift = [finite(x) for x in best]
        total, _ = jax.lax.scan(accumulate, start, slots)
        return jnp.stack([log_where_positive(x) + y for x, y in zip(total, shift, strict=True)])

    def sample(self, key, parents, children):
        rules, log_probs = self.rules[:, parents], self.log_probs[:, parents]  # (m, lanes, s), (m, lanes)
        lanes = jnp.arange(len(parents))
        weights = sum((children[j][rules[..., j], lanes] for j in range(self.branching)), start=log_probs)
        choice = jax.random.categorical(key, weights, axis=0)
        return rules[choice, lanes].T

    def counts(
        self, posterior: Message, message: Message, children: Children
    ) -> Float[Array, "synonyms parents lanes"]:
        """Posterior probability P(a, k) of every rule at every parent, equation (2)."""
        normaliser = finite(message)

        def joint(_, slot):
            return None, posterior * jnp.exp(log_weight(slot, children) - normaliser)

        return jax.lax.scan(joint, None, (self.rules, self.log_probs))[1]

    def entropy(self, posterior, message, children):
        normaliser = finite(message)

        def add(total, slot):
            return total + _surprise(log_weight(slot, children) - normaliser), None

        slots = self.rules, self.log_probs
        of_symbol, _ = jax.lax.scan(add, jnp.zeros_like(posterior), slots)
        return jnp.sum(posterior * of_symbol, 0)

    def best(self, children):
        def better(best, slot):
            value, chosen = best
            weight, symbols = log_weight(slot, children), jnp.moveaxis(slot[0], -1, 0)
            return (jnp.maximum(value, weight), jnp.where(weight > value, symbols[..., None], chosen)), None

        lanes = (self.rules.shape[1], children.shape[2])
        start = jnp.full(lanes, -jnp.inf, children.dtype), jnp.zeros((self.branching, *lanes), self.rules.dtype)
        return jax.lax.scan(better, start, (self.rules, self.log_probs))[0]


class IndependentLayer(AbstractLayer):
    """Children are drawn independently given the parent, child j from `log_law[j, a]`: a filtered grammar's top."""

    log_law: Float[Array, "branching parents child_symbols"]

    @property
    def branching(self) -> int:
        return self.log_law.shape[0]

    def _joint(self, children: Children) -> Float[Array, "branching parents child_symbols lanes"]:
        return self.log_law[..., None] + children[:, None]

    def _each(self, children: Children) -> Float[Array, "branching parents lanes"]:
        return log_sum(self._joint(children), axis=2)

    def up(self, children):
        return jnp.sum(self._each(children), 0)

    def down(self, posterior, message, children):
        conditional = jnp.exp(self._joint(children) - finite(self._each(children))[:, :, None])
        return jnp.einsum("ap,jaxp->jxp", posterior, conditional)

    def cavity(self, parent, children):
        each = self._each(children)
        others = [sum((each[i] for i in range(self.branching) if i != j), start=parent) for j in range(self.branching)]
        return log_sum(jnp.stack(others)[:, :, None] + self.log_law[..., None], axis=1)

    def sample(self, key, parents, children):
        weights = self.log_law[:, parents] + children.transpose(0, 2, 1)  # (branching, lanes, child symbols)
        return jax.random.categorical(key, weights).astype(parents.dtype)

    def entropy(self, posterior, message, children):
        surprise = _surprise(self._joint(children) - finite(self._each(children))[:, :, None])
        return jnp.einsum("ap,jaxp->p", posterior, surprise)

    def best(self, children):
        joint = self._joint(children)
        return jnp.sum(jnp.max(joint, 2), 0), jnp.argmax(joint, 2).astype(jnp.int32)


def _surprise(log_prob: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-p ln p, 0 at p = 0, as its slope is."""
    return -jnp.exp(log_prob) * finite(log_prob)


def log_weight(slot: tuple[Array, Array], children: Children) -> Message:
    """ln t_k(a) of one slot k: a gather and a sum of contiguous rows."""
    rules, log_probs = slot
    rows = [child[rules[:, j]] for j, child in enumerate(children)]
    return sum(rows, start=jnp.broadcast_to(log_probs[:, None], rows[0].shape))


def split_children(
    level: Shaped[Array, "symbols nodes batch"], branching: int
) -> Shaped[Array, "branching symbols lanes"]:
    """Child j of every parent, for j = 0 .. branching - 1; the lanes are (parent, datum)."""
    symbols, nodes, batch = level.shape
    split = level.reshape(symbols, nodes // branching, branching, batch)
    return split.transpose(2, 0, 1, 3).reshape(branching, symbols, -1)
