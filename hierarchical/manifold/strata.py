r"""Sets made of parts of different dimensions: a lollipop, a string within a doughnut, sinusoidal and affine mixtures.

A datum is of part i with probability w_i, and there x = f_i(u), u uniform in [0, 1)^{k_i}. Its own dimension is k_i,
the rank of the Jacobian of f_i. Parts, before an isometry into R^d:

    disc            R u_1^(1/2) (cos 2 pi u_2, sin 2 pi u_2)                              uniform by area, k = 2    (1)
    stick           (R + l u, 0), from the rim of the disc outward                        uniform by length, k = 1  (2)
    torus           ((R + r cos a) cos b, (R + r cos a) sin b, r sin a),  b = 2 pi u_2,
                    a + (r / R) sin a = 2 pi u_1                                          uniform by area, k = 2    (3)
    string          (R cos 2 pi u, R sin 2 pi u, 0), the core circle of the torus         uniform by length, k = 1  (4)
    sinusoidal      (u - 1/2, A sin(W u + phi)),  W ~ N(0, omega^2), (d - k, k)           k                         (5)

The area of the torus is (R + r cos a) r da db, whence (3), derived here. The Jacobian of (5) holds the identity, so its
rank is k everywhere, and no two u give one x. Within the noise of a rim, an end, or the point where two parts meet,
data of one part are seen with another dimension than their own; so are those of all parts once noise joins them.

Source: the names of the sets are those of Tempczyk et al., arXiv:2206.14882, and Kamkari et al., arXiv:2406.03537;
the definitions are the ones above (their lollipop has an isolated point too, their sinusoidal maps are other ones).
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..arguments import AnyKey, Given, Whole, as_key, as_numbers, as_whole
from ..law import AbstractLaw, Sample, Shape, sample_each
from .embedded import embedding
from .generated import Generated
from .linear import LinearSubspace
from .union import Union, as_weights

NEWTON_STEPS = 16  # equation (3); to 1e-12, 6 are needed at r = .5 R, 10 at .99 R, 12 at .999 R


class Place(eqx.Module):
    """Where on a stratified set a datum is."""

    part: Int[Array, "*batch"]
    """The number of its part."""
    dimension: Int[Array, "*batch"]
    """k, of that part: the true dimension at the datum."""
    u: Float[Array, "*batch _largest"]
    """The first k numbers made the datum; the others, up to the largest k, are not used."""


class Strata(AbstractLaw):
    """A mixture of generated laws in the same space; `latent` is a `Place`."""

    parts: tuple[Generated, ...]
    weights: Float[Array, " parts"]

    def __init__(self, parts: Sequence[Generated], weights: Given | None = None):
        """Weights are relative; by default all are equal.

        Raises:
          ValueError: if there is no part, their data differ in shape, or there is not one weight, positive, for each.
        """
        self.parts = tuple(parts)
        self.weights = as_weights(weights, len(self.parts), "parts")
        shapes = {jax.eval_shape(part.function, jnp.zeros(part.dimension)).shape for part in self.parts}
        if len(shapes) > 1:
            raise ValueError(f"data of the parts have shapes {sorted(shapes)}: give parts in the same space")

    @property
    def dimensions(self) -> tuple[int, ...]:
        """k of each part."""
        return tuple(part.dimension for part in self.parts)

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Data (..., d), with a `Place` as `latent`; every part draws for every datum of several."""
        return sample_each(self._draw, key, shape)

    def _draw(self, key):
        part_key, u_key = jax.random.split(key)
        number = jax.random.categorical(part_key, jnp.log(self.weights)).astype(jnp.int32)
        u = jax.random.uniform(u_key, (max(self.dimensions),))
        x = jax.lax.switch(number, [lambda u, part=part: part.function(u[: part.dimension]) for part in self.parts], u)
        return Sample(x, Place(number, jnp.asarray(self.dimensions, jnp.int32)[number], u))


