"""What is read off the states of one network at one time: probes, CKA, windows, neighbours, spread, sparse features.

The states of a node are those of the nodes below it in the layer, side by side; of a layer whose nodes are fewer, the
state of its ancestor. Numbers are means over the nodes of a level, of CKA over those whose messages vary.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key

from diffusion import TrainConfig
from diffusion.measure import probing
from phasetree.experiments.representations.beliefs import Beliefs

COMPARED, NEIGHBOURS = 512, 10  # strings of which neighbours are compared, and how many of each
EPSILON = 0.5  # of coding rates
State = Float[Array, "data nodes width"]
Symbols = tuple[Int[Array, "data _nodes"], ...]


def of_nodes(state: State, nodes: int) -> Float[Array, "_nodes data _width"]:
    """The states that belong to each of so many nodes of a level."""
    data, given, width = state.shape
    if given >= nodes:
        return jnp.moveaxis(state.reshape(data, nodes, given // nodes * width), 1, 0)
    return jnp.moveaxis(jnp.repeat(state, nodes // given, 1), 1, 0)


def read_levels(state: State, truth: Symbols, known: Beliefs) -> dict[str, Float[np.ndarray, " levels"]]:
    """Of every level: R^2 and accuracy of the true symbols, R^2 of the exact posterior, CKA with the messages."""
    columns: dict[str, list[float]] = {name: [] for name in ("true", "accuracy", "posterior", "upward", "cavity")}
    for level, symbols in enumerate(truth):
        posterior = jnp.moveaxis(known.posterior[level], 1, 0)
        states = of_nodes(state, len(posterior))
        own = probing.linear_probe(states, symbols.T, posterior.shape[-1])
        columns["true"].append(float(own.r2.value.mean()))
        columns["accuracy"].append(float(own.accuracy.value.mean()))
        columns["posterior"].append(float(probing.linear_probe(states, posterior).r2.value.mean()))
        for name, messages in (("upward", known.upward), ("cavity", known.cavity)):
            found = probing.linear_cka(states, jnp.moveaxis(messages[level], 1, 0))
            columns[name].append(float(jnp.nanmean(found.value)))
    return {name: np.array(column) for name, column in columns.items()}


def read_windows(
    state: State, x0: Int[Array, "data leaves"], known: Beliefs, masked: Float[Array, "data leaves"]
) -> Float[np.ndarray, " windows"]:
    """How far the probe of the leaves' symbols is from the posterior by each window, mean square at masked sites."""
    states, half = of_nodes(state, x0.shape[1]), len(x0) // 2
    v = known.windows.shape[-1]
    probe = probing.fit_probe(states[:, :half], x0[:half].T, v)
    said = jnp.moveaxis(probe(states[:, half:]), 0, 1)  # (data, leaves, v)
    squares = jnp.sum((said[None] - known.windows[:, half:]) ** 2, -1)
    weights = masked[None, half:]
    return np.asarray(jnp.sum(squares * weights, (1, 2)) / jnp.sum(weights))


def read_features(
    key: Key[Array, ""], state: State, truth: Symbols, v: int, num_features: int, num_active: int, steps: int
) -> Float[np.ndarray, " levels"]:
    """F1 of sparse features of the sites beside the symbols of their ancestors at every level, mean over symbols."""
    sites = state.shape[1]
    rows = state.reshape(-1, state.shape[2])
    rows = rows - rows.mean(0, keepdims=True)
    rows = rows / jnp.sqrt(jnp.mean(jnp.sum(rows**2, 1)))
    how = TrainConfig(steps=steps, batch_size=256, learning_rate=3e-3, weight_decay=0.0, clip_norm=1e6)
    model = probing.train_sparse(key, rows, num_features, num_active, how)
    features, found = model.features(rows), []
    for symbols in truth:
        own = jnp.repeat(symbols, sites // symbols.shape[1], 1).reshape(-1)
        found.append(float(probing.best_match(features, jax.nn.one_hot(own, v)).mean_f1.value))
    return np.array(found)


def read_neighbours(state: State, known: Beliefs) -> Float[np.ndarray, " levels"]:
    """The share of `NEIGHBOURS` nearest strings that states and exact posteriors of a node have in common."""
    found = []
    for posterior in known.posterior:
        states, exact = of_nodes(state[:COMPARED], posterior.shape[1]), jnp.moveaxis(posterior[:COMPARED], 1, 0)
        found.append(float(probing.neighbourhood_agreement(states, exact, NEIGHBOURS).value.mean()))
    return np.array(found)


def read_spread(state: State) -> dict[str, float]:
    """How many dimensions the states of a node use; coding rates are those of states of mean square length 1."""
    nodes = jnp.moveaxis(state, 1, 0)
    measures = {"rank": probing.effective_rank(nodes).value.mean(), **_spread(nodes)}
    return {name: float(measure) for name, measure in measures.items()}


@eqx.filter_jit
def _spread(nodes: Float[Array, "_nodes data width"]) -> dict[str, Float[Array, ""]]:
    inside = nodes - nodes.mean(1, keepdims=True)
    unit = inside / jnp.sqrt(jnp.mean(jnp.sum(inside**2, 2), 1))[:, None, None]
    measures = {
        "participation": probing.participation_ratio(nodes),
        "enrichment": probing.early_enrichment(nodes),
        "rate": probing.coding_rate(unit, EPSILON),
    }
    return {name: measure.value.mean() for name, measure in measures.items()}


def read_layers(
    states: Mapping[str, State], truth: Symbols, known: Beliefs, masked: Float[Array, "data leaves"]
) -> xr.Dataset:
    """All readings but neighbours and sparse features, of every layer."""
    parts: list[xr.Dataset] = []
    for state in states.values():
        columns: dict[str, Any] = {name: ("level", column) for name, column in read_levels(state, truth, known).items()}
        columns["window_distance"] = ("window", read_windows(state, truth[-1], known, masked))
        columns |= {name: ((), number) for name, number in read_spread(state).items()}
        parts.append(xr.Dataset(columns))
    return xr.concat(parts, xr.Variable("layer", list(states)))
