"""Stages that measure: counts from data alone, and symmetries read off scores."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float64, Key
from scipy.spatial import KDTree

from diffusion import AbstractVectorDenoiser, VarianceExploding, VectorProcess
from diffusion.measure import dimension, symmetry
from diffusion.noise.gaussian import time_of_noise
from hierarchical import intrinsic_dimension, linear_rank, tangent_generators
from phasetree.experiment import Inputs
from phasetree.experiments.symmetry.config import Config
from phasetree.experiments.symmetry.sets import CASES, OWN, Rows, rows_of, spectrum_of, unit
from phasetree.recipes.training import named_key
from theory.exact import AbstractEmpiricalDenoiser, EmpiricalDenoiser, MixtureDenoiser

PROCESS = VectorProcess(VarianceExploding())
NUM_POINTS = 2500  # for the dimension from data alone
NUM_ASKED = 2048  # points at which a score is asked; those of the exact one, which is slow, are fewer
NUM_EXACT = 256
NEIGHBOUR = 10  # whose distance is the least noise for data alone
MOST_GENERATORS = 64  # of a set that are kept
DATA_PER_NUMBER = 8  # that a search needs, for each number of a generator; with fewer it is left out


def counted(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> xr.Dataset:
    """Counts, and the rotations of the law, from data alone and by the exact score where it is known."""
    x = rows_of(config, key, name, 0.0, max(config.num_data, NUM_POINTS))
    found = dimension.from_data(named_key(key, f"dimension-{name}", 0), x[:NUM_POINTS].astype(np.float64))
    inputs.advance(inputs.units / 2)
    record = {
        "rank": float(linear_rank(np.cov(x.T).astype(np.float32))),
        "dimension": float(found.value),
        "dimension_stderr": float(found.stderr),
        "eigenvalue": ("place", spectrum_of(x)),
    }
    if name != OWN:
        law = CASES[name].law(0.0)
        record["jacobian_rank"] = float(intrinsic_dimension(named_key(key, f"rank-{name}", 0), law))
    alone = EmpiricalDenoiser(jnp.asarray(x), PROCESS)
    assert isinstance(alone, AbstractVectorDenoiser)  # of arrays
    parts = [_symmetries(config, key, name, alone, x[:NUM_ASKED], "data")]
    exact = None if name == OWN else CASES[name].exact
    if exact is not None:
        denoiser = MixtureDenoiser(mixture=exact(CASES[name].law(0.0)), process=PROCESS)
        parts.append(_symmetries(config, key, name, denoiser, x[:NUM_EXACT], "exact"))
    inputs.advance(inputs.units / 2)
    return xr.merge([xr.Dataset(record), xr.concat(parts, "score")])


def asked(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> xr.Dataset:
    """The symmetries of a trained denoiser."""
    x = rows_of(config, key, name, 0.0, config.num_data)[:NUM_ASKED]
    return _symmetries(config, key, name, inputs[f"score-{name}"].model, x, "trained")


def _spacing(x: Rows) -> float:
    """The median distance of a datum to its tenth neighbour: at less noise the data alone know only themselves."""
    return float(np.median(KDTree(x).query(x[:NUM_ASKED], NEIGHBOUR + 1)[0][:, -1]))


def _symmetries(
    config: Config, key: Key[Array, ""], name: str, denoiser: AbstractVectorDenoiser, x: Rows, kind: str
) -> xr.Dataset:
    """Rotations of the law and generators of the set that are broken least, and their angles with the true ones."""
    variances = np.var(x, 0, dtype=np.float64)
    size = float(np.sqrt(variances[variances > 1e-6 * variances.max()].mean()))
    least = {"law": 0.0, "set": 0.0}
    if isinstance(denoiser, AbstractEmpiricalDenoiser):
        least["set"] = _spacing(np.asarray(denoiser.data))
    purpose = named_key(key, f"{kind}-{name}", 0)
    columns = {}
    if len(x) < DATA_PER_NUMBER * np.linalg.matrix_rank(x) ** 2:
        return xr.Dataset({f"{part}_searched": ("score", [np.nan]) for part in ("law", "set")}, {"score": [kind]})
    for part, noise, of_set in (("law", config.noise, False), ("set", config.set_noise, True)):
        draw = jax.random.fold_in(purpose, int(of_set))
        t = time_of_noise(max(noise * size, least[part]))
        whole = of_set or name == OWN  # whose features are rescaled, so that rotations are not seen as such
        search = symmetry.search if whole else symmetry.search_rotations
        found = search(draw, denoiser, x, t, of_set=of_set)
        true = None if name == OWN else _true(named_key(key, f"algebra-{name}", 0), name, of_set)
        breaking = np.full((2, MOST_GENERATORS), np.nan)
        shown = min(MOST_GENERATORS, len(found.matrices))
        breaking[0, :shown], breaking[1, :shown] = found.breaking.value[:shown], found.breaking.stderr[:shown]
        columns |= {
            f"{part}_breaking": (("score", "generator"), breaking[:1]),
            f"{part}_breaking_stderr": (("score", "generator"), breaking[1:]),
            f"{part}_searched": ("score", [float(len(found.matrices))]),
        }
        if true is not None:
            count = min(len(true), len(found.matrices))
            angle = symmetry.principal_angles(found.matrices[:count], true)[0] if count else np.nan
            columns |= {f"{part}_true": ("score", [float(len(true))]), f"{part}_angle": ("score", [float(angle)])}
    return xr.Dataset(columns, {"score": [kind]})


def _true(key: Key[Array, ""], name: str, of_set: bool) -> Float64[np.ndarray, "g d d"]:
    """Generators of the law or of the set, acting on features in their unit."""
    law, size = CASES[name].law(0.0), unit(name)
    matrices = np.asarray(tangent_generators(key, law) if of_set else law.rotations(), np.float64)
    return matrices * size[None, None] / size[None, :, None]