class Moved(eqx.Module):
    """A function whose values are turned by an isometry, and shifted."""

    function: Callable[[Float[Array, " k"]], Float[Array, " span"]]
    axes: Float[Array, "d span"]
    centre: Float[Array, " d"]

    def __call__(self, u):
        return self.centre + self.axes @ self.function(u)


class Disc(eqx.Module):
    """Equation (1)."""

    radius: Float[Array, ""]

    def __call__(self, u):
        return self.radius * jnp.sqrt(u[0]) * _direction(u[1])


class Stick(eqx.Module):
    """Equation (2)."""

    start: Float[Array, ""]
    length: Float[Array, ""]

    def __call__(self, u):
        return jnp.stack([self.start + self.length * u[0], jnp.zeros_like(u[0])])


class Torus(eqx.Module):
    """Equation (3)."""

    radius: Float[Array, ""]
    tube: Float[Array, ""]

    def __call__(self, u):
        a = self._angle(2 * jnp.pi * u[0])
        around = (self.radius + self.tube * jnp.cos(a)) * _direction(u[1])
        return jnp.append(around, self.tube * jnp.sin(a))

    def _angle(self, area: Float[Array, ""]) -> Float[Array, ""]:
        """The root a of a + e sin a = area by Newton's method, which from a = 0 or 2 pi never leaves its side of pi.

        The left side is concave on [0, pi] and convex on [pi, 2 pi], so steps from the end are monotonic.
        """
        e = self.tube / self.radius
        start = jnp.where(area < jnp.pi, 0.0, 2 * jnp.pi).astype(area.dtype)

        def step(a, _):
            return a - (a + e * jnp.sin(a) - area) / (1 + e * jnp.cos(a)), None

        return jax.lax.scan(step, start, None, NEWTON_STEPS)[0]


class Ring(eqx.Module):
    """Equation (4)."""

    radius: Float[Array, ""]

    def __call__(self, u):
        return jnp.append(self.radius * _direction(u[0]), jnp.zeros_like(u[0]))


class Sinusoidal(eqx.Module):
    """Equation (5)."""

    frequencies: Float[Array, "rest k"]
    """W, radians over the unit interval."""
    phases: Float[Array, " rest"]
    amplitude: Float[Array, ""]

    def __call__(self, u):
        return jnp.concatenate([u - 0.5, self.amplitude * jnp.sin(self.frequencies @ u + self.phases)])


def _direction(turn: Float[Array, ""]) -> Float[Array, " 2"]:
    return jnp.stack([jnp.cos(2 * jnp.pi * turn), jnp.sin(2 * jnp.pi * turn)])


def lollipop(
    key: AnyKey,
    ambient_dimension: Whole,
    radius: Given = 1.0,
    length: Given = 2.0,
    weights: Given | None = None,
) -> Strata:
    """A disc, part 0, and a stick outward from its rim, part 1, in a random plane of R^d: dimensions 2 and 1.

    Args:
      weights: relative, of disc and stick; equal by default.

    Raises:
      ValueError: if d < 2, a length is not positive, or the weights are not two positive numbers.
    """
    axes = embedding(key, ambient_dimension, 2)
    radius, length = (_positive(name, x) for name, x in (("radius", radius), ("length", length)))
    return _embedded([(Disc(radius), 2), (Stick(radius, length), 1)], axes, weights)


def string_in_doughnut(
    key: AnyKey,
    ambient_dimension: Whole,
    radius: Given = 1.0,
    tube: Given = 0.5,
    weights: Given | None = None,
) -> Strata:
    """The surface of a torus, part 0, and its core circle, part 1, in a random 3-space of R^d: dimensions 2 and 1.

    Args:
      radius: R, of the core circle; tube: r, of the tube around it, below R.
      weights: relative, of torus and string; equal by default.

    Raises:
      ValueError: if d < 3, not 0 < r < R, or the weights are not two positive numbers.
    """
    axes = embedding(key, ambient_dimension, 3)
    radius, tube = (_positive(name, x) for name, x in (("radius", radius), ("tube", tube)))
    if not tube < radius:
        raise ValueError(f"tube = {tube} of a torus of radius {radius}: give a thinner one, or it meets itself")
    return _embedded([(Torus(radius, tube), 2), (Ring(radius), 1)], axes, weights)


