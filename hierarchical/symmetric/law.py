r"""Data with a symmetry: a differentiable map from parameters to features, whose degrees of freedom are known.

    parameters u ~ law,          x = f(u) in R^d.

Degrees of freedom are counted in three ways, which differ:

    linear       the rank of the covariance of x: what a linear autoencoder needs,
    intrinsic    the rank of df/du at almost every u: the dimension of the set on which x lies,
    embedding    the fewest numbers that a continuous and invertible map can make of that set: what a nonlinear
                 autoencoder needs. A closed set such as a circle needs more numbers than its dimension, 2 for 1.

A symmetry that is approximate has a knob, a number that is 0 where the symmetry is exact. The variance along a
direction that the symmetry forbids grows as the square of the knob.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..arguments import AnyKey, Given, as_numbers
from ..law import AbstractLaw, Sample, Shape, sample_each

Parameters = Float[Array, " p"]
Features = Float[Array, " d"]


class Counts(NamedTuple):
    """Degrees of freedom, counted in the three ways of this file's head."""

    linear: int
    intrinsic: int
    embedding: int


class AbstractSymmetric(AbstractLaw):
    """A law of data that a map makes of parameters; a subclass writes `draw_parameters` and `map`."""

    @property
    @abc.abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """What each parameter is, with its unit if it has one."""

    @property
    @abc.abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """What each feature is, with its unit if it has one."""

    @property
    @abc.abstractmethod
    def counts(self) -> Counts:
        """The degrees of freedom at the values that the knobs have, which must be known."""

    @abc.abstractmethod
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance of the features, exact: in closed form or by quadrature to rounding."""

    @abc.abstractmethod
    def rotations(self) -> Float[Array, "g d d"]:
        """Generators of the rotations that leave the law as it is: antisymmetric, independent, zero across its span."""

    @abc.abstractmethod
    def draw_parameters(self, key: Key[Array, ""]) -> Parameters:
        """Random parameters of one datum."""

    @abc.abstractmethod
    def map(self, parameters: Parameters) -> Features:
        """f: the features of one datum, differentiable at almost every point."""

    def features(self, parameters: Given) -> Float[Array, "*batch d"]:
        """f(u) of parameters (..., p)."""
        return _features(self, self._checked(parameters))

    def jacobian(self, parameters: Given) -> Float[Array, "*batch d p"]:
        """df/du at parameters (..., p), by forward differentiation."""
        return _jacobian(self, self._checked(parameters))

    def sample(self, key: AnyKey, shape: Shape = ()) -> Sample:
        """Data (..., d), with the parameters (..., p) as `latent`."""
        return sample_each(self._draw, key, shape)

    @property
    def dtype(self) -> Any:
        """Of the knobs, and of what is drawn."""
        return jax.tree.leaves(eqx.filter(self, eqx.is_array))[0].dtype

    def _draw(self, key: Key[Array, ""]) -> Sample:
        parameters = self.draw_parameters(key)
        return Sample(self.map(parameters), parameters)

    def _checked(self, parameters: Given) -> Float[Array, "*batch p"]:
        given, wanted = as_numbers(parameters, self.dtype), len(self.parameter_names)
        if given.shape[-1:] != (wanted,):
            raise ValueError(
                f"parameters have shape {given.shape}: give (..., {wanted}), {', '.join(self.parameter_names)}"
            )
        return given


@eqx.filter_jit
def _features(law: AbstractSymmetric, parameters: Float[Array, "*batch p"]) -> Float[Array, "*batch d"]:
    return jnp.vectorize(law.map, signature="(p)->(d)")(parameters)


@eqx.filter_jit
def _jacobian(law: AbstractSymmetric, parameters: Float[Array, "*batch p"]) -> Float[Array, "*batch d p"]:
    return jnp.vectorize(jax.jacfwd(law.map), signature="(p)->(d,p)")(parameters)


def knob(name: str, value: Given, largest: float = float("inf"), least: float = 0.0) -> Float[Array, ""]:
    """A number that a law takes, as a float; it may be traced.

    Raises:
      ValueError: if it is several numbers, or known to be outside least .. largest.
    """
    number = as_numbers(value)
    if number.shape != ():
        raise ValueError(f"{name} has shape {number.shape}: give one number, or vmap over several")
    if not isinstance(number, Tracer) and not (least <= float(number) <= largest and jnp.isfinite(number)):
        wanted = f"{least:g} or above" if largest == float("inf") else f"a number from {least:g} to {largest:g}"
        raise ValueError(f"{name} = {float(number):g}: give {wanted}, finite")
    return number


def rejection(
    key: Key[Array, ""],
    propose: Callable[[Key[Array, ""]], Float[Array, ""]],
    acceptance: Callable[[Float[Array, ""]], Float[Array, ""]],
) -> Float[Array, ""]:
    """A draw from the density that is `acceptance`, in [0, 1], times that of the proposals."""

    def attempt(state):
        next_key, here, coin = jax.random.split(state[0], 3)
        proposal = propose(here)
        return next_key, proposal, jax.random.uniform(coin, (), proposal.dtype) < acceptance(proposal)

    return jax.lax.while_loop(lambda state: ~state[2], attempt, attempt((key,)))[1]


def anisotropic_angle(key: Key[Array, ""], anisotropy: Float[Array, ""]) -> Float[Array, ""]:
    """An angle in [0, 2 pi) of density 1 + a cos(2 angle)."""

    def uniform(key: Key[Array, ""]) -> Float[Array, ""]:
        return jax.random.uniform(key, (), anisotropy.dtype, 0, 2 * math.pi)

    return rejection(key, uniform, lambda angle: (1 + anisotropy * jnp.cos(2 * angle)) / (1 + jnp.abs(anisotropy)))


def in_span(matrices: Float[Array, "g d d"], span: Float[Array, "d q"]) -> Float[Array, "g d d"]:
    """P A P of each matrix A, P being the projector on the orthonormal columns of `span`."""
    projector = span @ span.T
    return jnp.einsum("ij,gjk,kl->gil", projector, matrices, projector)


def plane_rotation(d: int, pairs: tuple[tuple[int, int], ...]) -> Float[Array, "1 d d"]:
    """The generator that turns each of the pairs of axes by the same angle."""
    generator = jnp.zeros((1, d, d))
    for i, j in pairs:
        generator = generator.at[0, i, j].set(-1.0).at[0, j, i].set(1.0)
    return generator
