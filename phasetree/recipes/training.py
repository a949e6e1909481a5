"""The trained denoisers of experiments: on random hierarchies, losses beside those of exact inference; on mixtures."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key

from diffusion import (
    AbstractNetworkDenoiser,
    FreshStrings,
    FreshVectors,
    Preconditioned,
    TrainConfig,
    TreeUNet,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.denoise.loss import posterior_loss, site_weights
from diffusion.noise.process import AbstractTokenProcess
from diffusion.noise.schedule import default_schedule
from diffusion.training.train import draw_times
from hierarchical import GaussianMixture, RandomHierarchyModel
from phasetree.experiment import Inputs, Training
from phasetree.progress import training_bar
from phasetree.results import ResultFolder
from theory import batched_cavity_marginals

EVALUATION = 4096  # strings on which losses are compared


def named_key(key: Key[Array, ""] | int, purpose: str, number: int) -> Key[Array, ""]:
    """The random key of one purpose: its name is hashed into the run's key, so that purposes never share one."""
    words = np.frombuffer(purpose.encode().ljust(32, b"\0")[:32], np.uint32)
    key = jax.random.key(key) if isinstance(key, int) else key
    for word in (*words.tolist(), number):
        key = jax.random.fold_in(key, word)
    return key


def trained_on_grammar(
    keys: Callable[[str, int], Key[Array, ""]],
    folder: ResultFolder,
    number: int,
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    config: TrainConfig,
    *,
    width: int,
    seed: int,
) -> tuple[AbstractNetworkDenoiser, xr.Dataset]:
    """A tree U-Net trained on fresh strings of grammar `number`; checkpoints and exact losses are kept in the folder.

    Args:
      keys: the key of a purpose, by its name and number.
      seed: of the network's initial weights, with `number`.

    Returns:
      The denoiser, and `training_loss` by step, the exact `bayes_training_loss` and `bayes_loss`, and `excess_loss` of
      the network over the latter with its standard error, on the same 4096 noised strings; nats per site.
    """
    identity = {
        "grammar": number,
        "vocabulary": list(rhm.vocabulary),
        "synonyms": list(rhm.synonyms),
        "branching": list(rhm.branching),
        "process": repr(process),
        "width": width,
        "seed": seed,
    }
    network = TreeUNet(process, rhm.branching, width, rngs=nnx.Rngs(seed + number))
    denoiser = from_flax(network, process, rhm.num_leaves, blind=True)
    data = _noised_data(keys("evaluation", number), rhm, process)
    bayes = folder.stage(f"bayes-{number}", lambda: _bayes_losses(rhm, process, data))
    floor = float(bayes.cavity_loss.mean())
    with training_bar(f"training, Bayes loss {floor:.4f}", config) as report:
        result = train(
            keys("train", number),
            denoiser,
            FreshStrings(rhm),
            config,
            folder=folder.path / "checkpoints" / str(number),
            fingerprint=identity,
            report=report,
        )
    losses = _network_losses(result.denoiser, *data)
    training = xr.Dataset(
        {
            "training_loss": ("step", np.asarray(result.losses)),
            "bayes_training_loss": floor,
            "bayes_loss": float(bayes.posterior_loss.mean()),
            "excess_loss": float(np.mean(losses - bayes.posterior_loss.values)),
            "excess_loss_stderr": float(np.std(losses - bayes.posterior_loss.values) / EVALUATION**0.5),
        },
        attrs={"unit": "nats per site"},
    )
    return result.denoiser, training


def network_on_mixture(
    key: Key[Array, ""], inputs: Inputs, mixture: GaussianMixture, config: TrainConfig, *, width: int
) -> Training:
    """A dense network trained on fresh data of a mixture; its record is the `loss` of every step.

    Args:
      key: of the run; weights and draws follow from it and the dimension.
    """
    d = mixture.dimension
    network = VectorMLP(d, width, rngs=nnx.Rngs(named_key(key, "network", d)))
    mean = mixture.weights @ mixture.means / jnp.sum(mixture.weights)
    spread = jnp.sum((mixture.means - mean[None]) ** 2, 1) / d + jnp.mean(mixture.variances, 1)
    scale = float(jnp.sqrt(mixture.weights @ spread / jnp.sum(mixture.weights)))  # of a number
    denoiser = from_flax(network, VectorProcess(), (d,), parametrisation=Preconditioned(scale))
    result = train(
        named_key(key, "train", d),
        denoiser,
        FreshVectors(mixture),
        config,
        folder=inputs.folder,
        report=inputs.training(config),
    )
    attributes = {"long_name": "training loss", "units": "squared error of a number of variance 1"}
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses), attributes)}))


