"""The sets of the experiment `dimension`: data to train on, data to ask at, their dimension, the exact denoiser."""

import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Key

from diffusion import AbstractSource, AbstractVectorDenoiser, Finite, Fresh, VarianceExploding, VectorProcess
from hierarchical import AbstractLaw, Sphere, Union, blobs, line, load_images, load_points, squares
from phasetree.recipes.training import named_key
from theory.exact import CurveDenoiser, LawDenoiser, SphereDenoiser

if TYPE_CHECKING:
    from phasetree.experiments.dimension.config import Config

AMBIENT = 100  # dimensions of the space of spheres and the line
CURVE_POINTS = 16_384  # of the line, .036 apart
PROCESS = VectorProcess(VarianceExploding())
PATTERN = r"(sphere|squares|blobs)-([1-9]\d{0,3})|line|union"
SMALLEST = 50  # data of one's own
Law = TypeVar("Law", Sphere, Union)


class Case(NamedTuple):
    """A set."""

    source: AbstractSource
    """What a network is trained on."""
    rows: Float32[np.ndarray, "n d"]
    """Data of it, for estimators from data alone, and for the network's constants."""
    x: Float[Array, "datum d"]
    """Data at which denoisers are asked."""
    truth: Float64[np.ndarray, " datum"]
    """Their dimension; NaN where it is not known."""
    exact: AbstractVectorDenoiser | None
    """None where the smoothed density has no closed form."""


def check_set(name: str) -> None:
    """Raises ValueError if there is no such set."""
    found = re.fullmatch(PATTERN, name)
    if not found or (found[1] == "sphere" and int(found[2]) >= AMBIENT):
        raise ValueError(
            f"sets = {name}: give sphere-K (K below {AMBIENT}), line, union, squares-K or blobs-K; data of one's own "
            "by --file or --images"
        )


def case_of(config: "Config", key: Key[Array, ""], name: str) -> Case:
    """The set of this name, or the user's own; the same in every stage.

    Raises:
      FileNotFoundError, ValueError, ImportError: as `load_points` and `load_images`, or if there are too few data.
    """
    if name == "own":
        return _own(config, key)
    law, exact = _law(named_key(key, f"set-{name}", 0), name)
    rows_key, x_key = jax.random.split(named_key(key, f"data-{name}", 0))
    drawn = law.sample(x_key, config.num_data)
    x = drawn.x.astype(jnp.float32)
    truth = np.where(drawn.latent == 0, 10.0, 30.0) if name == "union" else np.full(config.num_data, _number(name))
    rows = np.asarray(law.sample(rows_key, max(config.num_points, 2 * x.shape[-1])).x, np.float32)
    return Case(Fresh(law), rows, x, truth, exact)


def _in_single_precision(law: Law) -> Law:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), law)


def _number(name: str) -> float:
    return 1.0 if name == "line" else float(name.partition("-")[2])


def _law(key: Key[Array, ""], name: str) -> tuple[AbstractLaw, AbstractVectorDenoiser | None]:
    kind, _, number = name.partition("-")
    if kind == "sphere":
        law = _in_single_precision(Sphere(key, int(number), AMBIENT))
        return law, SphereDenoiser(law=law, process=PROCESS)
    if kind == "union":
        keys = jax.random.split(key)
        parts = [Sphere(k, dimension, AMBIENT) for k, dimension in zip(keys, (10, 30), strict=True)]
        law = _in_single_precision(Union(parts))
        return law, LawDenoiser(law=law, num_dimensions=AMBIENT, process=PROCESS)
    if kind == "line":
        law = line(AMBIENT)
        return law, CurveDenoiser(law, process=PROCESS, points=CURVE_POINTS)
    return (squares if kind == "squares" else blobs)(key, int(number)), None


def _own(config: "Config", key: Key[Array, ""]) -> Case:
    """Data of a file or images, some of them held out."""
    if config.file is not None:
        rows = load_points(config.file).astype(np.float32)
    else:
        pixels = load_images(config.images or "", config.side).pixels
        rows = pixels.reshape(len(pixels), -1)
    if len(rows) < SMALLEST:
        raise ValueError(f"{config.file or config.images} holds {len(rows)} data: give at least {SMALLEST}")
    order = np.asarray(jax.random.permutation(named_key(key, "held-out", 0), len(rows)))
    held_out, kept = np.split(rows[order], [min(config.num_data, len(rows) // 5)])
    x = jnp.asarray(held_out)
    return Case(Finite(jnp.asarray(kept)), kept, x, np.full(len(x), np.nan), None)
