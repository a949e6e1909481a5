r"""Annealed mean field of the epsilon-process: one number per level instead of a message per node.

Every leaf believes in its true symbol with p_L = 1 - eps + eps/v and in each other symbol with eps/v (`EpsilonBelief`).
Belief propagation then sends a message through every node; averaging numerator and normaliser of that message over the
random rules separately (the annealed approximation) leaves a map of the belief p in the truth, the rest being uniform.

Upward. Of the v m rules, drawn uniformly from the v^s tuples, one is the tuple that really sits below the node; it
weighs p^s. The tuples weigh 1 in total, so each of the other rules weighs (1 - p^s) / (v^s - 1) on average:

    F(p) = (p^s + g (1 - p^s)) / (p^s + f (1 - p^s)),   f = (m v - 1)/(v^s - 1),   g = (m - 1)/(v^s - 1),        (1)
    F'(p) = s p^(s-1) (f - g) / (p^s + f (1 - p^s))^2.                                                           (2)

Downward. A node receives q = the belief of all that is not below its parent in the parent's true symbol. The true rule
says the true symbol with weight q a, where a = p^(s-1) comes from the s - 1 siblings. The m - 1 other rules of the
true parent and the m rules of each other parent carry (m - 1) q + m (1 - q) = m - q together, spread over the v^s - 1
other tuples; the siblings' part of those that say the true symbol sums to 1 - a, and to 1 for every other symbol:

    q' = (q a + R (1 - a)) / (q a + R (v - a)),   R = (m - q)/(v^s - 1),   q_root = 1/v,                          (3)
    P = p q / (p q + (1 - p)(1 - q)/(v - 1))   is the marginal belief in the truth.                               (4)

Fixed points of (1). With S_k(x, y) = x^(k-1) + x^(k-2) y + ... + y^(k-1) = (x^k - y^k)/(x - y), h_k = S_k(p, 1/v) and
c = f/v - g = (1 - 1/v)/(v^s - 1), the numerator of F(p) - p factors as

    p^s (1 - p) + (1 - p^s)(g - f p) = (1 - p) (p - 1/v) H(p),   H(p) = h_s - f S_s(p, 1) - c sum_{k<s} h_k:      (5)

1 and 1/v are always fixed. Its coefficients change sign three times, so by Descartes' rule there is at most one more.
H(1/v) < 0 iff F'(1/v) < 1, and H(1) > 0 iff F'(1) < 1; with both, the root p* between 1/v and 1 repels and separates
the class kept (p -> 1) from the class lost (p -> 1/v). The two conditions are comparisons of whole numbers,

    F'(1) < 1    iff  s m (v - 1) < v^s - 1,              F'(1/v) < 1  iff  s v^(s-1) (v - 1) < m (v^s - 1),       (6)

and at most one fails: F'(1) F'(1/v) <= 1 because 1 + v + ... + v^(s-1) >= s v^((s-1)/2). A failure of the first
means that any noise loses the class, of the second that no noise below eps = 1 does.

Levels count from the root, 0, to the leaves, `depth`. All quantities are dimensionless.
Source: Sclocchi, Favero & Wyart, arXiv:2402.16991 for (1) and the first condition of (6); Sclocchi, Favero, Levi &
Wyart, arXiv:2410.13770 for nu; (3)-(6) derived here.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..domain import Grid, Number, count, grid, inside
from .sizes import takes_sizes

Belief = Float[Array, "*grid"] | float


class LevelBeliefs(eqx.Module):
    """Beliefs in the truth at every level, root first: from below (1), from above (3), and both together (4)."""

    upward: Float[Array, "levels *grid"]
    downward: Float[Array, "levels *grid"]
    marginal: Float[Array, "levels *grid"]


@takes_sizes
def up_map(p: Grid, num_symbols: int, num_synonyms: int, branching: int) -> Belief:
    """Belief in a parent's true symbol from children that each believe in theirs with p in [0, 1]: equation (1).

    Of a Python number it is a Python number, in double precision whatever JAX is set to.

    Raises:
      ValueError: if a size is not a whole number, v < 2, s < 2, or m is outside 1 .. v^(s-1), beyond which rules cannot
        be unambiguous; if p lies outside [0, 1] (under `jax.jit` the result is NaN there).

    Source: Sclocchi, Favero & Wyart, arXiv:2402.16991.
    """
    return _up(_belief("p", p), num_symbols, num_synonyms, branching)


@takes_sizes
def up_slope(p: Grid, num_symbols: int, num_synonyms: int, branching: int) -> Belief:
    """Derivative F'(p), equation (2): above 1 at a fixed point that repels. Errors as in `up_map`."""
    f, g = _other_rules(num_symbols, num_synonyms, branching)
    p = _belief("p", p)
    true_tuple = p**branching
    return branching * p ** (branching - 1) * (f - g) / (true_tuple + f * (1 - true_tuple)) ** 2