def trained_on_mixture(
    seed: int,
    folder: ResultFolder,
    mixture: GaussianMixture,
    config: TrainConfig,
    *,
    width: int,
    identity: dict,
) -> tuple[AbstractNetworkDenoiser, Float[np.ndarray, " steps"]]:
    """A dense network trained on fresh data of a mixture, and its loss at every step; checkpoints are kept.

    Args:
      seed: of weights and draws, with the dimension.
      identity: what tells this mixture from others of its dimension.
    """
    d = mixture.dimension
    network = VectorMLP(d, width, rngs=nnx.Rngs(named_key(seed, "network", d)))
    mean = mixture.weights @ mixture.means / jnp.sum(mixture.weights)
    spread = jnp.sum((mixture.means - mean[None]) ** 2, 1) / d + jnp.mean(mixture.variances, 1)
    scale = float(jnp.sqrt(mixture.weights @ spread / jnp.sum(mixture.weights)))  # of a number
    denoiser = from_flax(network, VectorProcess(), (d,), parametrisation=Preconditioned(scale))
    with training_bar(f"training in {d} dimensions", config) as report:
        result = train(
            named_key(seed, "train", d),
            denoiser,
            FreshVectors(mixture),
            config,
            folder=folder.path / "checkpoints" / str(d),
            fingerprint={"dimension": d, "width": width, **identity},
            report=report,
        )
    return result.denoiser, np.asarray(result.losses)


def training_lines(dataset: xr.Dataset) -> list[str]:
    """The excess loss of each trained network, in words; nothing where none was trained."""
    if "excess_loss" not in dataset:
        return []
    numbers = zip(
        *(np.ravel(dataset[name]) for name in ("excess_loss", "excess_loss_stderr", "bayes_loss")), strict=True
    )
    return [
        f"Grammar {number}: trained loss {excess:.4f} +- {error:.4f} nats per site above Bayes ({bayes:.4f}), "
        f"{100 * excess / bayes:.2f} +- {100 * error / bayes:.2f}%."
        for number, (excess, error, bayes) in enumerate(numbers)
    ]


def _bayes_losses(rhm: RandomHierarchyModel, process: AbstractTokenProcess, data: tuple[Array, ...]) -> xr.Dataset:
    posterior, cavity = _exact_losses(rhm, process, *data)
    return xr.Dataset({"posterior_loss": ("datum", posterior), "cavity_loss": ("datum", cavity)})


@eqx.filter_jit
def _noised_data(key: Key[Array, ""], rhm: RandomHierarchyModel, process: AbstractTokenProcess) -> tuple[Array, ...]:
    """Strings, what training would make of them, and at which times."""
    data_key, time_key, noise_key = jax.random.split(key, 3)
    x0 = FreshStrings(rhm).batch(data_key, EVALUATION)
    t = draw_times(time_key, EVALUATION, default_schedule(process))
    return x0, jax.vmap(process.corrupt)(jax.random.split(noise_key, EVALUATION), x0, t), t


@eqx.filter_jit
def _exact_losses(rhm: RandomHierarchyModel, process: AbstractTokenProcess, x0, x_t, t) -> tuple[Array, Array]:
    """Losses of each string, posterior and cavity, of which the posterior is the cavity with the site's evidence."""
    evidence = jax.vmap(process.log_likelihood)(x_t, t)
    cavity = jnp.log(batched_cavity_marginals(rhm, evidence)[-1])
    posterior = posterior_loss(jax.nn.log_softmax(cavity + evidence), x0, site_weights(process, x_t))
    return posterior, posterior_loss(cavity, x0, jnp.full(x0.shape, 1 / rhm.num_leaves, t.dtype))


@eqx.filter_jit
def _network_losses(denoiser: AbstractNetworkDenoiser, x0, x_t, t) -> Array:
    return posterior_loss(denoiser(x_t, t), x0, site_weights(denoiser.process, x_t))
