"""The sets of the experiment `symmetry`: laws with a knob, where a latent switches, and their data in their unit."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Array, Float32, Float64, Key
from scipy.optimize import brentq

from hierarchical import (
    AbstractSymmetric,
    Bodies,
    Collision,
    DrellYan,
    GaussianMixture,
    Kepler,
    MassShell,
    MuonPairs,
    Oscillator,
    Ring,
    load_points,
)
from phasetree.recipes.training import named_key

if TYPE_CHECKING:
    from phasetree.experiments.symmetry.config import Config

OWN = "own"  # the set of the user's data
Law = Callable[[float], AbstractSymmetric]
Rows = Float32[np.ndarray, "n d"]
SAME = 1e-4  # relative: knobs this near are one
GRID = 160  # points along each axis of the exact mass shell


class Case(NamedTuple):
    """A family of laws: one for each value of the knob, 0 for the exact symmetry."""

    law: Law
    knob: str = ""
    """What it is, with its unit; nothing where there is none."""
    tau: float = 0.01
    """At which the knob is swept, in the unit of the features."""
    largest: float = 1.0
    """Of the knob."""
    order: int = 2
    """The switching eigenvalue is near a linear function of the knob to this power."""
    exact: Callable[[AbstractSymmetric], GaussianMixture] | None = None
    """The law as weighted points, where its score is known."""


CASES: dict[str, Case] = {
    "ring": Case(Ring, "anisotropy a", 0.4, order=1, exact=lambda law: law.quadrature(512)),
    "noisy-ring": Case(lambda a: Ring(a, 0.1), "anisotropy a", 0.4, order=1, exact=lambda law: law.quadrature(512)),
    "collision": Case(lambda spread: Collision(spread=spread), "spread of the restitution", 0.01),
    "restitution": Case(lambda _: Collision(spread=1.0)),
    "bodies": Case(lambda leak: Bodies(3, 2, leak=leak), "leak of momentum", 0.01),
    "bodies-energy": Case(lambda leak: Bodies(3, 2, fixed_energy=True, leak=leak), "leak of momentum", 0.01),
    **{f"oscillator-{n}": Case(lambda a, n=n: Oscillator(n, a)) for n in range(4)},
    **{f"planet-{n}": Case(lambda a, n=n: Kepler(n, a)) for n in range(4)},
    "mass-shell": Case(lambda _: MassShell(2), exact=lambda law: law.quadrature(GRID)),
    "muon-pairs": Case(MuonPairs, "beam spread", 0.0064, 0.15, exact=lambda law: law.quadrature(40)),
    "muon-pairs-spread": Case(lambda _: MuonPairs(0.1)),
    "muon-pairs-radiation": Case(lambda _: MuonPairs(0.0, 0.1077)),
    "drell-yan": Case(DrellYan, "recoil, GeV", 0.04, 50.0),
    "drell-yan-mass": Case(lambda _: DrellYan(width=0.0)),
    "drell-yan-recoil": Case(lambda _: DrellYan(20.0)),
}


def check_set(name: str) -> None:
    """Raises ValueError if there is no such set."""
    if name not in CASES:
        raise ValueError(f"sets = {name}: give of {', '.join(CASES)}; data of one's own by --file")


def unit(name: str) -> Float64[np.ndarray, " d"]:
    """The unit of each feature: 1, or of proton collisions the standard deviation at knob 0, as they differ by tens."""
    covariance = np.asarray(CASES[name].law(0.0).covariance(), np.float64)
    return np.sqrt(np.diag(covariance)) if name.startswith("drell-yan") else np.ones(len(covariance))


def covariance(name: str, knob: float) -> Float64[np.ndarray, "d d"]:
    """Of the features in their unit."""
    size = unit(name)
    return np.asarray(CASES[name].law(knob).covariance(), np.float64) / np.outer(size, size)


def eigenvalues(name: str, knob: float) -> Float64[np.ndarray, " d"]:
    """Of that covariance, falling, not negative."""
    return np.linalg.eigvalsh(covariance(name, knob))[::-1].clip(0)


class Switch(NamedTuple):
    """Where the knob switches latents on or off."""

    knob: float
    places: tuple[int, ...]
    """Of the eigenvalues that cross tau there, 0 for the largest."""


@functools.cache
def switching(name: str, tau: float) -> Switch | None:
    """The first switch as the knob grows from 0; None if there is none up to the largest knob."""
    case = CASES[name]
    if not case.knob:
        return None
    at_ends = [eigenvalues(name, knob) > tau for knob in (0.0, case.largest)]
    moved = np.flatnonzero(at_ends[0] != at_ends[1])
    if not len(moved):
        return None
    knobs = {int(i): _root(lambda knob, i=i: eigenvalues(name, knob)[i] - tau, case.largest) for i in moved}
    first = min(knobs.values())
    return Switch(first, tuple(i for i, knob in knobs.items() if knob <= (1 + SAME) * first))


def _root(function: Callable[[float], float], largest: float) -> float:
    found = brentq(function, 0.0, largest)
    assert isinstance(found, float)
    return found


def knobs(name: str, factors: tuple[float, ...]) -> tuple[float, ...]:
    """The factors that stay within the range of the knob; none where there is no knob."""
    if name == OWN or not CASES[name].knob:
        return ()
    switch = switching(name, CASES[name].tau)
    return () if switch is None else tuple(f for f in factors if f * switch.knob <= CASES[name].largest)


def taus(config: "Config", name: str) -> tuple[float, ...]:
    """From half the least eigenvalue that is not 0, of the law or of one's own data, to the largest."""
    values = spectrum_of(own_rows(config)) if name == OWN else eigenvalues(name, 0.0)
    kept = values[values > 1e-4 * values[0]]
    low, high = np.log(kept[-1] / 2), np.log(1.1 * kept[0])
    shares = (np.arange(config.num_taus) + 0.5) / config.num_taus
    return tuple(float(f"{np.exp(low + (high - low) * share):.4g}") for share in shares)


def rows_of(config: "Config", key: Key[Array, ""], name: str, knob: float, count: int) -> Rows:
    """Data in the unit of their features."""
    if name == OWN:
        return own_rows(config)
    drawn = CASES[name].law(knob).sample(named_key(key, f"data-{name}", 0), (count,)).x
    return (np.asarray(drawn, np.float64) / unit(name)).astype(np.float32)


def own_rows(config: "Config") -> Rows:
    """The user's data, each feature that varies in units of its standard deviation.

    Raises:
      ValueError: if there are fewer than 512 data, or of fewer than two features that vary.
    """
    rows = load_points(config.file or "")
    std = rows.std(0)
    varied = std > 1e-6 * std.max()
    if len(rows) < 512 or varied.sum() < 2:
        raise ValueError(f"{config.file} holds {len(rows)} rows, {varied.sum()} columns vary: give 512 and 2 at least")
    return ((rows - rows.mean(0))[:, varied] / std[varied]).astype(np.float32)


def spectrum_of(x: Rows, ddof: int = 1) -> Float64[np.ndarray, " d"]:
    """Eigenvalues of the data's covariance, falling."""
    covariance = np.atleast_2d(np.cov(x.T, ddof=ddof, dtype=np.float64))
    return np.linalg.eigvalsh(covariance)[::-1].clip(0).copy()
