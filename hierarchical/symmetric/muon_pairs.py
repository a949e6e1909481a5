r"""e+ e- -> mu+ mu- at fixed energy, with a spread of the beams' energies and radiation of one beam.

Two four-momenta (E, p_x, p_y, p_z), in units of the energy of a beam, masses neglected, beams along z. In the frame of
the pair cos theta = c has the density 1 + c^2, and phi is uniform. Beams of energies x_1 and x_2 give in the laboratory

    E = (x_1 + x_2 +- c (x_1 - x_2)) / 2,  p_z = (x_1 - x_2 +- c (x_1 + x_2)) / 2,  p_T = +-(x_1 x_2)^(1/2) sin theta,

upper signs for mu-, lower for mu+. Knobs:

    beam spread      x_i = 1 + spread n_i,  n_i ~ N(0, 1): variance spread^2 of (E + E') / 2^(1/2) and (p_z + p_z') /
                     2^(1/2), .4 spread^2 of (E - E') / 2^(1/2), which momentum conservation forbids at spread 0;
    radiation        one beam keeps x_1 = (1 + spread n_1) (1 - z), z of density beta z^(beta - 1): photons along it,
                     beta = (2 alpha / pi) (ln(s / m_e^2) - 1), which is .1077 at s^(1/2) = 91.19 GeV.             (1)

With radiation of one beam alone E + E' - p_z - p_z' = 2 x_2 stays fixed, so the linear rank is 5, with both knobs 6.
Derived here. Source of (1): Kuraev and Fadin, Sov. J. Nucl. Phys. 41, 466 (1985).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arguments import Given, Whole, as_numbers, as_whole
from ..mixture.gaussian import GaussianMixture
from .law import AbstractSymmetric, Counts, in_span, knob, plane_rotation
from .quadrature import interval_rule

FINE_STRUCTURE, ELECTRON_MASS = 1 / 137.035999, 0.51099895e-3  # GeV
POLAR, AZIMUTHAL = 0.4, 0.3  # means of c^2, and of each transverse square of the direction, for 1 + c^2


def radiation_exponent(energy: Given) -> Float[Array, "*batch"]:
    """beta of equation (1), of e+ and e- together; the energy s^(1/2) in GeV."""
    return 2 * FINE_STRUCTURE / math.pi * (2 * jnp.log(as_numbers(energy) / ELECTRON_MASS) - 1)


class MuonPairs(AbstractSymmetric):
    """The law of this file's head; features (E, p_x, p_y, p_z) of mu- and of mu+, in units of the beam energy."""

    spread: Float[Array, ""]
    """Of the energy of each beam, relative."""
    radiation: Float[Array, ""]
    """beta of the beam that radiates; 0: none does."""

    def __init__(self, spread: Given = 0.0, radiation: Given = 0.0):
        """Raises ValueError unless 0 <= spread <= .15, so that no energy is negative, and 0 <= radiation <= 1."""
        self.spread, self.radiation = knob("spread", spread, 0.15), knob("radiation", radiation, 1.0)

    @property
    def parameter_names(self):
        energies = "energy of beam 1, standard normal", "energy of beam 2, standard normal"
        return "cos theta", "phi", *energies, "radiation, uniform in [0, 1)"

    @property
    def feature_names(self):
        return four_momenta("mu")

    @property
    def counts(self):
        spread, radiation = bool(self.spread > 0), bool(self.radiation > 0)
        intrinsic = 2 + (2 if spread else radiation)  # c, phi, and the energies of the beams that vary
        return Counts(6 if spread else 3 + 2 * radiation, intrinsic, max(3, intrinsic))

    @eqx.filter_jit
    def covariance(self):
        """From E (1 - z) = 1 / (1 + beta), E (1 - z)^2 = 2 / ((1 + beta) (2 + beta)), and E c^2 = .4."""
        b, spread = self.radiation, 1 + self.spread**2
        kept, product = 1 / (1 + b), 1 / (1 + b)  # E x_1, E x_1 x_2
        square, other = 2 / ((1 + b) * (2 + b)) * spread, jnp.asarray(spread)  # E x_1^2, E x_2^2
        first, second = square - kept**2, other - 1  # variances of x_1, x_2
        total = _energy_and_z(first + second, first - second, first + second, jnp.zeros_like(b))
        plus, minus = square + other + 2 * product, square + other - 2 * product  # E (x_1 +- x_2)^2
        across = 4 * AZIMUTHAL * product
        return pair_covariance(total, _energy_and_z(POLAR * minus, POLAR * (square - other), POLAR * plus, across))

    def rotations(self):
        """The rotation around the beams."""
        return axial_rotation(self.covariance(), self.counts.linear)

    def draw_parameters(self, key):
        direction_key, normal_key, radiation_key = jax.random.split(key, 3)
        dtype = self.spread.dtype
        normals = jax.random.normal(normal_key, (2,), dtype)
        radiated = jax.random.uniform(radiation_key, (1,), dtype)
        return jnp.concatenate([decay_direction(direction_key, dtype), normals, radiated])

    def map(self, parameters):
        c, phi, first, second, radiated = parameters
        radiates = self.radiation > 0
        exponent = 1 / jnp.where(radiates, self.radiation, 1.0)
        lost = jnp.where(radiates, jnp.where(radiates, radiated, 0.5) ** exponent, 0.0)
        x1, x2 = (1 + self.spread * first) * (1 - lost), 1 + self.spread * second
        across = 2 * jnp.sqrt(x1 * x2 * (1 - c**2))
        total = jnp.stack([x1 + x2, jnp.zeros(()), jnp.zeros(()), x1 - x2])
        apart = jnp.stack([c * (x1 - x2), across * jnp.cos(phi), across * jnp.sin(phi), c * (x1 + x2)])
        return jnp.concatenate([(total + apart) / 2, (total - apart) / 2])

    def quadrature(self, points_per_axis: Whole = 48) -> GaussianMixture:
        """The law with both knobs 0 as weighted points, so that its score is known with noise.

        `points_per_axis` values of cos theta, twice as many of phi: neighbours are pi / points_per_axis apart.

        Raises:
          ValueError: if a knob is not 0.
        """
        if not (self.spread == 0 and self.radiation == 0):
            raise ValueError("the law has beam spread or radiation: its quadrature is known with both 0 alone")
        count = as_whole("points_per_axis", points_per_axis, 2)
        cosines = interval_rule(count, -1.0, 1.0, lambda c: 1 + c**2)
        c, phi = jnp.meshgrid(cosines.nodes, jnp.arange(2 * count, dtype=float) * (math.pi / count), indexing="ij")
        parameters = jnp.stack([c, phi, *(jnp.zeros_like(c),) * 3], -1).reshape(-1, 5)
        weights = jnp.broadcast_to(cosines.weights[:, None], c.shape).reshape(-1)
        return GaussianMixture(weights, self.features(parameters), 0.0)


