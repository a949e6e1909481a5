r"""A network of one level, trained on few strings or on fresh ones, with data or with the exact teacher.

Two exact denoisers of the noised symbols of level l set the scale, in nats per masked site:

    loss_1   that of the posterior by the part, one of s, of the string in which a site lies: all but the topmost rules,
    loss_0   that of the posterior by the whole string,

and what it has *learned* of the topmost rules is, with the network's own loss,

    (loss_1 - loss) / (loss_1 - loss_0),                                                                           (1)

1 for the exact denoiser, 0 for one that knows all lower levels, negative below. Losses of one set of held-out strings
choose the step at which training on few strings is stopped, those of another are reported.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from diffusion import AbstractNetworkDenoiser, AbstractSource, Masking, TreeUNet, from_flax, generate
from diffusion.denoise.loss import posterior_loss, site_weights
from diffusion.measure import is_valid
from diffusion.noise.schedule import default_schedule
from diffusion.training.train import draw_times, train
from hierarchical import RandomHierarchyModel, expand, sample_strings, sample_trees, upper_levels
from phasetree.experiment import Inputs
from phasetree.experiments.latent_diffusion.config import Config
from phasetree.recipes.training import named_key
from theory import local_marginals
from theory.exact import GrammarDenoiser


class FirstOf(AbstractSource):
    """The first `count` of a set of data; sets of all sizes share one compiled training."""

    data: Int[Array, "n sites"]
    count: Int[Array, ""]

    def batch(self, key, size):
        return self.data[jax.random.randint(key, (size,), 0, self.count)]


class Level(NamedTuple):
    """A level of one grammar: its law, its training strings and held-out noised ones with their exact losses."""

    number: int
    level: int
    whole: RandomHierarchyModel
    upper: RandomHierarchyModel
    process: Masking
    strings: Int[Array, "n sites"]
    x0: Int[Array, "data sites"]
    x_t: Int[Array, "data sites"]
    t: Float[Array, " data"]
    exact: Float[np.ndarray, " data"]
    """loss_0 of every held-out string."""
    by_part: Float[np.ndarray, " data"]
    """loss_1."""


def level_of(config: Config, key: Key[Array, ""], number: int, level: int) -> Level:
    """The level `level` of grammar `number`; all levels see the same training strings."""
    whole, process = config.grammar(named_key(key, "grammar", number)), config.noise
    upper = upper_levels(whole, level)
    strings = sample_trees(named_key(key, "strings", number), whole, config.samples[-1]).levels[level]
    x0 = sample_strings(named_key(key, f"held-out-{level}", number), upper, config.num_data)
    time_key, order_key, noise_key = jax.random.split(named_key(key, f"noise-{level}", number), 3)
    t = jax.random.permutation(order_key, draw_times(time_key, len(x0), default_schedule(process)))
    x_t = jax.vmap(process.corrupt)(jax.random.split(noise_key, len(x0)), x0, t)
    exact, by_part = (np.asarray(part, float) for part in _exact_losses(upper, process, x0, x_t, t))
    return Level(number, level, whole, upper, process, strings, x0, x_t, t, exact, by_part)


def learn(
    config: Config, key: Key[Array, ""], inputs: Inputs, at: Level, source: AbstractSource, *, taught: bool, note: str
) -> xr.Dataset:
    """Train one network.

    Returns:
      `excess`, its held-out loss over `loss_0` after each of `config.looks`, and `best`, that at the step which the
      other half of the held-out strings chooses; `valid`, the share of the grammatical among the leaves that it
      generates with the weights of that step; all by one unit of work.
    """
    found: list[tuple[float, float, AbstractNetworkDenoiser]] = []
    half = len(at.x0) // 2

    def look(step: int, denoiser: AbstractNetworkDenoiser) -> None:
        excess = np.asarray(_losses(denoiser, at.x0, at.x_t, at.t), float) - at.exact
        found.append((excess[:half].mean(), excess[half:].mean(), denoiser))

    network = TreeUNet(at.process, at.upper.branching, config.width, rngs=nnx.Rngs(config.seed + at.number))
    share = config.train.steps_per_chunk / config.train.steps
    train(
        named_key(key, f"train-{at.level}", at.number),
        from_flax(network, at.process, at.upper.num_leaves, blind=True),
        source,
        config.train,
        teacher=GrammarDenoiser(rhm=at.upper, process=at.process) if taught else None,
        report=lambda step, loss: inputs.advance(min(share, 1 - share * len(found)), f"{note}, loss {loss:.3f}"),
        observe=look,
    )
    _, best, denoiser = min(found, key=lambda row: row[0])
    valid = _valid_leaves(named_key(key, f"generate-{at.level}", at.number), at.whole, denoiser, at.level, config)
    return xr.Dataset(
        {"excess": ("step", np.array([row[1] for row in found])), "best": best, "valid": float(valid)},
        {"step": config.looks},
    )


@eqx.filter_jit
def _exact_losses(
    rhm: RandomHierarchyModel, process: Masking, x0: Int[Array, "data sites"], x_t: Array, t: Float[Array, " data"]
) -> tuple[Float[Array, " data"], Float[Array, " data"]]:
    """loss_0 and loss_1 of the head of this file."""
    evidence, weights = jax.vmap(process.log_likelihood)(x_t, t), site_weights(process, x_t)
    whole, part = (posterior_loss(jnp.log(local_marginals(rhm, evidence, level)[-1]), x0, weights) for level in (0, 1))
    return whole, part


@eqx.filter_jit
def _losses(denoiser: AbstractNetworkDenoiser, x0: Array, x_t: Array, t: Array) -> Float[Array, " data"]:
    return posterior_loss(denoiser(x_t, t), x0, site_weights(denoiser.process, x_t))


@eqx.filter_jit
def _valid_leaves(
    key: Key[Array, ""], rhm: RandomHierarchyModel, denoiser: AbstractNetworkDenoiser, level: int, config: Config
) -> Float[Array, ""]:
    """Share of the language among strings whose symbols of `level` are generated, and expanded by the lower rules."""
    generate_key, expand_key = jax.random.split(key)
    symbols = generate(generate_key, denoiser, config.num_generated)
    return jnp.mean(is_valid(rhm, expand(expand_key, rhm, symbols, level)), dtype=jnp.float32)
