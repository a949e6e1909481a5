"""The stages of the experiment `jacobian`, and how they become one dataset.

annealed     threshold of an infinite hierarchy, rules drawn anew at every node, and the noise times
exact-N      leading pairs of the exact denoiser of grammar N, and the posterior's belief in the class
train        a network on strings of grammar 0
trained      its leading pairs, at the noised strings of exact-0
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from diffusion import AbstractDenoiser
from diffusion.measure import TreeGeometry, leading_pairs, subtree_level, subtree_shares
from hierarchical import Derivation, RandomHierarchyModel, sample_trees
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.jacobian.config import Config
from phasetree.recipes.training import named_key, network_on_grammar
from theory import density_evolution, marginals, mean_field
from theory.exact import GrammarDenoiser

PAIR = ("value", "residual", "asymmetry", "held")


def plan(config: Config) -> list[Stage]:
    """The threshold, every grammar, then the network."""
    units = config.num_times
    stages = [Stage("annealed", annealed, units=2)]
    stages += [Stage(f"exact-{n}", exact, ("annealed",), units, {"number": n}) for n in range(config.num_grammars)]
    if not config.no_train:
        stages += [
            Stage("train", trained, (), 40 * units),
            Stage("trained", by_network, ("annealed", "train"), 4 * units),
        ]
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      Of every `denoiser` (exact, trained), `grammar`, `datum` and `t` the leading `value` of the Jacobian with its
      `residual`, the `asymmetry`, the `held` level, that of the smallest subtree holding .9 of the leading vector, and
      the `share` of it in the best subtree of each level; NaN for what the network was not asked. `belief` of the exact
      posterior in the class, `scale` alpha / sigma^2, the annealed threshold, and the training.
    """
    grammars = range(config.num_grammars)
    parts = [xr.concat([results[f"exact-{n}"] for n in grammars], "grammar")]
    if not config.no_train:
        parts.append(results["trained"].expand_dims("grammar").reindex(grammar=list(grammars)))
    kinds = ["exact", "trained"][: len(parts)]
    parts[0] = parts[0].assign_coords(grammar=list(grammars))
    belief = parts[0].belief
    dataset = xr.concat([part.drop_vars("belief", errors="ignore") for part in parts], xr.Variable("denoiser", kinds))
    dataset["belief"] = belief
    path, t = config.noise.path, jnp.asarray(dataset.t.values)
    dataset["scale"] = ("t", np.asarray(path.alpha(t) / path.sigma(t) ** 2))
    dataset["annealed"], dataset["annealed_stderr"] = results["annealed"].threshold, results["annealed"].stderr
    if not config.no_train:
        dataset = dataset.merge(results["train"])
    dataset.t.attrs = {"long_name": "noise time", "units": "OU time", "process": "gaussian"}
    return dataset


def annealed(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """The threshold of an infinitely deep hierarchy; NaN if the class is lost, or kept, at every noise."""
    value, stderr = np.nan, np.nan
    if mean_field.transition_exists(*config.sizes):
        key = named_key(key, "density evolution", 0)
        found = density_evolution.critical_noise(key, *config.sizes, config.noise, refinements=5)
        value, stderr = float(found.value), float(found.stderr)
    inputs.advance(2)
    return xr.Dataset({"threshold": value, "stderr": stderr}).assign_coords(t=config.times(value))


def exact(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """The exact denoiser's leading pairs, and the posterior's belief in the class."""
    rhm, data = _grammar(config, key, number)
    dataset = _measured(config, key, inputs, number, GrammarDenoiser(rhm=rhm, process=config.noise), data)
    times = jnp.asarray(inputs["annealed"].t.values, jnp.float32)
    beliefs = [
        _belief(rhm, config.noise.log_likelihood(_noised(config, key, number, i, data, t), t), data.levels[0][:, 0])
        for i, t in enumerate(times)
    ]
    return dataset.assign(belief=(("datum", "t"), np.stack(beliefs, 1)))


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """A tree U-Net on fresh strings of grammar 0."""
    rhm, _ = _grammar(config, key, 0)
    return network_on_grammar(key, inputs, 0, rhm, config.noise, config.train, width=config.width, seed=config.seed)


def by_network(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """The network's leading pairs at the noised strings of `exact-0`."""
    _, data = _grammar(config, key, 0)
    return _measured(config, key, inputs, 0, inputs["train"].model, data).assign_coords(grammar=0)


def _grammar(config: Config, key: Key[Array, ""], number: int) -> tuple[RandomHierarchyModel, Derivation]:
    rhm = config.grammar(named_key(key, "grammar", number))
    return rhm, sample_trees(named_key(key, "data", number), rhm, config.num_data)


def _noised(config: Config, key: Key[Array, ""], number: int, index: int, data: Derivation, t) -> Array:
    """The same for every denoiser."""
    return config.noise.corrupt(named_key(key, f"noise {number}", index), data.leaves, t)


def _measured(
    config: Config, key: Key[Array, ""], inputs: Inputs, number: int, denoiser: AbstractDenoiser, data: Derivation
) -> xr.Dataset:
    geometry, columns = TreeGeometry((config.branching,) * config.depth), []
    for i, t in enumerate(jnp.asarray(inputs["annealed"].t.values, jnp.float32)):
        x_t = _noised(config, key, number, i, data, t)
        start = named_key(key, f"search {number}", i)
        pairs = leading_pairs(start, denoiser, x_t, t, num_steps=config.search_steps)
        shares = subtree_shares(geometry, jnp.sum(pairs.vectors[:, 0] ** 2, -1))
        of_each = pairs.values[:, 0], pairs.residuals[:, 0], pairs.asymmetry[:, 0], subtree_level(shares), shares
        columns.append([np.asarray(column, np.float32) for column in of_each])
        inputs.advance()
    *singles, shares = (np.stack(column, 1) for column in zip(*columns, strict=True))
    values = {name: (("datum", "t"), single) for name, single in zip(PAIR, singles, strict=True)}
    return xr.Dataset({**values, "share": (("datum", "t", "level"), shares)}, {"t": inputs["annealed"].t.values})


@eqx.filter_jit
def _belief(rhm: RandomHierarchyModel, evidence: Array, classes: Array) -> Float[Array, " data"]:
    return jax.vmap(lambda law, symbol: law[0, symbol])(marginals(rhm, evidence)[0], classes)
