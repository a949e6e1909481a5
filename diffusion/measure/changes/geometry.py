r"""Distances between sites, and sums over all pairs of sites at a distance.

For a real number f_i at every site, and for each distance r that occurs,

    Q_r(f) = sum of f_i f_j over all ordered pairs (i, j) at distance r,        Q_0(f) = sum_i f_i^2,              (1)

is all that correlation measures need, and no d x d matrix has to be written for it:

    tree    pairs whose lowest common ancestor is l levels above the leaves: with f summed over the blocks of leaves
            below each node, sum of squares of blocks l levels up, minus the same one level lower;  r = s^l - 1
    line    |i - j|, from the autocorrelation (Wiener-Khinchin, by fast Fourier transform)
    ring    the same on a periodic string, the shorter way round
    grid    distance in the plane, rounded to the nearest whole number; likewise in two dimensions
"""

import abc
import itertools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hierarchical.arguments import as_whole, as_wholes


class AbstractGeometry(eqx.Module):
    """Pairs of sites, in classes of equal distance."""

    @property
    @abc.abstractmethod
    def distances(self) -> np.ndarray:
        """r of each class of pairs, in sites; 0 first, increasing."""

    @property
    @abc.abstractmethod
    def num_pairs(self) -> np.ndarray:
        """Ordered pairs in each class; d in the first."""

    @abc.abstractmethod
    def pair_sums(self, field: Float[Array, "*batch sites"]) -> Float[Array, "*batch distances"]:
        """Q_r(f) of equation (1).

        Raises:
          ValueError: if the field has another number of sites.
        """

    def _checked(self, field: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
        """The field, if it has as many sites as this geometry.

        Raises:
          ValueError: if it has more sites or fewer.
        """
        sites = round(self.num_pairs[0])
        if field.shape[-1] != sites:
            raise ValueError(f"{self} has {sites} sites, the field {field.shape[-1]}: make them agree")
        return field


class TreeGeometry(AbstractGeometry):
    """Leaves of a tree; `branching` lists the children per node of each level, root first."""

    branching: tuple[int, ...] = eqx.field(static=True, converter=lambda levels: as_wholes("branching", levels, 1))

    @property
    def _blocks(self) -> list[int]:
        """Leaves below a node, from the leaves up."""
        return [*itertools.accumulate(reversed(self.branching), initial=1, func=lambda size, s: size * s)]

    @property
    def distances(self):
        return np.array(self._blocks, float) - 1

    @property
    def num_pairs(self):
        blocks = np.array(self._blocks, float)
        return blocks[-1] * np.diff(blocks, prepend=0)

    def subtree_sums(self, field: Float[Array, "*batch sites"]) -> list[Float[Array, "*batch _nodes"]]:
        """The sum of a field over the leaves below each node, level by level, the root's first.

        Raises:
          ValueError: if the field has another number of sites.
        """
        levels = [self._checked(field)]
        for s in reversed(self.branching):
            levels.insert(0, jnp.sum(levels[0].reshape(*field.shape[:-1], -1, s), -1))
        return levels

    def pair_sums(self, field):
        sums = [jnp.sum(self._checked(field) ** 2, -1)]
        for s in reversed(self.branching):
            children = field.reshape(*field.shape[:-1], -1, s)
            field = jnp.sum(children, -1)
            sums.append(jnp.sum(field**2, -1) - jnp.sum(children**2, (-2, -1)))
        return jnp.stack(sums, -1)


class LineGeometry(AbstractGeometry):
    """Sites 0 .. num_sites - 1 of a string."""

    num_sites: int = eqx.field(static=True, converter=lambda sites: as_whole("num_sites", sites, 1))

    @property
    def distances(self):
        return np.arange(self.num_sites, dtype=float)

    @property
    def num_pairs(self):
        return np.where(self.distances > 0, 2, 1) * (self.num_sites - self.distances)

    def pair_sums(self, field):
        spectrum = jnp.fft.rfft(self._checked(field), 2 * self.num_sites)
        # a sum over i of f_i f_(i+r): padding with zeros keeps the ends of the string apart
        sums = jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), 2 * self.num_sites)[..., : self.num_sites]
        return sums.astype(field.dtype).at[..., 1:].multiply(2)  # (i, i + r) and (i + r, i)


class RingGeometry(AbstractGeometry):
    """Sites of a periodic string: r = 0 .. num_sites // 2, the shorter way round."""

    num_sites: int = eqx.field(static=True, converter=lambda sites: as_whole("num_sites", sites, 1))

    @property
    def distances(self):
        return np.arange(self.num_sites // 2 + 1, dtype=float)

    @property
    def num_pairs(self):
        shift = np.arange(self.num_sites)
        return self.num_sites * np.bincount(np.minimum(shift, self.num_sites - shift)).astype(float)

    def pair_sums(self, field):
        spectrum = jnp.fft.rfft(self._checked(field), self.num_sites)
        sums = jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), self.num_sites).astype(field.dtype)
        sums = sums[..., : self.num_sites // 2 + 1]
        return sums.at[..., 1 : (self.num_sites + 1) // 2].multiply(2)  # an even ring has a single largest shift


class GridGeometry(AbstractGeometry):
    """Sites (row, column) of a rectangle, row by row."""

    height: int = eqx.field(static=True, converter=lambda rows: as_whole("height", rows, 1))
    width: int = eqx.field(static=True, converter=lambda columns: as_whole("width", columns, 1))

    @property
    def _steps(self) -> np.ndarray:
        """(rows, columns) of every displacement, periodic in twice the rectangle, flattened."""
        rows, columns = np.meshgrid(*(np.fft.fftfreq(2 * n, 1 / (2 * n)) for n in self._shape), indexing="ij")
        return np.stack([rows.ravel(), columns.ravel()])

    @property
    def _shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def _class(self) -> np.ndarray:
        return np.rint(np.hypot(*self._steps)).astype(int)

    @property
    def _pairs(self) -> np.ndarray:
        """Ordered pairs at each displacement."""
        return np.prod(np.maximum(np.array(self._shape)[:, None] - abs(self._steps), 0), 0)

    @property
    def distances(self):
        """The mean distance of the pairs of a class."""
        length = np.bincount(self._class, self._pairs * np.hypot(*self._steps))
        return (length / np.maximum(self._all_pairs, 1))[: len(self.num_pairs)]

    @property
    def _all_pairs(self) -> np.ndarray:
        return np.bincount(self._class, self._pairs)

    @property
    def num_pairs(self):
        return np.trim_zeros(self._all_pairs, "b")

    def pair_sums(self, field):
        shape = (2 * self.height, 2 * self.width)
        plane = self._checked(field).reshape(*field.shape[:-1], *self._shape)
        spectrum = jnp.fft.rfft2(plane, shape)
        sums = jnp.fft.irfft2(jnp.real(spectrum * jnp.conj(spectrum)).astype(spectrum.dtype), shape)
        total = jnp.zeros((*field.shape[:-1], len(self._all_pairs)), field.dtype)
        total = total.at[..., self._class].add(sums.reshape(*field.shape[:-1], math.prod(shape)).astype(field.dtype))
        return total[..., : len(self.num_pairs)]
