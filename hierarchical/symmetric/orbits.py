r"""Phase space of two systems on a plane, with some of their conserved quantities held fixed.

Oscillator, (x, y, p_x, p_y) in units of its mass and frequency: x = (2 E_x)^(1/2) cos phi_x, p_x = -(2 E_x)^(1/2) sin
phi_x, and so for y. Held fixed, in turn: the energy E_x + E_y = 2 (E_x uniform, the microcanonical law), both energies
(1 each), the orbit (phi_y - phi_x = pi / 3). With nothing fixed the energies are exponential, of mean 1, and all
features normal. The knob a breaks the symmetry of x and y: (x, p_x) times (1 + a)^(1/2), (y, p_y) times (1 - a)^(1/2).

Kepler, (x, y, v_x, v_y) with G M = 1: an ellipse of semi-major axis A and eccentricity e, turned by omega, at the
eccentric anomaly eta of density 1 - e cos eta, which is uniform in time,

    A (cos eta - e, (1 - e^2)^(1/2) sin eta),    A^(-1/2) (-sin eta, (1 - e^2)^(1/2) cos eta) / (1 - e cos eta).   (1)

Held fixed, in turn: the energy (A = 1; else A uniform in [.8, 1.2)), the angular momentum too (e = 1/2; else e uniform
in [.2, .8)), the orbit (omega = 0; else omega of density 1 + a cos 2 omega, whose knob a breaks the rotations).

All features have variance in four linear dimensions, but for one orbit of the oscillator, which spans two: its features
are linear in cos phi and sin phi. Derived here.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arguments import Given, Whole, as_whole
from .law import AbstractSymmetric, Counts, anisotropic_angle, in_span, knob, plane_rotation, rejection
from .quadrature import interval_rule, weighted_covariance

ORBIT = 3  # conserved quantities that hold a single orbit
PHASE = math.pi / 3  # of y before x on the orbit of the oscillator
AXIS, ECCENTRICITY = (0.8, 1.2), (0.2, 0.8)  # of Kepler's ellipses where they are not fixed
NUM_NODES, NUM_DIRECTIONS, NUM_ANOMALIES = 12, 8, 128  # of the quadrature


class Oscillator(AbstractSymmetric):
    """A harmonic oscillator in two dimensions; features (x, y, p_x, p_y)."""

    anisotropy: Float[Array, ""]
    """a; 0 for equal laws of x and y."""
    num_fixed: int = eqx.field(static=True)
    """Conserved quantities held fixed: none, the energy, both energies, or all three of an orbit."""

    def __init__(self, num_fixed: Whole = 0, anisotropy: Given = 0.0):
        """Raises ValueError unless 0 <= num_fixed <= 3 and -1 < anisotropy < 1."""
        self.num_fixed, self.anisotropy = _num_fixed(num_fixed), knob("anisotropy", anisotropy, 0.999, -0.999)

    @property
    def parameter_names(self):
        return "energy of x, uniform in [0, 1)", "energy of y, uniform in [0, 1)", "phase of x", "phase of y"

    @property
    def feature_names(self):
        return "x", "y", "px", "py"

    @property
    def counts(self):
        return (Counts(4, 4, 4), Counts(4, 3, 4), Counts(4, 2, 3), Counts(2, 1, 2))[self.num_fixed]

    @property
    def _scales(self) -> Float[Array, " 4"]:
        return jnp.sqrt(1 + self.anisotropy * jnp.array([1.0, -1.0, 1.0, -1.0]))

    def covariance(self):
        """E x^2 = E p_x^2 = 1 + a, E y^2 = E p_y^2 = 1 - a; on an orbit x and y are correlated."""
        c, s = (math.cos(PHASE), math.sin(PHASE)) if self.num_fixed == ORBIT else (0.0, 0.0)
        unscaled = jnp.array([[1.0, c, 0.0, -s], [c, 1.0, s, 0.0], [0.0, s, 1.0, c], [-s, 0.0, c, 1.0]])
        return unscaled * jnp.outer(self._scales, self._scales)

    def rotations(self):
        """Of two equal, free energies all six planes; else the two of phase space, turned as one on an orbit."""
        if self.num_fixed < 2 and self.anisotropy == 0:
            return jnp.concatenate([plane_rotation(4, ((i, j),)) for i in range(4) for j in range(i + 1, 4)])
        if self.num_fixed < ORBIT:
            return jnp.concatenate([plane_rotation(4, ((0, 2),)), plane_rotation(4, ((1, 3),))])
        span = jnp.linalg.eigh(self.covariance())[1][:, 2:]
        return in_span(plane_rotation(4, ((0, 2), (1, 3))), span)

    def draw_parameters(self, key):
        uniform = jax.random.uniform(key, (4,), self.anisotropy.dtype)
        return uniform * jnp.array([1.0, 1.0, 2 * math.pi, 2 * math.pi])

    def map(self, parameters):
        first, second, phase_x, phase_y = parameters
        if self.num_fixed == 0:
            energy = -jnp.log1p(-jnp.stack([first, second]))
        elif self.num_fixed == 1:
            energy = 2 * jnp.stack([first, 1 - first])
        else:
            energy = jnp.ones(2)
        phase = jnp.stack([phase_x, phase_x + PHASE if self.num_fixed == ORBIT else phase_y])
        radius = jnp.sqrt(2 * energy)
        return self._scales * jnp.concatenate([radius * jnp.cos(phase), -radius * jnp.sin(phase)])


class Kepler(AbstractSymmetric):
    """A planet around a sun, in its plane, equation (1); features (x, y, v_x, v_y)."""

    anisotropy: Float[Array, ""]
    """a; 0 for ellipses in all directions alike."""
    num_fixed: int = eqx.field(static=True)
    """Conserved quantities held fixed: none, the energy, the angular momentum too, or all three of an orbit."""

    def __init__(self, num_fixed: Whole = 0, anisotropy: Given = 0.0):
        """Raises ValueError unless 0 <= num_fixed <= 3 and -1 <= anisotropy <= 1."""
        self.num_fixed, self.anisotropy = _num_fixed(num_fixed), knob("anisotropy", anisotropy, 1.0, -1.0)

    @property
    def parameter_names(self):
        return "axis, uniform in [0, 1)", "eccentricity, uniform in [0, 1)", "direction", "eccentric anomaly"

    @property
    def feature_names(self):
        return "x", "y", "vx", "vy"

    @property
    def counts(self):
        return Counts(4, 4 - self.num_fixed, (4, 3, 3, 2)[self.num_fixed])

    @eqx.filter_jit
    def covariance(self):
        """By quadrature."""
        uniform, one = interval_rule(NUM_NODES, 0.0, 1.0), interval_rule(1, 0.0, 1.0)
        directions, anomalies = (
            jnp.arange(n, dtype=float) * (2 * math.pi / n) for n in (NUM_DIRECTIONS, NUM_ANOMALIES)
        )
        axes = uniform if self.num_fixed < 1 else one
        shapes = uniform if self.num_fixed < 2 else one
        grid = jnp.meshgrid(axes.nodes, shapes.nodes, directions, anomalies, indexing="ij")
        eccentricity = self._ellipse(grid[0], grid[1])[1]
        weights = jnp.einsum("a,e->ae", axes.weights, shapes.weights)[:, :, None, None] * (
            (1 - eccentricity * jnp.cos(grid[3])) * (1 + self.anisotropy * jnp.cos(2 * grid[2]))
        )
        return weighted_covariance(self.features(jnp.stack(grid, -1).reshape(-1, 4)), weights.reshape(-1))

    def rotations(self):
        """The rotation of the plane if a = 0 and the orbit is not fixed, else none."""
        turn = plane_rotation(4, ((0, 1), (2, 3)))
        return turn[: int(self.num_fixed < ORBIT and self.anisotropy == 0)]

    def draw_parameters(self, key):
        ellipse_key, direction_key, anomaly_key = jax.random.split(key, 3)
        dtype = self.anisotropy.dtype
        ellipse = jax.random.uniform(ellipse_key, (2,), dtype)
        eccentricity = self._ellipse(*ellipse)[1]

        def angle(key):
            return jax.random.uniform(key, (), dtype, 0, 2 * math.pi)

        direction = anisotropic_angle(direction_key, self.anisotropy)
        anomaly = rejection(anomaly_key, angle, lambda eta: (1 - eccentricity * jnp.cos(eta)) / (1 + eccentricity))
        return jnp.concatenate([ellipse, jnp.stack([direction, anomaly])])

    def map(self, parameters):
        axis, eccentricity = self._ellipse(parameters[0], parameters[1])
        direction = parameters[2] if self.num_fixed < ORBIT else jnp.zeros_like(parameters[2])
        cosine, sine = jnp.cos(parameters[3]), jnp.sin(parameters[3])
        width, slowness = jnp.sqrt(1 - eccentricity**2), 1 - eccentricity * cosine
        place = axis * jnp.stack([cosine - eccentricity, width * sine])
        velocity = jnp.stack([-sine, width * cosine]) / (jnp.sqrt(axis) * slowness)
        c, s = jnp.cos(direction), jnp.sin(direction)
        turn = jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])
        return jnp.concatenate([turn @ place, turn @ velocity])

    def _ellipse(self, u, v) -> tuple[Array, Array]:
        """Semi-major axis and eccentricity of uniform numbers; the middle of its range is what is fixed."""
        of_axis, of_shape = (u, v) if self.num_fixed == 0 else (jnp.full_like(u, 0.5), v)
        of_shape = of_shape if self.num_fixed < 2 else jnp.full_like(v, 0.5)
        return AXIS[0] + (AXIS[1] - AXIS[0]) * of_axis, ECCENTRICITY[0] + (ECCENTRICITY[1] - ECCENTRICITY[0]) * of_shape


def _num_fixed(number: Whole) -> int:
    fixed = as_whole("num_fixed", number, 0)
    if fixed > ORBIT:
        raise ValueError(f"num_fixed = {fixed}: three conserved quantities hold an orbit; give 0 .. {ORBIT}")
    return fixed