def four_momenta(lepton: str) -> tuple[str, ...]:
    """What the eight numbers of two leptons' momenta are."""
    return tuple(f"{name} of {lepton}{sign}" for sign in "-+" for name in ("E", "px", "py", "pz"))


def decay_direction(key, dtype) -> Float[Array, "2"]:
    """(c, phi): c of density 1 + c^2, whose distribution c^3 + 3 c = 8 u - 4 is inverted in closed form."""
    u, turn = jax.random.uniform(key, (2,), dtype)
    return jnp.stack([2 * jnp.sinh(jnp.asinh(4 * u - 2) / 3), 2 * math.pi * turn])


def _energy_and_z(
    energy: Float[Array, ""], mixed: Float[Array, ""], along: Float[Array, ""], across: Float[Array, ""]
) -> Float[Array, "4 4"]:
    """A covariance of (E, p_x, p_y, p_z) in which E and p_z alone are correlated."""
    diagonal = jnp.diag(jnp.stack([energy, across, across, along]))
    return diagonal.at[0, 3].set(mixed).at[3, 0].set(mixed)


def pair_covariance(total: Float[Array, "4 4"], apart: Float[Array, "4 4"]) -> Float[Array, "8 8"]:
    """The covariance of (P + Q) / 2 and (P - Q) / 2, where P, the total, and Q are not correlated."""
    same, other = (total + apart) / 4, (total - apart) / 4
    return jnp.block([[same, other], [other, same]])


def axial_rotation(covariance: Float[Array, "8 8"], rank: int) -> Float[Array, "1 8 8"]:
    """The rotation of both momenta around z, in the span of the data."""
    span = jnp.linalg.eigh(covariance)[1][:, 8 - rank :]
    return in_span(plane_rotation(8, ((1, 2), (5, 6))), span)
