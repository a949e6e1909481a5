r"""Collisions and bodies in motion: conserved momentum and energy as linear and quadratic constraints.

A collision of two bodies on a line, in mass-weighted momenta q_i = p_i / m_i^(1/2), so that energy is |q|^2 / 2. With
c = (m_1^(1/2), m_2^(1/2)) / M^(1/2) along the total momentum and r across it,

    q' . c = q . c,         q' . r = -e q . r,         q ~ N(0, 1),                                                (1)

e being the restitution, 1 if elastic. The features (q, q') have Cov = [[1, F'], [F, F F']]: eigenvalues 2, 2, 0, 0 at
e = 1. Here e = 1 - spread u, u uniform in [0, 1): the spread adds a direction, of variance spread^2 / 24 to lowest
order, from the eigenvalues of the block of r, [[1, -E e], [-E e, E e^2]].

N equal bodies in D dimensions with total momentum 0: p = z - mean(z), z ~ N(0, 1), scaled to |p|^2 = N D - D at fixed
energy. A leak adds leak w / N^(1/2), w ~ N(0, 1_D), to every body: variance leak^2 along each of D directions.

Derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arguments import Given, Whole, as_numbers, as_whole
from .law import AbstractSymmetric, Counts, in_span, knob, plane_rotation


class Collision(AbstractSymmetric):
    """Two bodies on a line, equation (1); features (q_1, q_2, q_1', q_2')."""

    masses: Float[Array, "2"]
    spread: Float[Array, ""]
    """Of the restitution; 0 for elastic collisions."""

    def __init__(self, masses: Given = (1.0, 2.0), spread: Given = 0.0):
        """Raises ValueError unless the masses are two positive numbers and 0 <= spread <= 1."""
        self.masses, self.spread = as_numbers(masses), knob("spread", spread, 1.0)
        if self.masses.shape != (2,) or not bool(jnp.all((self.masses > 0) & jnp.isfinite(self.masses))):
            raise ValueError(f"masses = {masses}: give two positive numbers")

    @property
    def parameter_names(self):
        return "q1", "q2", "restitution, uniform in [0, 1)"

    @property
    def feature_names(self):
        return "q1 before", "q2 before", "q1 after", "q2 after"

    @property
    def counts(self):
        return Counts(*(3 * (2 + bool(self.spread > 0),)))

    @property
    def _directions(self) -> Float[Array, "2 2"]:
        """Rows: c and r."""
        c = jnp.sqrt(self.masses / jnp.sum(self.masses))
        return jnp.stack([c, jnp.array([c[1], -c[0]])])

    def covariance(self):
        c, r = (jnp.outer(direction, direction) for direction in self._directions)
        mean, square = 1 - self.spread / 2, 1 - self.spread + self.spread**2 / 3  # of the restitution
        return jnp.block([[jnp.eye(2), c - mean * r], [c - mean * r, c + square * r]])

    def rotations(self):
        """Of elastic collisions the rotation of q, with q'; else none."""
        frame = jnp.kron(jnp.eye(2), self._directions)
        turn = frame.T @ plane_rotation(4, ((0, 1), (3, 2))) @ frame
        c, r = self._directions
        span = jnp.stack([jnp.concatenate([c, c]), jnp.concatenate([r, -r])], 1) / 2**0.5
        return in_span(turn, span)[: int(self.spread == 0)]

    def draw_parameters(self, key):
        momenta_key, restitution_key = jax.random.split(key)
        dtype = self.masses.dtype
        restitution = jax.random.uniform(restitution_key, (1,), dtype)
        return jnp.concatenate([jax.random.normal(momenta_key, (2,), dtype), restitution])

    def map(self, parameters):
        before = parameters[:2]
        total, relative = self._directions @ before
        after = jnp.stack([total, -(1 - self.spread * parameters[2]) * relative]) @ self._directions
        return jnp.concatenate([before, after])


class Bodies(AbstractSymmetric):
    """N bodies of equal mass in D dimensions, seen where their total momentum is 0; features p, body by body."""

    leak: Float[Array, ""]
    """Standard deviation of the total momentum along each axis, over N^(1/2)."""
    num_bodies: int = eqx.field(static=True)
    num_dimensions: int = eqx.field(static=True)
    fixed_energy: bool = eqx.field(static=True)

    def __init__(
        self, num_bodies: Whole = 4, num_dimensions: Whole = 2, *, fixed_energy: bool = False, leak: Given = 0.0
    ):
        """Raises ValueError for fewer than two bodies, no dimension, or a negative leak."""
        self.num_bodies = as_whole("num_bodies", num_bodies, 2)
        self.num_dimensions = as_whole("num_dimensions", num_dimensions, 1)
        self.fixed_energy, self.leak = bool(fixed_energy), knob("leak", leak)

    @property
    def parameter_names(self):
        leaks = (f"total momentum {axis}, standard normal" for axis in range(self.num_dimensions))
        return *(f"z of {name}" for name in self.feature_names), *leaks

    @property
    def feature_names(self):
        return tuple(f"p{body}{axis}" for body in range(self.num_bodies) for axis in range(self.num_dimensions))

    @property
    def counts(self):
        free = (self.num_bodies - 1) * self.num_dimensions
        linear = free + self.num_dimensions * bool(self.leak > 0)
        return Counts(linear, linear - self.fixed_energy, linear)

    def _spans(self) -> tuple[Float[Array, "d free"], Float[Array, "d D"]]:
        """Orthonormal columns of the directions without total momentum, and of those with it."""
        axes = np.linalg.svd(np.eye(self.num_bodies) - 1 / self.num_bodies)[0]
        both = (jnp.kron(jnp.asarray(part), jnp.eye(self.num_dimensions)) for part in (axes[:, :-1], axes[:, -1:]))
        free, total = both
        return free, total

    def covariance(self):
        free, total = self._spans()
        return free @ free.T + self.leak**2 * (total @ total.T)

    def rotations(self):
        """All of the relative momenta, and of the total if it leaks; not those that mix both, which leak 1 has too."""
        spans = self._spans()[: 1 + bool(self.leak > 0)]
        return jnp.concatenate([_rotations_within(span) for span in spans])

    def draw_parameters(self, key):
        count = (self.num_bodies + 1) * self.num_dimensions
        return jax.random.normal(key, (count,), self.leak.dtype)

    def map(self, parameters):
        z, leaked = jnp.split(parameters.reshape(-1, self.num_dimensions), [self.num_bodies])
        p = z - jnp.mean(z, 0, keepdims=True)
        if self.fixed_energy:
            free = (self.num_bodies - 1) * self.num_dimensions
            p = p * jnp.sqrt(free / jnp.sum(p**2))
        return (p + self.leak * leaked / self.num_bodies**0.5).reshape(-1)


def _rotations_within(span: Float[Array, "d q"]) -> Float[Array, "g d d"]:
    q = span.shape[1]
    planes = [plane_rotation(q, ((i, j),))[0] for i in range(q) for j in range(i + 1, q)]
    each = jnp.stack(planes) if planes else jnp.zeros((0, q, q))
    return jnp.einsum("iq,gqr,jr->gij", span, each, span)
