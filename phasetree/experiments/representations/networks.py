"""The networks of the experiment `representations`, their training, and their loss beside that of exact inference."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key

from diffusion import (
    AbstractNetworkDenoiser,
    BeliefEmbedding,
    Fresh,
    NetworkDenoiser,
    Transformer,
    TreeUNet,
    from_flax,
    train,
)
from diffusion.denoise.loss import posterior_loss, site_weights
from diffusion.measure import mean_estimate
from diffusion.noise.schedule import default_schedule
from diffusion.training.train import draw_times
from hierarchical import RandomHierarchyModel
from phasetree.experiment import Inputs, Training
from phasetree.experiments.representations.beliefs import posteriors
from phasetree.experiments.representations.config import Config
from phasetree.recipes.training import named_key

COMPARED = 8, 2048  # pieces, and strings of each, of which losses are compared


def random_network(config: Config, key: Key[Array, ""], kind: str, number: int) -> NetworkDenoiser:
    """A network with its initial weights: where training begins, and the control."""
    rngs = nnx.Rngs(named_key(key, f"weights-{kind}", number))
    process, sites = config.noise, config.branching**config.depth
    if kind == "tree":
        network = TreeUNet(process, (config.branching,) * config.depth, config.width, rngs=rngs)
    else:
        embedding = BeliefEmbedding(process, config.width, rngs=rngs)
        sizes = config.width, config.num_layers
        network = Transformer(embedding, sites, config.num_symbols, *sizes, causal=kind == "causal", rngs=rngs)
    made = from_flax(network, process, sites, blind=kind == "tree")
    assert isinstance(made, NetworkDenoiser)  # of strings
    return made


def trained(config: Config, key: Key[Array, ""], inputs: Inputs, *, kind: str, number: int) -> Training:
    """A network trained on fresh strings of a grammar; its record has its loss beside the least that is possible."""
    rhm = config.grammar(named_key(key, "grammar", number))
    result = train(
        named_key(key, f"train-{kind}", number),
        random_network(config, key, kind, number),
        Fresh(rhm),
        config.train,
        folder=inputs.folder,
        report=inputs.training(config.train),
    )
    keys = jax.random.split(named_key(key, "compared", number), COMPARED[0])
    parts = [np.stack(_losses(k, rhm, result.denoiser, kind == "causal")) for k in keys]
    ours, exact = np.concatenate(parts, 1).astype(float)
    excess = mean_estimate(ours - exact)
    record = {"loss": ours.mean(), "bayes": exact.mean(), "excess": float(excess.value)}
    return Training(result.denoiser, xr.Dataset({**record, "excess_stderr": float(excess.stderr)}))


@eqx.filter_jit
def _losses(
    key: Key[Array, ""], rhm: RandomHierarchyModel, denoiser: AbstractNetworkDenoiser, causal: bool
) -> tuple[Float[Array, " strings"], Float[Array, " strings"]]:
    """Posterior losses of the network and of exact inference, nats per masked site, at times as in training."""
    process = denoiser.process
    data_key, time_key, noise_key = jax.random.split(key, 3)
    x0 = Fresh(rhm).batch(data_key, COMPARED[1])
    t = draw_times(time_key, len(x0), default_schedule(process))
    x_t = jax.vmap(process.corrupt)(jax.random.split(noise_key, len(x0)), x0, t)
    weights, exact = site_weights(process, x_t), jnp.log(posteriors(rhm, process, x_t, t, causal)[-1])
    return posterior_loss(denoiser(x_t, t), x0, weights), posterior_loss(exact, x0, weights)
