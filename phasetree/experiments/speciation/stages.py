"""The stages of the experiment `speciation`, and how they become one dataset.

train-D                 one network for each dimension D that is trained
exact-D, trained-D      U-turns, clones and flow at every noise time
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Key

from diffusion import AbstractDenoiser, ProbabilityFlow, ReverseSDE, VectorProcess
from hierarchical import GaussianMixture, two_clusters
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.speciation.config import Config
from phasetree.recipes.training import named_key, network_on_mixture
from theory.exact import MixtureDenoiser
from theory.gaussian.speciation import speciation_time

CURVES = ("U-turn", "clones", "flow")
SHORTEST = 0.1  # below it the mean of x_0 is taken: clusters are told apart there, S > 13 from d = 8 on
ELEMENTS = 2**23  # numbers of trajectories that are in memory at a time


def plan(config: Config) -> list[Stage]:
    """Train, then noise and denoise at every noise time, in every dimension.

    Raises:
      ValueError: if a noise time lies before the first at which clusters are told apart.
    """
    for d in config.dimensions:
        noise_times(config, d)
    units = len(config.offsets)
    exact = [Stage(f"exact-{d}", measured, units=units, options={"dimension": d}) for d in config.dimensions]
    networks = () if config.no_train else config.trained
    training = [Stage(f"train-{d}", trained, units=units, options={"dimension": d}) for d in networks]
    after = [
        Stage(f"trained-{d}", measured, (f"train-{d}",), units, options={"dimension": d, "network": f"train-{d}"})
        for d in networks
    ]
    return [*exact, *training, *after]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      `same`, 1 or 0 for every `denoiser` (exact, trained), `curve` (U-turn, clones, flow), `dimension`, `offset` and
      trajectory, NaN where nothing was trained; the noise time `t` of every dimension and offset; training losses.
    """
    kinds = ("exact",) if config.no_train or not config.trained else ("exact", "trained")
    same = [
        _stacked({d: results[f"{kind}-{d}"].same for d in config.dimensions if f"{kind}-{d}" in results})
        for kind in kinds
    ]
    dataset = xr.Dataset(
        {
            "same": xr.concat(same, xr.Variable("denoiser", list(kinds)), join="outer"),
            "t": (("dimension", "offset"), np.array([noise_times(config, d) for d in config.dimensions])),
        }
    ).assign_coords(curve=list(CURVES), offset=list(config.offsets))
    for d in config.trained if len(kinds) > 1 else ():
        dataset[f"loss_{d}"] = results[f"train-{d}"].loss.rename(step=f"step_{d}")
    dataset.t.attrs = {"long_name": "noise time", "units": "1", "process": "Ornstein-Uhlenbeck"}
    return dataset


def _stacked(arrays: dict[int, xr.DataArray]) -> xr.DataArray:
    return xr.concat(list(arrays.values()), xr.Variable("dimension", list(arrays)))


def noise_times(config: Config, dimension: int) -> list[float]:
    """Where a dimension is measured: around its speciation time."""
    centre = speciation_time(float(dimension), config.std**2).time
    times = [centre + offset for offset in config.offsets]
    if times[0] <= SHORTEST:
        raise ValueError(
            f"offsets from {config.offsets[0]}: in d = {dimension} dimensions, speciation at {centre:.3f}, that is "
            f"before t = {SHORTEST}: raise the first offset or drop the dimension"
        )
    return times


def clusters(config: Config, key: Key[Array, ""], dimension: int) -> GaussianMixture:
    """The direction of the means is drawn for each dimension."""
    return two_clusters(named_key(key, "means", dimension), dimension, config.std)


def trained(config: Config, key: Key[Array, ""], inputs: Inputs, *, dimension: int) -> Training:
    """The network of one dimension."""
    return network_on_mixture(key, inputs, clusters(config, key, dimension), config.train, width=config.width)


def measured(
    config: Config, key: Key[Array, ""], inputs: Inputs, *, dimension: int, network: str | None = None
) -> xr.Dataset:
    """Whether clusters are the same at every noise time, for the exact denoiser or that of the stage `network`."""
    mixture, kind = clusters(config, key, dimension), "trained" if network else "exact"
    exact = MixtureDenoiser(mixture=mixture, process=VectorProcess())
    denoiser = inputs[network].model if network else exact
    calls = -(-config.num_trajectories * dimension // ELEMENTS)
    size = -(-config.num_trajectories // calls)
    samplers = (ReverseSDE(config.sampler_steps, SHORTEST), ProbabilityFlow(config.sampler_steps, SHORTEST))
    rows = []
    for number, t in enumerate(noise_times(config, dimension)):
        keys = jax.random.split(named_key(key, f"{kind}-{dimension}", number), calls)
        parts = [np.asarray(_same(k, mixture, denoiser, samplers, jnp.float32(t), size)) for k in keys]
        rows.append(np.concatenate(parts, 1)[:, : config.num_trajectories])
        inputs.advance()
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
