"""The stages of the experiment `susceptibility`, and how they become one dataset.

train-N               the network of grammar N
exact-N, trained-N    correlated changes of grammar N by each denoiser; epsilon: the posterior's covariances
chain, mixture        correlated changes of the controls
depth-L               correlated changes of grammars of depth L, exact
trees                 one datum's tree below, at and above the peak
"""

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float32, Int, Key

from diffusion import AbstractDenoiser, forward_backward
from diffusion.measure import TreeGeometry, change_sums, susceptibility
from hierarchical import RandomHierarchyModel, matched_chain, sample_strings
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.processes import PROCESSES
from phasetree.experiments.susceptibility.config import Config
from phasetree.recipes.training import named_key, network_on_grammar
from theory import pair_correlation
from theory.exact import GrammarDenoiser, MarkovDenoiser

TRAJECTORIES_AT_ONCE = 2**14  # per call; the progress bar advances after each
STRINGS_OF_THE_CHAIN = 2**17


def plan(config: Config) -> list[Stage]:
    """Network and correlated changes of each grammar; controls of the first grammar; the tree of one datum."""
    stages, units = [], config.num_times
    for number in range(config.num_grammars):
        options, training = {"number": number}, f"train-{number}"
        if config.trains:
            stages.append(Stage(training, trained, units=3 * units, options=options))
            with_network = options | {"network": training}
            stages.append(Stage(f"trained-{number}", measured, (training,), units, with_network))
        exact = posterior if config.process == "epsilon" else measured
        stages.append(Stage(f"exact-{number}", exact, units=units, options=options))
    if config.controls:
        stages += [Stage("chain", chain, units=units), Stage("mixture", mixture, units=units)]
    stages += [
        Stage(f"depth-{depth}", at_depth, units=units * config.num_grammars, options={"depth": depth})
        for depth in config.depths
    ]
    inputs = tuple(f"exact-{number}" for number in range(config.num_grammars))
    return [*stages, Stage("trees", trees, inputs)]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      `sums` S(r) and the `fraction` changed of every `denoiser` (exact, trained; chain, mixture: controls), grammar,
      datum, `t` and distance, NaN where a denoiser has fewer grammars; `depth_sums`, S(0) and the sum over all r > 0 at
      every `depth`; one datum's tree; training losses.
    """
    numbers = range(config.num_grammars)
    parts = {"trained": [results[f"trained-{n}"] for n in numbers]} if config.trains else {}
    parts["exact"] = [results[f"exact-{n}"] for n in numbers]
    parts |= {name: [results[name]] for name in ("chain", "mixture") if config.controls}
    curves = [xr.concat(grammars, "grammar").assign_coords(grammar=range(len(grammars))) for grammars in parts.values()]
    dataset = xr.concat(curves, xr.Variable("denoiser", list(parts)), join="outer").merge(results["trees"])
    if config.trains:
        dataset = dataset.merge(xr.concat([results[f"train-{n}"] for n in numbers], "grammar"))
    if config.depths:
        curves = [results[f"depth-{depth}"].depth_sums for depth in config.depths]
        dataset = dataset.merge(xr.concat(curves, xr.Variable("depth", list(config.depths))).to_dataset())
    dataset = dataset.assign_coords(t=noise_levels(config), distance=geometry(config).distances)
    dataset.t.attrs = {"long_name": "noise level", "units": "1", "process": config.process}
    dataset.distance.attrs = {"long_name": "tree distance", "units": "sites"}
    return dataset


def noise_levels(config: Config) -> Float32[np.ndarray, " t"]:
    """Evenly spaced, from `first_time` to `last_time`."""
    return np.linspace(config.first_time, config.last_time, config.num_times).astype(np.float32)


def geometry(config: Config | SimpleNamespace) -> TreeGeometry:
    """Distances between leaves."""
    return TreeGeometry((config.branching,) * config.depth)


def rows_of(grammars: xr.Dataset) -> xr.Dataset:
    """Independent rows: the data of a single grammar, or the means of several grammars."""
    grammars = grammars.dropna("grammar", how="all", subset=["sums"])
    if grammars.sizes["grammar"] == 1:
        return grammars.isel(grammar=0).rename(datum="row")
    return grammars.mean("datum").rename(grammar="row")


def _grammar(config: Config, key: Key[Array, ""], number: int) -> RandomHierarchyModel:
    return config.grammar(named_key(key, "grammar", number))


def _data(config: Config, key: Key[Array, ""], number: int, rhm: RandomHierarchyModel) -> Int[Array, "data sites"]:
    return sample_strings(named_key(key, "data", number), rhm, config.num_data)


def trained(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> Training:
    """The network of a grammar."""
    rhm, process = _grammar(config, key, number), PROCESSES[config.process](config.num_symbols)
    return network_on_grammar(key, inputs, number, rhm, process, config.train, width=config.width, seed=config.seed)


def measured(
    config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int, network: str | None = None
) -> xr.Dataset:
    """Correlated changes by forward-backward, exact or by the network of stage `network`, on the same noised data."""
    rhm, process = _grammar(config, key, number), PROCESSES[config.process](config.num_symbols)
    denoiser = inputs[network].model if network else GrammarDenoiser(rhm=rhm, process=process)
    return _changes(config, key, inputs, number, denoiser, _data(config, key, number, rhm))


def posterior(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """The same for the epsilon-process, from the covariances of the posterior instead of trajectories."""
    rhm, process = _grammar(config, key, number), PROCESSES[config.process](config.num_symbols)
    x0, sums, unchanged = _data(config, key, number, rhm), [], []
    for t in noise_levels(config):
        pairs = _posterior_pairs(rhm, process, x0, jnp.asarray(t))
        sums.append(np.asarray(pairs.sums))
        unchanged.append(np.asarray(pairs.unchanged).mean(1))
        inputs.advance()
    return _dataset(np.stack(sums, 1), 1 - np.stack(unchanged, 1))


def chain(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Correlated changes of a Markov chain: the first grammar's pairs of neighbours, no hierarchy."""
    rhm, process = _grammar(config, key, 0), PROCESSES[config.process](config.num_symbols)
    strings = sample_strings(named_key(key, "chain strings", 0), rhm, STRINGS_OF_THE_CHAIN)
    matched = matched_chain(strings, rhm.num_symbols)
    keys = jax.random.split(named_key(key, "chain data", 0), config.num_data)
    x0 = eqx.filter_jit(jax.vmap(lambda key: matched.sample(key).x))(keys)
    return _changes(config, key, inputs, 0, MarkovDenoiser(chain=matched, process=process), x0)


