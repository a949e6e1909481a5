"""The stages of the experiment `speciation`, each kept in the folder when done, and how they become one dataset."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Key
from tqdm import tqdm

from diffusion import (
    AbstractDenoiser,
    ProbabilityFlow,
    ReverseSDE,
    VectorProcess,
)
from hierarchical import GaussianMixture, two_clusters
from phasetree.experiments.speciation.config import SpeciationConfig
from phasetree.recipes.training import named_key, trained_on_mixture
from phasetree.results import ResultFolder
from theory.exact import MixtureDenoiser
from theory.gaussian.speciation import speciation_time

CURVES = ("U-turn", "clones", "flow")
SHORTEST = 0.1  # below it the mean of x_0 is taken: clusters are told apart there, S > 13 from d = 8 on
ELEMENTS = 2**23  # numbers of trajectories that are in memory at a time


def run(config: SpeciationConfig, folder: ResultFolder) -> xr.Dataset:
    """Train, noise and denoise at every noise time and dimension. Resumes from what `folder` holds.

    Returns:
      `same`, 1 or 0 for every `denoiser` (exact, trained), `curve` (U-turn, clones, flow), `dimension`, `offset` and
      trajectory, NaN where nothing was trained; the `time` of every dimension and offset; losses of training.
    """
    parts, losses = {}, {}
    kinds = [("exact", d) for d in config.dimensions] + [("trained", d) for d in config.trained]
    with tqdm(desc="U-turns and clones", total=len(kinds) * len(config.offsets), unit="time") as bar:
        for number, (kind, d) in enumerate(kinds):
            mixture = two_clusters(named_key(config.seed, "means", d), d, config.std)
            denoiser: AbstractDenoiser = MixtureDenoiser(mixture=mixture, process=VectorProcess())
            if kind == "trained":
                denoiser, losses[d] = trained_on_mixture(config.seed, folder, mixture, config.train, width=config.width)
            parts[kind, d] = folder.stage(
                f"{kind}-{d}", lambda m=mixture, dn=denoiser, k=kind: _measured(config, m, dn, k, bar.update)
            )
            bar.update((number + 1) * len(config.offsets) - bar.n)
    same = [_stacked({d: parts[kind, d].same for d in config.dimensions if (kind, d) in parts}) for kind in dict(kinds)]
    dataset = xr.Dataset(
        {
            "same": xr.concat(same, xr.Variable("denoiser", list(dict(kinds))), join="outer"),
            "time": (("dimension", "offset"), np.array([noise_times(config, d) for d in config.dimensions])),
        }
    ).assign_coords(curve=list(CURVES), offset=list(config.offsets))
    for d, loss in losses.items():
        dataset[f"loss_{d}"] = (f"step_{d}", loss, {"units": "squared error of a number of variance 1"})
    dataset.time.attrs = {"long_name": "Ornstein-Uhlenbeck time", "units": "1"}
    return dataset.assign_attrs(config=folder.config, seed=config.seed, std=config.std)


def _stacked(arrays: dict[int, xr.DataArray]) -> xr.DataArray:
    return xr.concat(list(arrays.values()), xr.Variable("dimension", list(arrays)))


def noise_times(config: SpeciationConfig, dimension: int) -> list[float]:
    """Where a dimension is measured: around its speciation time."""
    centre = speciation_time(float(dimension), config.std**2).time
    times = [centre + offset for offset in config.offsets]
    if times[0] <= SHORTEST:
        raise ValueError(
            f"offsets from {config.offsets[0]}: in d = {dimension} dimensions, speciation at {centre:.3f}, that is "
            f"before t = {SHORTEST}: raise the first offset or drop the dimension"
        )
    return times


def _measured(
    config: SpeciationConfig, mixture: GaussianMixture, denoiser: AbstractDenoiser, kind: str, tell: Callable
) -> xr.Dataset:
    """Whether clusters are the same, for every noise time; `tell` is called after each."""
    d = mixture.dimension
    calls = -(-config.trajectories * d // ELEMENTS)
    size = -(-config.trajectories // calls)
    samplers = (ReverseSDE(config.sampler_steps, SHORTEST), ProbabilityFlow(config.sampler_steps, SHORTEST))
    rows = []
    for number, t in enumerate(noise_times(config, d)):
        keys = jax.random.split(named_key(config.seed, f"{kind}-{d}", number), calls)
        found = [_same(key, mixture, denoiser, samplers, jnp.float32(t), size) for key in keys]
        rows.append(np.concatenate([np.asarray(part) for part in found], 1)[:, : config.trajectories])
        tell()
    return xr.Dataset({"same": (("offset", "curve", "trajectory"), np.stack(rows).astype(np.float32))})


@eqx.filter_jit
def _same(
    key: Key[Array, ""],
    mixture: GaussianMixture,
    denoiser: AbstractDenoiser,
    samplers: tuple[ReverseSDE, ProbabilityFlow],
    t: Float[Array, ""],
    size: int,
) -> Bool[Array, "curves trajectories"]:
    """Whether the cluster is that of the datum after a U-turn, of the other clone, of the datum after the flow."""
    data_key, noise_key, first_key, second_key, flow_key = jax.random.split(key, 5)
    equation, flow = samplers
    x0 = mixture.sample(data_key, (size,)).x
    times = jnp.full(size, t)
    x_t = jax.vmap(denoiser.process.corrupt)(jax.random.split(noise_key, size), x0, times)
    first, second = (equation(k, denoiser, x_t, times) for k in (first_key, second_key))
    after = flow(flow_key, denoiser, x_t, times)
    before, one, two, flowed = (x @ mixture.means[0] > 0 for x in (x0, first, second, after))
    return jnp.stack([before == one, one == two, before == flowed])
