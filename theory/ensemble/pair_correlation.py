r"""Correlated changes of a hierarchy, predicted: exactly on a given tree, and by annealed mean field.

Both give the sums S(r) over pairs of leaves at tree distance r = s^l - 1 that `diffusion.measure.changes` measures,
so that chi, C(r) and xi are the same functions of either.

**Exact.** Given evidence, the regenerated string is a draw from the posterior. Let u_i be 1 if leaf i comes back, else
0, and U_c the sum of u_i over the leaves below node c. Given the symbols of two siblings c, c', the strings below them
are independent, so with N_c(x) = E[U_c | x at c, evidence below c],

    Cov(U_c, U_c') = E[M_c M_c'],      M_c(x) = N_c(x) - sum_x P_c(x) N_c(x),                                     (1)

an average over the rules at their parent: a with probability P(a) (posterior), then rule k with w_k(a), the share of
rule k in the upward message of a. N climbs the tree in the same way,

    N(a) = sum_k w_k(a) sum_j N_j(x_j^k),    sum over pairs with ancestor A of C = 4 sum_a P(a) sum_k w_k(a)
                                                                       [(sum_j M_j)^2 - sum_j M_j^2].             (2)

(4, because sigma = +-1.) Cost O(d v m) like belief propagation, no pair is ever visited, and as (1) is centred
nothing cancels. For the epsilon-process this is the whole answer. Through a channel the noise differs from trajectory
to trajectory, and by the law of total covariance

    C_ij(x_0) = E[C_ij | x_t] + Cov(E[sigma_i | x_t], E[sigma_j | x_t])     over x_t given x_0.                    (3)

Most of the scatter is then that of x_t itself: averaging (2) over draws of x_t is as noisy as averaging over as many
whole trajectories, and takes ten times as long. So for a channel use `measure.change_sums` with the exact denoiser.

**Mean field** of the epsilon-process (`mean_field`, beliefs p from below and q from above). The common ancestor of two
leaves is l levels up, Q arrives there from above, and p_c from below at its children on the way to them. With
R = (m - Q)/(v^s - 1), these children are both right, one right, or none with weights

    J_11 ~ Q p_c^s + R p_c^2 (1 - p_c^(s-2)),     J_10 = J_01 ~ R p_c (1 - p_c),      J_00 ~ R (1 - p_c)^2.        (4)

Below, a leaf is right with probability T_1 if the child is (messages from above start at q = 1), T_0 if not (q = 0):
P_11 = sum_ab J_ab T_a T_b, P_1 = sum_ab J_ab T_a, and C(l) = 4 (P_11 - P_1^2).

At the critical noise a departure of q shrinks by F'(p*)/s per level, so C(r) ~ r^-a with

    a = 2 (1 - 1/nu),      chi ~ |eps - eps*|^-gamma,  gamma = 2 - nu  where that is positive, F'(p*) > sqrt(s),   (5)

and near it chi = s^(L gamma/nu) f((eps - eps*) s^(L/nu)): curves of all depths collapse onto one (`collapsed`).

Sources: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770 for the pair theory; (1), (2) and (5) derived here.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffusion.noise.process import batch_axes
from hierarchical import RandomHierarchyModel
from hierarchical.arguments import Given, as_symbols

from ..domain import Grid, Number, count, grid, number
from ..inference.belief_propagation import marginals
from ..inference.evidence import Evidence, NoisedStrings, checked_evidence, refuse_disallowed, rows_of, written_out
from ..inference.fast.segments import data_at_once, in_pieces
from ..inference.messages import Children, Message, ProductionLayer, log_weight, split_children
from ..logspace import finite
from .mean_field import correlation_exponent, critical_noise, down_map, level_beliefs, marginal_belief
from .sizes import takes_sizes


class PairCorrelations(eqx.Module):
    """Correlated changes of each datum under its posterior."""

    sums: Float[Array, "*batch distances"]
    """S(r), sites at tree distance 0, s - 1, s^2 - 1, ..."""
    unchanged: Float[Array, "*batch leaves"]
    """Posterior probability of the true symbol."""


def posterior_pairs(rhm: RandomHierarchyModel, x0: Given, log_likelihoods: Given | NoisedStrings) -> PairCorrelations:
    """Sums over pairs of leaves of the covariance of their changes, for given evidence: equation (2).

    Args:
      x0: the truth, with which regenerated strings are compared, (..., leaves).
      log_likelihoods: evidence of each string, (..., leaves, v) or `NoisedStrings`, as in `theory.marginals`.

    Returns:
      NaN for a datum whose evidence is impossible, and inside jit for one with a symbol that the grammar lacks.
    Raises:
      ValueError: if the grammar is filtered, whose top has no production rules; if x0 has strings of another length,
        other batch axes than the evidence, or symbols outside 0 .. v - 1; or as `theory.marginals`.

    Source: our derivation, at the top of this file.
    """
    if rhm.filter_level:
        raise ValueError(f"the grammar is filtered at level {rhm.filter_level}: give one with rules at every level")
    evidence = checked_evidence(log_likelihoods, rhm)
    x0 = as_symbols(x0, rhm.num_symbols, "x0")
    batch = batch_axes(x0, (rhm.num_leaves,), "x0")
    if evidence.shape[:-2] != batch:
        raise ValueError(f"x0 has shape {x0.shape}, the evidence {evidence.shape}: give evidence of each string of x0")
    refuse_disallowed(evidence)
    return _pairs_of(rhm, x0, evidence)


@eqx.filter_jit
def _pairs_of(
    rhm: RandomHierarchyModel,
    x0: Int[Array, "*batch leaves"],
    evidence: Float[Array, "*batch leaves v"] | NoisedStrings,
) -> PairCorrelations:
    """In pieces, over any batch axes; NaN where a symbol is none."""
    pairs = in_pieces(
        lambda _, rows: _pairs(rhm, *rows), data_at_once(rhm), (x0.reshape(-1, rhm.num_leaves), rows_of(evidence))
    )
    known = jnp.all(x0 >= 0, -1, keepdims=True)
    return jax.tree.map(lambda leaf: jnp.where(known, leaf.reshape(*x0.shape[:-1], -1), jnp.nan), pairs)


@takes_sizes
def mean_field_sums(
    noise: Grid, depth: Number, num_symbols: int, num_synonyms: int, branching: int
) -> Float[Array, "*grid distances"]:
    """S(r)/d of the epsilon-process, equation (4), at tree distances 0, s - 1, .. s^depth - 1.

    Args:
      noise: eps in [0, 1]; inside jit another number gives NaN. Use float64 near the critical noise.

    Raises:
      ValueError: if a noise is outside [0, 1], or as in `mean_field.level_beliefs`.

    Source: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770.
    """
    depth = count("depth", depth, 1)
    return _mean_field_sums(grid("noise", noise, 0, 1), depth, num_symbols, num_synonyms, branching)


@eqx.filter_jit
def _mean_field_sums(
    noise: Float[Array, "*grid"], depth: int, num_symbols: int, num_synonyms: int, branching: int
) -> Float[Array, "*grid distances"]:
    v, m, s = num_symbols, num_synonyms, branching
    beliefs = level_beliefs(noise, depth, v, m, s)
    below, above, leaf = beliefs.upward, beliefs.downward, beliefs.marginal[-1]
    # messages down to the leaves, from a child at level 1, 2, .. depth that is right (q = 1), or wrong (q = 0)
    children = jnp.arange(1, depth + 1).reshape(1, depth, *(1,) * noise.ndim)
    start = jnp.array([1.0, 0.0], noise.dtype).reshape(2, 1, *(1,) * noise.ndim)
    start = jnp.broadcast_to(start, (2, depth, *noise.shape))

    def step_down(reach, level):
        sent = down_map(reach, jnp.broadcast_to(below[level], reach.shape), v, m, s)
        return jnp.where(children < level, sent, reach), None

    reach, _ = jax.lax.scan(step_down, start, jnp.arange(2, depth + 1))
    right, wrong = jnp.asarray(marginal_belief(reach, jnp.broadcast_to(below[-1], reach.shape), v))  # T_1, T_0
    p, q = below[1:], above[:-1]
    others = (m - q) / float(v**s - 1)
    both, one = q * p**s + others * p**2 * (1 - p ** (s - 2)), others * p * (1 - p)
    none = others * (1 - p) ** 2
    # P_11 - P_1^2 = (T_1 - T_0)^2 (J_11 J_00 - J_10^2): nothing cancels
    covariance = (right - wrong) ** 2 * (both * none - one**2) / (both + 2 * one + none) ** 2
    pairs = jnp.asarray([(s - 1) * s ** (depth - level) for level in range(1, depth + 1)], noise.dtype)  # of a leaf
    sums = 4 * covariance * pairs.reshape(-1, *(1,) * noise.ndim)
    return jnp.moveaxis(jnp.concatenate([4 * (leaf * (1 - leaf))[None], sums[::-1]]), 0, -1)


@takes_sizes
def decay_exponent(num_symbols: int, num_synonyms: int, branching: int) -> float:
    """a of C(r) ~ r^-a at the critical noise, equation (5), in (0, 2).

    Raises:
      ValueError: as in `mean_field.fixed_point`.

    Source: our derivation, equation (5).
    """
    return 2 * (1 - 1 / correlation_exponent(num_symbols, num_synonyms, branching))


@takes_sizes
def susceptibility_exponent(num_symbols: int, num_synonyms: int, branching: int) -> float:
    """gamma = 2 - nu, equation (5). Where it is not positive chi stays finite, though xi diverges.

    Raises:
      ValueError: as in `mean_field.fixed_point`.

    Source: our derivation, equation (5).
    """
    return 2 - correlation_exponent(num_symbols, num_synonyms, branching)


@takes_sizes
def collapsed(
    noise: Grid,
    curve: Grid,
    depth: Number,
    num_symbols: int,
    num_synonyms: int,
    branching: int,
    exponent: Number,
) -> tuple[Float[Array, "*grid"], Float[Array, "*grid"]]:
    """Scaled noise (eps - eps*) s^(L/nu) and scaled curve, curve / s^(L exponent/nu): the same for all depths L.

    Args:
      noise: eps in [0, 1]; inside jit another number gives NaN, as does an infinite value of the curve.
      exponent: with which the curve diverges, |eps - eps*|^-exponent: gamma for chi, nu for xi.

    Raises:
      ValueError: if a noise is outside [0, 1], a value of the curve or the exponent is not finite, depth < 1, or as in
        `mean_field.fixed_point`.
    """
    noise, curve = grid("noise", noise, 0, 1), grid("curve", curve, -math.inf, math.inf)
    sizes = num_symbols, num_synonyms, branching
    size = branching ** (count("depth", depth, 1) / correlation_exponent(*sizes))
    return (noise - critical_noise(*sizes)) * size, curve / size ** number("exponent", exponent)


def _pairs(rhm: RandomHierarchyModel, x0: Int[Array, "batch leaves"], evidence: Evidence) -> PairCorrelations:
    """Equation (2) up the tree; arrays of a level are (symbols, nodes, batch), and (symbols, lanes) under the rules."""
    tables = [table.transpose(2, 1, 0) for table in marginals(rhm, evidence)]
    message = written_out(evidence).transpose(2, 1, 0)  # ln u
    right = jax.nn.one_hot(x0, rhm.num_symbols, dtype=message.dtype).transpose(2, 1, 0)  # N of the leaves
    unchanged = jnp.sum(tables[-1] * right, 0)
    sums = [4 * jnp.sum(unchanged * (1 - unchanged), 0)]
    for level in reversed(range(rhm.depth)):
        s, posterior, shape = rhm.branching[level], tables[level], tables[level].shape
        centred = right - jnp.sum(tables[level + 1] * right, 0, keepdims=True)  # M
        shifted = split_children(message - finite(jnp.max(message, 0, keepdims=True)), s)
        log_probs = rhm.log_prob_of_rules(level).astype(message.dtype).T
        layer = ProductionLayer(rhm.rules[level].transpose(1, 0, 2), log_probs)
        above = layer.up(shifted)
        right, pairs = _over_rules(layer, shifted, finite(above), split_children(right, s), split_children(centred, s))
        message, right = above.reshape(shape), right.reshape(shape)
        sums.append(4 * jnp.sum(posterior * pairs.reshape(shape), (0, 1)))
    possible = jnp.sum(tables[0], (0, 1)) > 0  # of each datum; impossible evidence has marginals of zeros
    result = PairCorrelations(jnp.stack(sums, -1), unchanged.T)
    return jax.tree.map(lambda leaf: jnp.where(possible[:, None], leaf, jnp.nan), result)


def _over_rules(
    layer: ProductionLayer, children: Children, normaliser: Message, right: Children, centred: Children
) -> tuple[Message, Message]:
    """sum_k w_k(a) sum_j N_j, and sum_k w_k(a) [(sum_j M_j)^2 - sum_j M_j^2]; slot k of all symbols at a time."""

    def add(sums, slot):
        expected, pairs = sums
        share = jnp.exp(log_weight(slot, children) - normaliser)
        rows = [slot[0][:, j] for j in range(layer.branching)]
        moved = [centred[j][row] for j, row in enumerate(rows)]
        expected += share * sum(right[j][row] for j, row in enumerate(rows))
        return (expected, pairs + share * (sum(moved) ** 2 - sum(x**2 for x in moved))), None

    nothing = jnp.zeros_like(normaliser)
    return jax.lax.scan(add, (nothing, nothing), (layer.rules, layer.log_probs))[0]
