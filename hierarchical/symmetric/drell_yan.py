r"""p p -> Z -> l+ l- to lowest order: a pair of leptons of a mass around that of the Z, and its recoil.

Two four-momenta (E, p_x, p_y, p_z) in GeV with c = 1, lepton masses neglected, beams along z. With M, Gamma of the Z,

    m^2       a Breit-Wigner: density 1 / ((m^2 - M^2)^2 + M^2 Gamma^2) in the window 66 to 116 GeV,               (1)
    y         rapidity of the pair, of density ((1 - x_1) (1 - x_2))^3, x = (m / s^(1/2)) exp(+-y): partons of
              density x^(-1 - delta) (1 - x)^3, whose power cancels in x_1 x_2,                                    (2)
    c, phi    direction in the frame of the pair, as of muon pairs: c of density 1 + c^2,
    k         transverse momentum of the pair, N(0, recoil^2) for each component.                                  (3)

The pair at rest is moved by a boost across the beams, then by y along them. At recoil 0 the transverse momenta balance;
the recoil gives (p_x + p_x') / 2^(1/2) and (p_y + p_y') / 2^(1/2) the variance recoil^2 / 2, exactly. Toy densities in
place of measured ones: the law has the symmetries of the process, not its rates. Derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..arguments import Given
from .law import AbstractSymmetric, Counts, knob, rejection
from .lorentz import boost
from .muon_pairs import AZIMUTHAL, POLAR, axial_rotation, decay_direction, four_momenta, pair_covariance
from .quadrature import interval_rule, length_rule

Z_MASS, Z_WIDTH = 91.1876, 2.4952  # GeV
WINDOW = 66.0, 116.0  # GeV, of the mass
COLLIDER_ENERGY = 13_000.0  # GeV, s^(1/2)
SOFTNESS = 3  # the power of equation (2)
NUM_MASSES, NUM_RAPIDITIES, NUM_RECOILS = 64, 64, 64  # of the quadrature


class DrellYan(AbstractSymmetric):
    """The law of this file's head; features (E, p_x, p_y, p_z) of l- and of l+, GeV."""

    recoil: Float[Array, ""]
    """Standard deviation of each transverse component of the pair's momentum, GeV."""
    width: Float[Array, ""]
    """Gamma, GeV; 0: every pair has the mass of the Z."""

    def __init__(self, recoil: Given = 0.0, width: Given = Z_WIDTH):
        """Raises ValueError if one is negative."""
        self.recoil, self.width = knob("recoil", recoil), knob("width", width)

    @property
    def parameter_names(self):
        return (
            "mass, uniform in [0, 1)", "rapidity", "cos theta", "phi", "recoil x, standard normal",
            "recoil y, standard normal",
        )  # fmt: skip

    @property
    def feature_names(self):
        return tuple(f"{name}, GeV" for name in four_momenta("l"))

    @property
    def counts(self):
        width, recoil = bool(self.width > 0), bool(self.recoil > 0)
        intrinsic = 3 + width + 2 * recoil
        return Counts(6 + 2 * recoil, intrinsic, max(3, intrinsic))

    @eqx.filter_jit
    def covariance(self):
        """By quadrature over mass, rapidity and recoil, the direction's moments being .4 along the beams, .3 across."""
        masses, lengths = interval_rule(NUM_MASSES, 0.0, 1.0), length_rule(NUM_RECOILS, 2)
        rapidities = interval_rule(NUM_RAPIDITIES, -1.0, 1.0)  # in units of their reach
        m = self.mass(masses.nodes)[:, None, None]
        y = _reach(m) * rapidities.nodes[None, :, None]
        density = rapidities.weights[None, :, None] * _parton_density(m, y)
        density = density / jnp.sum(density, 1, keepdims=True)  # of y at each mass
        weights = masses.weights[:, None, None] * density * lengths.weights[None, None]
        k2 = (self.recoil * lengths.nodes[None, None]) ** 2
        cosh2, sinh2 = jnp.cosh(y) ** 2, jnp.sinh(y) ** 2

        def mean(values: Array) -> Array:
            return jnp.sum(weights * values)

        energy = mean((m**2 + k2) * cosh2) - mean(jnp.sqrt((m**2 + k2) * cosh2)) ** 2
        balance = self.recoil**2
        total = jnp.diag(jnp.stack([energy, balance, balance, mean((m**2 + k2) * sinh2)]))
        across = mean(AZIMUTHAL * (m**2 + k2 / 2))
        apart = [mean(AZIMUTHAL * k2 * f + POLAR * m**2 * g) for f, g in ((cosh2, sinh2), (sinh2, cosh2))]
        return pair_covariance(total, jnp.diag(jnp.stack([apart[0], across, across, apart[1]])))

    def rotations(self):
        """The rotation around the beams."""
        return axial_rotation(self.covariance(), self.counts.linear)

    def draw_parameters(self, key):
        mass_key, rapidity_key, direction_key, recoil_key = jax.random.split(key, 4)
        dtype = self.recoil.dtype
        quantile = jax.random.uniform(mass_key, (1,), dtype)
        m = self.mass(quantile[0])

        def propose(key: Key[Array, ""]) -> Float[Array, ""]:
            return _reach(m) * jax.random.uniform(key, (), dtype, -1, 1)

        rapidity = rejection(rapidity_key, propose, lambda y: _parton_density(m, y) / _parton_density(m, jnp.zeros(())))
        recoil = jax.random.normal(recoil_key, (2,), dtype)
        return jnp.concatenate([quantile, rapidity[None], decay_direction(direction_key, dtype), recoil])

    def map(self, parameters):
        m, y = self.mass(parameters[0]), parameters[1]
        c, phi = parameters[2:4]
        sine, none = jnp.sqrt(1 - c**2), jnp.zeros((1,))
        direction = jnp.stack([sine * jnp.cos(phi), sine * jnp.sin(phi), c])
        at_rest = m / 2 * jnp.stack([jnp.concatenate([jnp.ones(1), sign * direction]) for sign in (1.0, -1.0)])
        recoiling = boost(at_rest, jnp.concatenate([self.recoil * parameters[4:], none]), m)
        return boost(recoiling, jnp.concatenate([none, none, jnp.sinh(y)[None]]), jnp.ones(())).reshape(-1)

    def mass(self, quantile: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """m, GeV, below which lies the share `quantile` of the law (1)."""
        has_width = self.width > 0
        scale = Z_MASS * jnp.where(has_width, self.width, 1.0)
        low, high = (jnp.arctan((edge**2 - Z_MASS**2) / scale) for edge in WINDOW)
        away = scale * jnp.tan(low + (high - low) * quantile)
        return jnp.sqrt(Z_MASS**2 + jnp.where(has_width, away, 0.0))


def _reach(m: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The largest rapidity, where one parton has all the momentum."""
    return jnp.log(COLLIDER_ENERGY / m)


def _parton_density(m: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Equation (2), not normalised."""
    x = m / COLLIDER_ENERGY
    return ((1 - x * jnp.exp(y)) * (1 - x * jnp.exp(-y))) ** SOFTNESS
