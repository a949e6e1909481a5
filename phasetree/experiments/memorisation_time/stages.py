"""The stages of the experiment `memorisation-time`, `points-N-R` for the R-th set of N points, and their dataset."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key

from diffusion import (
    AbstractDenoiser,
    AbstractNetworkDenoiser,
    Finite,
    FolderError,
    Fresh,
    LogSNRSchedule,
    Preconditioned,
    ProbabilityFlow,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.measure import is_copy
from diffusion.training.train import draw_times
from hierarchical import two_clusters
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.memorisation_time.config import Config
from phasetree.recipes.training import named_key
from theory.exact import MixtureDenoiser
from theory.exact.empirical import EmpiricalDenoiser

DRAWS = 4096  # noised data on which losses are compared
START = 4.0  # where generation begins, OU units
SHORTEST = 0.002  # where the mean of x_0 is taken, OU units


class Noised(NamedTuple):
    """Data, noised."""

    x0: Float[Array, "draws d"]
    x_t: Float[Array, "draws d"]
    t: Float[Array, " draws"]


class Case(NamedTuple):
    """A training set and what its network is held against."""

    data: Float[Array, "n d"]
    exact: MixtureDenoiser
    noised: Noised
    """Training points, noised."""
    fresh: Noised
    """Other data of the same law, noised."""
    start: Float[Array, "generated d"]
    """Where generation begins."""
    parametrisation: Preconditioned
    """The network's: losses are in its unit."""


def plan(config: Config) -> list[Stage]:
    """One stage for each training set."""
    return [
        Stage(f"points-{n}-{r}", watched, units=n / config.points[0], options={"points": n, "repeat": r})
        for r in range(config.num_repeats)
        for n in config.points
    ]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every number of `points`, repeat and look (its `step`): `train_loss` and `test_loss` on noised training points
      and fresh data, `excess`, the squared error against the exact denoiser on the latter, `copies`, the fraction of
      generated data that are copies. Of each set the same losses of exact denoisers: `bayes_loss` and `empirical_loss`
      on its noised points, `initial_excess` of the untrained network.
    """
    sizes = xr.Variable("points", list(config.points))
    parts = [
        xr.concat([results[f"points-{n}-{r}"] for n in config.points], sizes, join="outer")
        for r in range(config.num_repeats)
    ]
    return xr.concat(parts, "repeat")


def watched(config: Config, key: Key[Array, ""], inputs: Inputs, *, points: int, repeat: int) -> xr.Dataset:
    """One network, trained; every look at it is kept when it is done.

    Raises:
      FolderError: if training is finished and a look is lost.
    """
    case = _case(config, key, points, repeat)
    network = VectorMLP(config.dimension, config.width, rngs=nnx.Rngs(named_key(key, "network", repeat)))
    shape, parametrisation = (config.dimension,), case.parametrisation
    denoiser = from_flax(network, case.exact.process, shape, parametrisation=parametrisation)
    steps, sampler = config.observed(points), ProbabilityFlow(config.sampler_steps, SHORTEST)

    def look(step: int, found: AbstractNetworkDenoiser) -> None:
        if step in steps:
            inputs.keep(f"step-{step}", lambda: _look(found, case, sampler))

    training = dataclasses.replace(config.train, steps=steps[-1])
    train(
        named_key(key, f"train-{points}", repeat),
        denoiser,
        Finite(case.data),
        training,
        folder=inputs.folder,
        report=inputs.training(training),
        observe=look,
    )

    def lost() -> xr.Dataset:
        raise FolderError(
            f"what was measured of {points} points, repeat {repeat}, is lost in part: delete {inputs.folder}, and the "
            f"same command trains that network again"
        )

    bayes = _losses(case.exact, case)
    empirical = _losses(EmpiricalDenoiser(data=case.data, process=case.exact.process), case)
    looks = xr.concat([inputs.keep(f"step-{step}", lost) for step in steps], "look")
    return looks.assign_coords(look=range(len(steps))).assign(
        step=("look", steps),
        bayes_loss=float(bayes[0]),
        empirical_loss=float(empirical[0]),
        initial_excess=float(_losses(denoiser, case)[2]),
    )


def _case(config: Config, key: Key[Array, ""], points: int, repeat: int) -> Case:
    """The clusters are those of the seed; each repeat has a training set of its own, larger ones contain smaller."""
    mixture = two_clusters(named_key(key, "means", config.dimension), config.dimension, config.std)
    exact = MixtureDenoiser(mixture=mixture, process=VectorProcess())
    supply = Fresh(mixture)
    data = supply.batch(named_key(key, "data", repeat), max(config.points))[:points]
    keys = jax.random.split(named_key(key, "evaluation", repeat), 5)
    noised = _noised(keys[0], keys[1], exact, data[jnp.arange(DRAWS) % points])
    fresh = _noised(keys[2], keys[3], exact, supply.batch(named_key(key, "fresh", repeat), DRAWS))
    sigma = exact.process.path.sigma(START).astype(jnp.float32)
    start = sigma * jax.random.normal(keys[4], (config.num_data, config.dimension), jnp.float32)
    return Case(data, exact, noised, fresh, start, Preconditioned(float((1 + config.std**2) ** 0.5)))


def _noised(
    time_key: Key[Array, ""], noise_key: Key[Array, ""], exact: MixtureDenoiser, x0: Float[Array, "draws d"]
) -> Noised:
    t = draw_times(time_key, len(x0), LogSNRSchedule())
    return Noised(x0, jax.vmap(exact.process.corrupt)(jax.random.split(noise_key, len(x0)), x0, t), t)


def _look(denoiser: AbstractNetworkDenoiser, case: Case, sampler: ProbabilityFlow) -> xr.Dataset:
    losses = _losses(denoiser, case)
    names = ("train_loss", "test_loss", "excess")
    found = {name: float(value) for name, value in zip(names, losses, strict=True)}
    return xr.Dataset({**found, "copies": float(_copies(denoiser, case, sampler))})


@eqx.filter_jit
def _losses(denoiser: AbstractDenoiser, case: Case) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Mean squared errors in the unit of the network's loss: on training points, on fresh data, there against exact."""

    def loss(noised: Noised, want: Float[Array, "draws d"]) -> Float[Array, ""]:
        _, scale, _ = case.parametrisation.factors(case.exact.process.path, noised.t)
        return jnp.mean(((denoiser(noised.x_t, noised.t) - want) / scale[:, None]) ** 2)

    fresh = case.fresh
    return loss(case.noised, case.noised.x0), loss(fresh, fresh.x0), loss(fresh, case.exact(fresh.x_t, fresh.t))


@eqx.filter_jit
def _copies(denoiser: AbstractDenoiser, case: Case, sampler: ProbabilityFlow) -> Float[Array, ""]:
    """The fraction of generated data that are three times as near to one training point as to any other."""
    made = sampler(jax.random.key(0), denoiser, case.start, jnp.full(len(case.start), START, jnp.float32))
    return jnp.mean(is_copy(made, case.data).astype(jnp.float32))