def sinusoidal_mixture(
    key: AnyKey,
    dimensions: Sequence[Whole],
    ambient_dimension: Whole,
    *,
    frequency: Given = 3.0,
    amplitude: Given = 1.0,
    centre_spread: Given = 1.0,
    weights: Given | None = None,
) -> Strata:
    """Graphs of random sines, equation (5), of dimensions k_i, each turned at random in R^d around a centre of its own.

    Args:
      frequency: omega, radians over the unit interval: the standard deviation of each entry of W.
      centre_spread: standard deviation of each number of a centre; 0 puts all at the origin.
      weights: relative; equal by default.

    Raises:
      ValueError: if a k is above d, frequency or amplitude is not positive, the spread is negative, or the weights are
        not one positive number for each part.
    """
    d, frequency, amplitude = ambient_dimension, _positive("frequency", frequency), _positive("amplitude", amplitude)
    spread, parts = _positive("centre_spread", centre_spread, or_zero=True), []
    for part_key, k in zip(jax.random.split(as_key(key), max(len(dimensions), 1)), dimensions, strict=False):
        axes_key, centre_key, wave_key, phase_key = jax.random.split(part_key, 4)
        axes, k = embedding(axes_key, d, d), _dimension(k, d)
        waves = frequency * jax.random.normal(wave_key, (len(axes) - k, k))
        phases = jax.random.uniform(phase_key, waves.shape[:1], maxval=2 * jnp.pi)
        centre = spread * jax.random.normal(centre_key, axes.shape[:1])
        parts.append(Generated(Moved(Sinusoidal(waves, phases, amplitude), axes, centre), k))
    return Strata(parts, weights)


def affine_mixture(
    key: AnyKey,
    dimensions: Sequence[Whole],
    ambient_dimension: Whole,
    *,
    spreads: Given = 1.0,
    centre_spread: Given = 1.0,
    weights: Given | None = None,
) -> Union:
    """Gaussians on affine subspaces of dimensions k_i, in random directions and around random centres: all of it exact.

    `latent` is the number of the subspace, whose dimension is `mixture.laws[number].dimension`.

    Args:
      spreads: the standard deviation along all axes of all subspaces.
      centre_spread: standard deviation of each number of a centre; 0 puts all at the origin.
      weights: relative; equal by default.

    Raises:
      ValueError: if a k is above d, the spread of the data is not positive or that of centres is negative, or the
        weights are not one positive number for each subspace.
    """
    spread, laws = _positive("centre_spread", centre_spread, or_zero=True), []
    for part_key, k in zip(jax.random.split(as_key(key), max(len(dimensions), 1)), dimensions, strict=False):
        axes_key, centre_key = jax.random.split(part_key)
        centre = spread * jax.random.normal(centre_key, (as_whole("ambient_dimension", ambient_dimension, 1),))
        laws.append(LinearSubspace(axes_key, k, ambient_dimension, spreads, centre))
    return Union(laws, weights)


def _embedded(parts: Sequence[tuple[Callable, int]], axes: Float[Array, "d span"], weights: Given | None) -> Strata:
    """Parts in the same span."""
    centre = jnp.zeros(len(axes), axes.dtype)
    return Strata([Generated(Moved(function, axes, centre), k) for function, k in parts], weights)


def _dimension(k: Whole, ambient_dimension: Whole) -> int:
    whole = as_whole("dimension", k, 1)
    if whole > ambient_dimension:
        raise ValueError(f"dimension = {k} in ambient_dimension = {ambient_dimension}: give at most that")
    return whole


def _positive(name: str, value: Given, *, or_zero: bool = False) -> Float[Array, ""]:
    number = as_numbers(value, jnp.result_type(float))
    if number.shape != () or not (number > 0 or (or_zero and number == 0)):
        raise ValueError(f"{name} = {value}: give one {'number of 0 or above' if or_zero else 'positive number'}")
    return number
