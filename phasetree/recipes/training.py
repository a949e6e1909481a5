"""Trained denoisers of experiments: of random hierarchies, with losses beside exact inference, and of mixtures."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Key

from diffusion import (
    AbstractNetworkDenoiser,
    Fresh,
    Preconditioned,
    TrainConfig,
    TreeUNet,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.denoise.loss import posterior_loss, site_weights
from diffusion.measure import Estimate, mean_estimate
from diffusion.noise.process import AbstractTokenProcess
from diffusion.noise.schedule import default_schedule
from diffusion.training.train import draw_times
from hierarchical import GaussianMixture, RandomHierarchyModel
from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Inputs, Training
from phasetree.findings import path
from theory import cavity_marginals

EVALUATION = 32_768  # strings of which losses are compared: excess losses have heavy tails, 4096 cover too rarely


def named_key(key: Key[Array, ""] | int, purpose: str, number: int) -> Key[Array, ""]:
    """The random key of one purpose: its name is hashed into the run's key, so that purposes never share one."""
    words = np.frombuffer(purpose.encode().ljust(32, b"\0")[:32], np.uint32)
    key = jax.random.key(key) if isinstance(key, int) else key
    for word in (*words.tolist(), number):
        key = jax.random.fold_in(key, word)
    return key


def network_on_grammar(
    key: Key[Array, ""],
    inputs: Inputs,
    number: int,
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    config: TrainConfig,
    *,
    width: int,
    seed: int,
    observe: Callable[[int, AbstractNetworkDenoiser], None] = lambda step, denoiser: None,
) -> Training:
    """A tree U-Net trained on fresh strings of grammar `number`, beside exact inference.

    Args:
      key: of the run; data, times and noise of the training follow from it and `number`.
      seed: of the network's initial weights, with `number`.
      observe: as of `train`.

    Returns:
      The denoiser, and as its record `losses_beside_exact` and the `training_loss` of every step; nats per site.
    """
    network = TreeUNet(process, rhm.branching, width, rngs=nnx.Rngs(seed + number))
    denoiser = from_flax(network, process, rhm.num_leaves, blind=True)
    result = train(
        named_key(key, "train", number),
        denoiser,
        Fresh(rhm),
        config,
        folder=inputs.folder,
        report=inputs.training(config),
        observe=observe,
    )
    record = losses_beside_exact(named_key(key, "evaluation", number), rhm, result.denoiser)
    record["training_loss"] = ("step", np.asarray(result.losses))
    return Training(result.denoiser, record)


def losses_beside_exact(
    key: Key[Array, ""], rhm: RandomHierarchyModel, denoiser: AbstractNetworkDenoiser
) -> xr.Dataset:
    """The network's posterior loss beside the exact one on 32,768 noised strings, and the exact training loss.

    Returns:
      `bayes_training_loss`, `bayes_loss`, and `excess_loss` of the network over it with its standard error, paired
      string by string; nats per site.
    """
    size = min(4096, max(1, 2**23 // (rhm.num_leaves * rhm.num_symbols)))  # XLA folds constants of its length slowly
    keys = jax.random.split(key, EVALUATION // size)
    parts = [np.stack(_compared(k, rhm, denoiser, size)) for k in keys]
    ours, exact, cavity = np.concatenate(parts, 1).astype(float)
    excess = mean_estimate(jnp.asarray(ours - exact))
    return xr.Dataset(
        {
            "bayes_training_loss": cavity.mean(),
            "bayes_loss": exact.mean(),
            "excess_loss": float(excess.value),
            "excess_loss_stderr": float(excess.stderr),
        },
        attrs={"unit": "nats per site"},
    )


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
    scale = float(jnp.sqrt(mixture.weights @ spread / jnp.sum(mixture.weights)))  # standard deviation of a coordinate
    denoiser = from_flax(network, VectorProcess(), (d,), parametrisation=Preconditioned(scale))
    result = train(
        named_key(key, "train", d),
        denoiser,
        Fresh(mixture),
        config,
        folder=inputs.folder,
        report=inputs.training(config),
    )
    attributes = {"long_name": "training loss", "units": "squared error of a number of variance 1"}
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses), attributes)}))


def training_findings(dataset: xr.Dataset) -> list[Finding]:
    """`excess-loss/GRAMMAR`, the same in percent, and `bayes-loss/GRAMMAR`; empty without trained networks."""
    if "excess_loss" not in dataset:
        return []
    names = ("excess_loss", "excess_loss_stderr", "bayes_loss")
    findings, unit = [], "nats per site"
    for number, (excess, error, bayes) in enumerate(zip(*(np.ravel(dataset[name]) for name in names), strict=True)):
        share = Estimate(jnp.asarray(100 * excess / bayes), jnp.asarray(100 * error / bayes))
        findings += [
            Finding(path("excess-loss", number), Estimate(jnp.asarray(excess), jnp.asarray(error)), "difference", unit),
            Finding(path("excess-loss-percent", number), share, "difference", "%"),
            Finding.exact(path("bayes-loss", number), float(bayes), "predicted", unit),
        ]
    return findings


def training_lines(findings: Findings) -> list[str]:
    """A sentence on the excess loss of each trained network; empty without trained networks."""
    lines = []
    for number in range(len(findings.select("excess-loss"))):
        excess, percent, bayes = (
            with_error(findings[name, number].estimate) for name in ("excess-loss", "excess-loss-percent", "bayes-loss")
        )
        lines.append(f"Grammar {number}: trained loss {excess} nats per site above Bayes ({bayes}), {percent}%.")
    return lines


@eqx.filter_jit
def _compared(
    key: Key[Array, ""], rhm: RandomHierarchyModel, denoiser: AbstractNetworkDenoiser, size: int
) -> tuple[Array, Array, Array]:
    """Losses of each string: the network's, the exact posterior's, and the exact cavity's as training weighs it."""
    process = denoiser.process
    data_key, time_key, noise_key = jax.random.split(key, 3)
    x0 = Fresh(rhm).batch(data_key, size)
    t = draw_times(time_key, size, default_schedule(process))
    x_t = jax.vmap(process.corrupt)(jax.random.split(noise_key, size), x0, t)
    evidence = jax.vmap(process.log_likelihood)(x_t, t)
    cavity, weights = jnp.log(cavity_marginals(rhm, evidence)[-1]), site_weights(process, x_t)
    exact = posterior_loss(jax.nn.log_softmax(cavity + evidence), x0, weights)
    uniform = jnp.full(x0.shape, 1 / rhm.num_leaves, t.dtype)
    return posterior_loss(denoiser(x_t, t), x0, weights), exact, posterior_loss(cavity, x0, uniform)
