"""The stages of the experiment `memorisation-time`, each kept in the folder when done, and the dataset they make."""

import dataclasses
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
from diffusion.training.train import draw_times
from hierarchical import two_clusters
from phasetree.experiments.memorisation_time.config import MemorisationConfig
from phasetree.progress import training_bar
from phasetree.recipes.training import named_key
from phasetree.results import ResultFolder
from theory.exact import MixtureDenoiser
from theory.exact.empirical import EmpiricalDenoiser

DRAWS = 4096  # noised data on which losses are compared
START = 4.0  # where generation begins, OU units
NEAREST = 1 / 3  # generated data count as copies when so much nearer to one point than to any other


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


def run(config: MemorisationConfig, folder: ResultFolder) -> xr.Dataset:
    """Train on every set and look at the network as it is trained. Resumes from what `folder` holds.

    Returns:
      For every number of `points`, repeat and look (its `step`): `train_loss` and `test_loss` on noised training points
      and fresh data, `excess`, the squared error against the exact denoiser on the latter, `copies`, the fraction of
      generated data that are copies. Of each set the same losses of exact denoisers: `bayes_loss` and `empirical_loss`
      on its noised points, `initial_excess` of the untrained network.
    """
    parts = [
        xr.concat(
            [folder.stage(f"points-{n}-{r}", lambda n=n, r=r: _watched(config, folder, n, r)) for n in config.points],
            xr.Variable("points", list(config.points)),
            join="outer",
        )
        for r in range(config.repeats)
    ]
    dataset = xr.concat(parts, "repeat")
    return dataset.assign_attrs(
        config=folder.config, seed=config.seed, dimension=config.dimension, std=config.std, width=config.width
    )


def _watched(config: MemorisationConfig, folder: ResultFolder, points: int, repeat: int) -> xr.Dataset:
    """One network, trained; every look at it is a stage of its own."""
    case, name = _case(config, points, repeat), f"points-{points}-{repeat}"
    network = VectorMLP(config.dimension, config.width, rngs=nnx.Rngs(named_key(config.seed, "network", repeat)))
    denoiser = from_flax(
        network,
        case.exact.process,
        (config.dimension,),
        parametrisation=case.parametrisation,
    )
    bayes = _losses(case.exact, case)
    empirical = _losses(EmpiricalDenoiser(data=case.data, process=case.exact.process), case)
    steps, sampler = config.observed(points), ProbabilityFlow(config.sampler_steps)

    def look(step: int, found: AbstractNetworkDenoiser) -> None:
        if step in steps:
            folder.stage(f"{name}-step-{step}", lambda: _look(found, case, sampler))

    training = dataclasses.replace(config.train, steps=steps[-1])
    with training_bar(f"training on {points} points ({repeat + 1} of {config.repeats})", training) as report:
        train(
            named_key(config.seed, f"train-{points}", repeat),
            denoiser,
            Finite(case.data),
            training,
            folder=folder.path / "checkpoints" / name,
            report=report,
            observe=look,
        )

    def lost() -> xr.Dataset:
        raise FolderError(
            f"what was seen of {points} points, repeat {repeat}, is lost in part: delete "
            f"{folder.path / 'checkpoints' / name}, and the same command trains that network again"
        )

    looks = xr.concat([folder.stage(f"{name}-step-{step}", lost) for step in steps], "look")
    return looks.assign_coords(look=range(len(steps))).assign(
        step=("look", steps),
        bayes_loss=float(bayes[0]),
        empirical_loss=float(empirical[0]),
        initial_excess=float(_losses(denoiser, case)[2]),
    )


def _case(config: MemorisationConfig, points: int, repeat: int) -> Case:
    """The clusters are those of the seed; each repeat has a training set of its own, larger ones contain smaller."""
    mixture = two_clusters(named_key(config.seed, "means", config.dimension), config.dimension, config.std)
    exact = MixtureDenoiser(mixture=mixture, process=VectorProcess())
    supply = Fresh(mixture)
    data = supply.batch(named_key(config.seed, "data", repeat), max(config.points))[:points]
    keys = jax.random.split(named_key(config.seed, "evaluation", repeat), 5)
    noised = _noised(keys[0], keys[1], exact, data[jnp.arange(DRAWS) % points])
    fresh = _noised(keys[2], keys[3], exact, supply.batch(named_key(config.seed, "fresh", repeat), DRAWS))
    sigma = exact.process.path.sigma(START).astype(jnp.float32)
    start = sigma * jax.random.normal(keys[4], (config.generated, config.dimension), jnp.float32)
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
    distances = jnp.linalg.norm(made[:, None] - case.data[None], axis=-1)
    nearest = -jax.lax.top_k(-distances, 2)[0]
    return jnp.mean((nearest[:, 0] < NEAREST * nearest[:, 1]).astype(jnp.float32))