@takes_sizes
def down_map(q: Grid, p: Grid, num_symbols: int, num_synonyms: int, branching: int) -> Belief:
    """Belief sent down to a child: q in [0, 1] reaches its parent from above, p each sibling from below, equation (3).

    At q = p = 1/v the result is slightly above 1/v: a symbol that occurs is known to appear in a rule. Errors as in
    `up_map`.
    """
    return _down(_belief("q", q), _belief("p", p), num_symbols, num_synonyms, branching)


@takes_sizes
def level_beliefs(noise: Grid, depth: Number, num_symbols: int, num_synonyms: int, branching: int) -> LevelBeliefs:
    """Beliefs at levels 0 (root) .. depth (leaves) when every leaf is noised with eps = `noise` in [0, 1].

    Raises:
      ValueError: as in `up_map`, if depth is not a whole number of at least 1, or if the noise lies outside [0, 1]
        (under `jax.jit` the beliefs are NaN there).
    """
    depth = count("depth", depth, 1)
    grammar = (num_symbols, num_synonyms, branching)
    noise = grid("noise", noise, 0, 1)

    upward: list[Belief] = [1 - noise + noise / num_symbols]
    for _ in range(depth):
        upward.insert(0, _up(upward[0], *grammar))

    downward: list[Belief] = [jnp.full_like(noise, 1 / num_symbols)]
    for p in upward[1:]:
        downward.append(_down(downward[-1], p, *grammar))

    p, q = jnp.stack(upward), jnp.stack(downward)
    return LevelBeliefs(p, q, jnp.asarray(_both(p, q, num_symbols)))


def marginal_belief(p: Grid, q: Grid, num_symbols: Number) -> Belief:
    """P, equation (4): belief in the truth of a node that is sent p from below and q from above, all in [0, 1].

    Raises:
      ValueError: if p or q lie outside (under `jax.jit` the result is NaN there), or v is not a whole number of at
        least 2.
    """
    return _both(_belief("p", p), _belief("q", q), count("num_symbols", num_symbols, 2))


@takes_sizes
def transition_exists(num_symbols: int, num_synonyms: int, branching: int) -> bool:
    """Whether a critical noise strictly between 0 and 1 separates class kept from class lost: both conditions (6).

    Errors as in `up_map`.
    """
    kept, lost = _attractors(num_symbols, num_synonyms, branching)
    return kept and lost


@takes_sizes
def fixed_point(num_symbols: int, num_synonyms: int, branching: int) -> float:
    """The belief p* in (1/v, 1) that equation (1) leaves unchanged and repels: the root of H in (5).

    Raises:
      ValueError: as in `up_map`, or if there is no transition, hence no such fixed point.
    """
    from scipy.optimize import root_scalar  # here, because it takes longer to import than all of this package

    kept, lost = _attractors(num_symbols, num_synonyms, branching)
    if not (kept and lost):
        fate, advice = ("never", "raise") if kept else ("always", "lower")
        raise ValueError(
            f"(num_symbols, num_synonyms, branching) = {num_symbols, num_synonyms, branching} has no transition: as "
            f"the depth grows the class is {fate} lost; {advice} num_synonyms"
        )
    f, g = _other_rules(num_symbols, num_synonyms, branching)
    c = f / num_symbols - g

    def remainder(p: float) -> float:
        h = [_power_sum(k, p, 1 / num_symbols) for k in range(1, branching + 1)]
        return h[-1] - f * _power_sum(branching, p, 1.0) - c * math.fsum(h[:-1])

    return root_scalar(remainder, bracket=(1 / num_symbols, 1.0), method="brentq", xtol=1e-15).root


