r"""Whether a network that is moved toward a symbol of a hidden node draws the conclusions of exact inference.

In every string one node of a level is drawn, and its symbol is forced: the true one, or another one that is possible,
drawn uniformly. Where states lie for each belief is fitted on half of the strings (`probing.fit_directions`); in the
other half the states of the node, or of the sites below it, are moved to certainty. Over the masked leaves below the
node, with p_b the exact posterior given the string and the symbol b and q, q_b those of the network at rest and moved,

    followed = 1 - sum KL(p_b | q_b) / sum KL(p_b | q):                                                            (1)

1 if the network concludes what exact inference does, 0 if it is as far from that as at rest, below 0 if it is farther.
The *cost of a wrong symbol* is what becomes of the mean probability of the leaves' true symbols. A symbol is possible
if its exact posterior is at least `POSSIBLE`; only strings in which the true one and another one are count.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key

from diffusion import Masking, NetworkDenoiser
from diffusion.measure import probing
from hierarchical import RandomHierarchyModel, sample_trees
from hierarchical.arguments import NO_SYMBOL
from phasetree.experiment import Inputs
from phasetree.experiments.representations.beliefs import ancestor_beliefs, forced_posterior, posteriors
from phasetree.experiments.representations.config import FORCED, STRENGTHS, Config, layer_names, steered_layers
from phasetree.experiments.representations.networks import random_network
from phasetree.recipes.training import named_key

POSSIBLE = 1e-3
Posterior = Float[Array, "data leaves v"]


class Forced(NamedTuple):
    """What is forced at one level, and what exact inference says at rest and then."""

    symbols: Int[Array, "forced data _nodes"]
    """Of the nodes of the level, -1 but for one of each string."""
    rest: Posterior
    exact: Float[Array, "forced data leaves v"]
    counted: Float[Array, "data leaves"]
    """1 at the masked leaves below the node, of strings that count."""


class Strings(NamedTuple):
    """Half of the strings of the other readings, with the same noise; the other half is for fits."""

    truth: tuple[Int[Array, "data _nodes"], ...]
    x_t: Int[Array, "data leaves"]
    fitted: Int[Array, "data leaves"]
    t: Float[Array, ""]


def steer(config: Config, key: Key[Array, ""], inputs: Inputs, *, kind: str, number: int) -> xr.Dataset:
    """Equation (1) and the probability of true symbols for every level, layer and strength; random weights beside."""
    networks = {
        "trained": inputs[f"train-{kind}-{number}"].model,
        "random": random_network(config, key, kind, number),
    }
    rhm, strings = config.grammar(named_key(key, "grammar", number)), _strings(config, key, number)
    levels: list[xr.Dataset] = []
    for level in range(config.depth):
        own = named_key(key, f"forced-{level}", number)
        forced = force(own, rhm, config.noise, strings, kind == "causal", level)
        parts = [_of_network(config, rhm, denoiser, kind, level, strings, forced) for denoiser in networks.values()]
        exact = [_true_probability(jnp.log(table), strings, forced) for table in (forced.rest, *forced.exact)]
        both = xr.concat(parts, xr.Variable("weights", list(networks)))
        levels.append(both.assign(exact_rest=float(exact[0]), exact_moved=("forced", np.array(exact[1:], float))))
        inputs.advance(1, f"{kind}, level {level} steered")
    return xr.concat(levels, "inner")


def _strings(config: Config, key: Key[Array, ""], number: int) -> Strings:
    rhm = config.grammar(named_key(key, "grammar", number))
    levels = sample_trees(named_key(key, "data", number), rhm, config.num_data).levels
    place, half, t = config.times.index(config.middle), config.num_data // 2, jnp.float32(config.middle)
    keys = jax.random.split(named_key(key, f"noise-{place}", number), config.num_data)
    x_t = jax.vmap(config.noise.corrupt, (0, 0, None))(keys, levels[-1], t)
    return Strings(tuple(level[half:] for level in levels), x_t[half:], x_t[:half], t)


@eqx.filter_jit
def force(
    key: Key[Array, ""], rhm: RandomHierarchyModel, process: Masking, strings: Strings, causal: bool, level: int
) -> Forced:
    """A node of each string, its true symbol and another one that is possible, and what exact inference says."""
    truth, x_t, t = strings.truth[level], strings.x_t, strings.t
    node_key, symbol_key = jax.random.split(key)
    (data, nodes), leaves = truth.shape, x_t.shape[1]
    rows, node = jnp.arange(data), jax.random.randint(node_key, (data,), 0, nodes)
    known, right = posteriors(rhm, process, x_t, t, causal), truth[rows, node]
    possible = known[level][rows, node] >= POSSIBLE
    others = possible & ~jax.nn.one_hot(right, process.num_symbols, dtype=bool)
    counts = jnp.any(others, 1) & possible[rows, right]
    drawn = jax.random.categorical(symbol_key, jnp.where(others, 0.0, -jnp.inf))
    chosen = right, jnp.where(counts, drawn.astype(right.dtype), right)  # nothing impossible is forced
    here = jnp.arange(nodes)[None] == node[:, None]
    symbols = jnp.stack([jnp.where(here, b[:, None], NO_SYMBOL) for b in chosen])
    exact = jax.vmap(lambda table: forced_posterior(rhm, process, x_t, t, causal, level, table))(symbols)
    below = jnp.repeat(here, leaves // nodes, 1)
    counted = (below & counts[:, None] & (x_t == process.num_symbols)).astype(jnp.float32)
    return Forced(symbols, known[-1], exact, counted)


def _of_network(
    config: Config, rhm: RandomHierarchyModel, denoiser: NetworkDenoiser, kind: str, level: int, strings: Strings,
    forced: Forced,
) -> xr.Dataset:  # fmt: skip
    """Every layer in which a symbol of this level is forced."""
    (states, _), (_, rest) = _states(denoiser, strings.fitted, strings.t), _states(denoiser, strings.x_t, strings.t)
    names = layer_names(kind, config.depth, config.num_layers)
    shape = len(names), len(FORCED), len(STRENGTHS)
    followed, moved = np.full(shape, np.nan), np.full(shape, np.nan)
    for layer in steered_layers(kind, level, config.depth, config.num_layers):
        place, nodes = names.index(layer), states[layer].shape[1]
        fitted, known = (ancestor_beliefs(rhm, config.noise, x_t, strings.t, kind, level, nodes)
                         for x_t in (strings.fitted, strings.x_t))  # fmt: skip
        directions = probing.fit_directions(*(jnp.moveaxis(table, 1, 0) for table in (states[layer], fitted)))
        followed[place], moved[place] = follow(denoiser, layer, directions, known, strings, forced, rest)
    columns = {"followed": followed, "moved": moved}
    return xr.Dataset(
        {name: (("layer", "forced", "strength"), column) for name, column in columns.items()},
        {"layer": names, "forced": list(FORCED), "strength": list(STRENGTHS)},
    ).assign(rest=float(_true_probability(rest, strings, forced)))


@eqx.filter_jit
def _states(
    denoiser: NetworkDenoiser, x_t: Int[Array, "data leaves"], t: Float[Array, ""]
) -> tuple[dict[str, Float[Array, "data _nodes width"]], Posterior]:
    """And the posterior, ln q at rest."""
    return denoiser.states(x_t, t), denoiser(x_t, t)


@eqx.filter_jit
def follow(
    denoiser: NetworkDenoiser, layer: str, directions: probing.Directions, known: Float[Array, "data _nodes v"],
    strings: Strings, forced: Forced, rest: Posterior,
) -> tuple[Float[Array, "forced strengths"], Float[Array, "forced strengths"]]:  # fmt: skip
    """Equation (1), and the mean probability of true symbols, for every forced symbol and strength."""
    wanted = jnp.repeat(forced.symbols, known.shape[1] // forced.symbols.shape[2], 2)

    def one(symbols: Int[Array, "data _nodes"], exact: Posterior, strength: Float[Array, ""]) -> tuple[Array, Array]:
        change = probing.toward(layer, directions, known, symbols, strength)
        said = denoiser.steered(change)(strings.x_t, strings.t)
        far, near = (jnp.sum(_divergence(exact, table) * forced.counted) for table in (rest, said))
        return 1 - near / far, _true_probability(said, strings, forced)

    every = jax.vmap(jax.vmap(one, (None, None, 0)), (0, 0, None))
    return every(wanted, forced.exact, jnp.array(STRENGTHS, jnp.float32))


def _divergence(exact: Posterior, log_said: Posterior) -> Float[Array, "data leaves"]:
    """KL of every site, nats."""
    inside = exact > 0
    ratio = jnp.log(jnp.where(inside, exact, 1.0)) - jnp.where(inside, log_said, 0.0)
    return jnp.sum(jnp.where(inside, exact * ratio, 0.0), -1)


def _true_probability(log_said: Posterior, strings: Strings, forced: Forced) -> Float[Array, ""]:
    own = jnp.take_along_axis(jnp.exp(log_said), strings.truth[-1][..., None], 2)[..., 0]
    return jnp.sum(own * forced.counted) / jnp.sum(forced.counted)
