r"""Four-vectors (E, p_x, p_y, p_z) with c = 1: their product, Lorentz transformations, and particles on a mass shell.

    p . q = E_p E_q - p_x q_x - p_y q_y - p_z q_z,        p . p = m^2.                                             (1)

A transformation is exp(A) with g A antisymmetric, g = diag(1, -1, -1, -1): three boosts and three rotations. No law of
finite mass is invariant under all of them; the shell (1) is.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..arguments import Given, Whole, as_whole, as_widest
from ..mixture.gaussian import GaussianMixture
from .law import AbstractSymmetric, Counts, knob, plane_rotation
from .quadrature import length_rule

REACH = 5.0  # standard deviations of the momentum that the grid covers
NUM_LENGTHS = 256  # of the momentum, in the covariance


def minkowski(p: Given, q: Given) -> Float[Array, "*batch"]:
    """p . q of vectors (..., 1 + n), equation (1); in units of their product."""
    return _product(*_over_batch(*as_widest(p, q)))


@functools.partial(jnp.vectorize, signature="(d),(d)->()")
def _product(p: Float[Array, " d"], q: Float[Array, " d"]) -> Float[Array, ""]:
    return p[0] * q[0] - p[1:] @ q[1:]


def boost(p: Given, momentum: Given, mass: Given) -> Float[Array, "*batch _four"]:
    """Vectors (..., 1 + n) at rest seen where their frame moves with a momentum (..., n) of a particle of that mass.

    With g = momentum / mass and gamma = (1 + g^2)^(1/2):  E' = gamma E + g . p,  p' = p + g (E + g . p / (1 + gamma)).
    """
    p, momentum, mass = as_widest(p, momentum, mass)
    p, momentum = _over_batch(p, momentum, batch=mass.shape)
    return _boosted(p, momentum, jnp.broadcast_to(mass, p.shape[:-1]))


@functools.partial(jnp.vectorize, signature="(d),(n),()->(d)")
def _boosted(p: Float[Array, " d"], momentum: Float[Array, " n"], mass: Float[Array, ""]) -> Float[Array, " d"]:
    g = momentum / mass
    gamma, along = jnp.sqrt(1 + g @ g), g @ p[1:]
    return jnp.concatenate([(gamma * p[0] + along)[None], p[1:] + g * (p[0] + along / (1 + gamma))])


def _over_batch(*vectors: Float[Array, "..."], batch: tuple[int, ...] = ()) -> list[Float[Array, "..."]]:
    """Vectors with the batch axes that all of them share after broadcasting."""
    shape = np.broadcast_shapes(batch, *(vector.shape[:-1] for vector in vectors))
    return [jnp.broadcast_to(vector, (*shape, vector.shape[-1])) for vector in vectors]


def lorentz_generators(num_dimensions: Whole = 3) -> Float[Array, "g d d"]:
    """The n boosts, axis by axis, then the n (n - 1) / 2 rotations, of vectors (E, p) with n numbers in p."""
    n = as_whole("num_dimensions", num_dimensions, 1)
    boosts = [jnp.zeros((1, 1 + n, 1 + n)).at[0, 0, 1 + i].set(1.0).at[0, 1 + i, 0].set(1.0) for i in range(n)]
    turns = [plane_rotation(1 + n, ((1 + i, 1 + j),)) for i in range(n) for j in range(i + 1, n)]
    return jnp.concatenate([*boosts, *turns])


class MassShell(AbstractSymmetric):
    """Particles of one mass whose momentum is normal in each of n directions; features (E, p), in units of the mass."""

    spread: Float[Array, ""]
    """Standard deviation of a component of the momentum."""
    num_dimensions: int = eqx.field(static=True)

    def __init__(self, num_dimensions: Whole = 3, spread: Given = 1.0):
        """Raises ValueError unless n >= 1 and the spread is positive."""
        self.num_dimensions = as_whole("num_dimensions", num_dimensions, 1)
        self.spread = knob("spread", spread)
        if not isinstance(self.spread, Tracer) and not self.spread > 0:
            raise ValueError(f"spread = {spread}: a particle at rest has no symmetry; give a positive number")

    @property
    def parameter_names(self):
        return tuple(f"p{axis}" for axis in range(self.num_dimensions))

    @property
    def feature_names(self):
        return "E", *self.parameter_names

    @property
    def counts(self):
        return Counts(1 + self.num_dimensions, self.num_dimensions, self.num_dimensions)

    @eqx.filter_jit
    def covariance(self):
        """spread^2 for each momentum; of the energy by quadrature."""
        lengths, n = length_rule(NUM_LENGTHS, self.num_dimensions), self.num_dimensions
        energy = lengths.weights @ jnp.sqrt(1 + (self.spread * lengths.nodes) ** 2)
        momenta = jnp.full(n, self.spread**2)
        return jnp.diag(jnp.concatenate([(1 + n * self.spread**2 - energy**2)[None], momenta]))

    def rotations(self):
        """Those of the momentum."""
        return lorentz_generators(self.num_dimensions)[self.num_dimensions :]

    def draw_parameters(self, key):
        return self.spread * jax.random.normal(key, (self.num_dimensions,), self.spread.dtype)

    def map(self, parameters):
        return jnp.concatenate([jnp.sqrt(1 + jnp.sum(parameters**2, keepdims=True)), parameters])

    def quadrature(self, points_per_axis: Whole = 100) -> GaussianMixture:
        """The law as weighted points on a grid, so that its score is known with noise: `MixtureDenoiser` takes it.

        Momenta reach up to five standard deviations along each axis, neighbours on the grid are 10 spread /
        points_per_axis apart: the error falls faster than any power once that is less than the noise.
        """
        count = as_whole("points_per_axis", points_per_axis, 2)
        axis = REACH * (2 * (jnp.arange(count, dtype=float) + 0.5) / count - 1)
        grid = jnp.stack(jnp.meshgrid(*(self.num_dimensions * (axis,))), -1).reshape(-1, self.num_dimensions)
        return GaussianMixture(jnp.exp(-jnp.sum(grid**2, 1) / 2), self.features(self.spread * grid), 0.0)