@takes_sizes
def critical_noise(num_symbols: int, num_synonyms: int, branching: int) -> float:
    """Noise above which the class is lost in an infinitely deep hierarchy: eps* = (1 - p*) v / (v - 1).

    Returns:
      eps* in [0, 1]; `inf` if no noise below 1 loses the class, 0 if any noise does.
    Raises:
      ValueError: as in `up_map`.

    For the epsilon-process only. A true channel has a broad law of messages and another threshold: see
    `density_evolution.critical_noise`.
    """
    kept, lost = _attractors(num_symbols, num_synonyms, branching)
    if not lost:
        return math.inf
    if not kept:
        return 0.0
    return (1 - fixed_point(num_symbols, num_synonyms, branching)) * num_symbols / (num_symbols - 1)


@takes_sizes
def correlation_exponent(num_symbols: int, num_synonyms: int, branching: int) -> float:
    """Exponent nu = ln s / ln F'(p*) of the correlation length xi ~ |eps - eps*|^-nu, counted in leaves.

    A departure from p* grows by F'(p*) per level, and one level is a factor s in length. Positive; errors as in
    `fixed_point`.

    Source: Sclocchi, Favero, Levi & Wyart, arXiv:2410.13770.
    """
    p = fixed_point(num_symbols, num_synonyms, branching)
    return math.log(branching) / math.log(up_slope(p, num_symbols, num_synonyms, branching))


def _up(p: Belief, num_symbols: int, num_synonyms: int, branching: int) -> Belief:
    """Equation (1)."""
    f, g = _other_rules(num_symbols, num_synonyms, branching)
    true_tuple = p**branching
    return (true_tuple + g * (1 - true_tuple)) / (true_tuple + f * (1 - true_tuple))


def _down(q: Belief, p: Belief, num_symbols: int, num_synonyms: int, branching: int) -> Belief:
    """Equation (3)."""
    siblings = p ** (branching - 1)
    others = (num_synonyms - q) / float(num_symbols**branching - 1)
    return (q * siblings + others * (1 - siblings)) / (q * siblings + others * (num_symbols - siblings))


def _both(p: Belief, q: Belief, num_symbols: int) -> Belief:
    """Equation (4)."""
    truth = p * q
    return truth / (truth + (1 - p) * (1 - q) / (num_symbols - 1))


def _other_rules(num_symbols: int, num_synonyms: int, branching: int) -> tuple[float, float]:
    """f and g of equation (1)."""
    other_tuples = num_symbols**branching - 1
    return (num_synonyms * num_symbols - 1) / other_tuples, (num_synonyms - 1) / other_tuples


def _attractors(num_symbols: int, num_synonyms: int, branching: int) -> tuple[bool, bool]:
    """Whether p = 1 and p = 1/v attract: the two conditions (6), in whole numbers."""
    v, m, s = num_symbols, num_synonyms, branching
    return s * m * (v - 1) < v**s - 1, s * v ** (s - 1) * (v - 1) < m * (v**s - 1)


def _power_sum(k: int, x: float, y: float) -> float:
    """S_k(x, y) of equation (5)."""
    return math.fsum(x ** (k - 1 - j) * y**j for j in range(k))


def _belief(name: str, value: Grid) -> Belief:
    """A belief in [0, 1]: a Python float if a Python number is given, else an array of floats."""
    if isinstance(value, float | int):
        return inside(name, float(value), 0.0, 1.0)
    return grid(name, value, 0, 1)