def mixture(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Correlated changes of the first grammar filtered at its leaves: the same classes, no levels in between."""
    rhm, process = _grammar(config, key, 0), PROCESSES[config.process](config.num_symbols)
    flat = RandomHierarchyModel.from_rules(
        rhm.rules, rhm.rule_log_probs, num_symbols=rhm.num_symbols, filter_level=rhm.depth
    )
    x0 = _data(config, key, 0, flat)
    return _changes(config, key, inputs, 0, GrammarDenoiser(rhm=flat, process=process), x0)


def at_depth(config: Config, key: Key[Array, ""], inputs: Inputs, *, depth: int) -> xr.Dataset:
    """S(0) and the sum of S(r) over r > 0, of which chi follows, for every grammar of another depth."""
    other = dataclasses.replace(config, depth=depth, depths=())
    rows = []
    for number in range(config.num_grammars):
        rhm, process = _grammar(other, key, number), PROCESSES[config.process](config.num_symbols)
        exact = GrammarDenoiser(rhm=rhm, process=process)
        sums = _changes(other, key, inputs, number, exact, _data(other, key, number, rhm)).sums.values
        rows.append(np.stack([sums[..., 0], sums[..., 1:].sum(-1)], -1))
    return xr.Dataset({"depth_sums": (("grammar", "datum", "t", "part"), np.stack(rows))})


def trees(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Which nodes of one datum's tree differ after one trajectory below, at and above the peak of chi."""
    times, rhm = noise_levels(config), _grammar(config, key, 0)
    grammars: list[xr.Dataset] = [inputs[name] for name in inputs]
    rows = rows_of(xr.concat(grammars, "grammar"))
    sums = jnp.asarray(rows.sums.transpose("row", "t", "distance").values)
    peak = int(np.nanargmax(susceptibility(sums.mean(0))))
    chosen = times[[peak // 2, peak, (peak + len(times)) // 2]]
    x0 = jnp.repeat(_data(config, key, 0, rhm)[:1], 3, 0)
    exact = GrammarDenoiser(rhm=rhm, process=PROCESSES[config.process](config.num_symbols))
    x = forward_backward(named_key(key, "tree", 0), exact, x0, jnp.asarray(chosen))[0]
    old, new = (jax.vmap(rhm.parse)(strings).levels for strings in (x0, x))
    nodes = [np.asarray(a != b) for a, b in zip(old, new, strict=True)]
    return xr.Dataset({"tree_changed": (("tree", "node"), np.concatenate(nodes, 1))}, {"tree_time": ("tree", chosen)})


def _changes(
    config: Config, key: Key[Array, ""], inputs: Inputs, number: int, denoiser: AbstractDenoiser, x0: Array
) -> xr.Dataset:
    """Sums of correlated changes at every noise level; the noise follows from `number`, whatever the denoiser."""
    times, size = noise_levels(config), max(1, TRAJECTORIES_AT_ONCE // config.num_trajectories)
    pieces = [slice(i, i + size) for i in range(0, len(x0), size)]
    sums, fraction = np.zeros((len(x0), len(times), config.depth + 1)), np.zeros((len(x0), len(times)))
    for i, t in enumerate(times):
        for j, piece in enumerate(pieces):
            noise_key = named_key(key, f"noise {number}", i * len(pieces) + j)
            changes = change_sums(
                noise_key, denoiser, x0[piece], jnp.asarray(t), geometry(config),
                num_trajectories=config.num_trajectories,
            )  # fmt: skip
            sums[piece, i], fraction[piece, i] = changes.sums, changes.fraction
            inputs.advance(1 / len(pieces))
    return _dataset(sums, fraction)


def _dataset(sums: np.ndarray, fraction: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"sums": (("datum", "t", "distance"), sums), "fraction": (("datum", "t"), fraction)})


@eqx.filter_jit
def _posterior_pairs(rhm: RandomHierarchyModel, process, x0, t) -> pair_correlation.PairCorrelations:
    evidence = jax.vmap(process.log_likelihood, (0, None))(x0, t)
    return pair_correlation.posterior_pairs(rhm, x0, evidence)
