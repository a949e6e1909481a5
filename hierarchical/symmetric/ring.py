r"""Points around a circle, whose symmetry O(2) two knobs break.

    x = r (cos theta, sin theta),      r = 1 + noise n,  n ~ N(0, 1),      p(theta) ~ 1 + a cos 2 theta            (1)

With a = 0 every rotation leaves the law as it is, and both features have the same variance; a splits this pair:

    Cov = (1 + noise^2) / 2 diag(1 + a / 2, 1 - a / 2).                                                            (2)

Derived here: E cos^2 theta = 1/2 + a/4.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arguments import Given, Whole, as_whole
from ..mixture.gaussian import GaussianMixture
from .law import AbstractSymmetric, Counts, anisotropic_angle, knob, plane_rotation
from .quadrature import normal_rule

NUM_RADII = 12  # of the quadrature


class Ring(AbstractSymmetric):
    """The law of equation (1)."""

    anisotropy: Float[Array, ""]
    """a; 0 for the full symmetry."""
    noise: Float[Array, ""]
    """Standard deviation of the radius."""

    def __init__(self, anisotropy: Given = 0.0, noise: Given = 0.0):
        """Raises ValueError unless -1 <= anisotropy <= 1 and noise >= 0."""
        self.anisotropy, self.noise = knob("anisotropy", anisotropy, 1.0, -1.0), knob("noise", noise)

    @property
    def parameter_names(self):
        return "angle", "radial noise, standard normal"

    @property
    def feature_names(self):
        return "x", "y"

    @property
    def counts(self):
        return Counts(2, 1 + bool(self.noise > 0), 2)

    def covariance(self):
        """Equation (2)."""
        split = jnp.array([1.0, -1.0]) * self.anisotropy / 2
        return jnp.diag((1 + self.noise**2) / 2 * (1 + split))

    def rotations(self):
        """The rotation of the plane if a = 0, else none."""
        return plane_rotation(2, ((0, 1),))[: int(self.anisotropy == 0)]

    def draw_parameters(self, key):
        angle_key, radius_key = jax.random.split(key)
        dtype = self.noise.dtype
        angle = anisotropic_angle(angle_key, self.anisotropy).astype(dtype)
        return jnp.stack([angle, jax.random.normal(radius_key, (), dtype)])

    def map(self, parameters):
        angle, normal = parameters
        return (1 + self.noise * normal) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def quadrature(self, num_angles: Whole = 512) -> GaussianMixture:
        """The law as weighted points, so that its score is known with noise: `MixtureDenoiser` takes it.

        The error falls faster than any power of the number of points once neighbours are closer than the noise.
        """
        count = as_whole("num_angles", num_angles, 3)
        nodes, weights = normal_rule(NUM_RADII if self.noise > 0 else 1)
        angle, normal = jnp.meshgrid(jnp.arange(count, dtype=float) * (2 * math.pi / count), nodes, indexing="ij")
        density = (1 + self.anisotropy * jnp.cos(2 * angle)) * weights[None]
        points = self.features(jnp.stack([angle, normal], -1).reshape(-1, 2))
        return GaussianMixture(density.reshape(-1), points, 0.0)
