"""The stages of the experiment `recovery`, and how they become one dataset.

grammar-DEPTH-NUMBER     one grammar: agreement of every statistic at every number of strings, tree scores
learned-NUMBER           rules learned from the clusters of a grammar of the learned depth
own                      the levels of a file's sequences
"""

from collections.abc import Mapping

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Int, Key

from diffusion.measure import recovery
from hierarchical import RandomHierarchyModel, load_sequences
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.recovery.config import OWN, STATISTICS, Config
from phasetree.recipes.training import named_key
from theory import learning

SPACES = ("given", "hyperbolic", "flat")
SCORES = ("cophenetic", "violation", "triplets")
FEWEST = 16  # windows of a file in each half, and of which the information of siblings is taken


def plan(config: Config) -> list[Stage]:
    """A grammar at a time, the deep ones last; or the file."""
    if config.file is not None:
        return [Stage("own", own)]
    stages = []
    for depth in config.depths:
        units = 2 ** (depth - config.depths[0])
        for number in range(config.num_grammars):
            options = {"depth": depth, "number": number}
            stages.append(Stage(f"grammar-{depth}-{number}", recovered, units=units, options=options))
    if config.learned_depth is not None:
        stages += [
            Stage(f"learned-{number}", learned, units=2, options={"number": number})
            for number in range(config.num_grammars)
        ]
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `depth`, `grammar`, `statistic`, number of `samples` and `level`, 0 the root's, the adjusted Rand index
      `agreement`; for every `space` of distances (given, hyperbolic, flat) the `score` of the tree and the `stress`;
      for the learned depth the share of `rules` found and the `loss` of held-out strings over their entropy. Of a file:
      the `information` of siblings on held-out windows, of which a share is `known`, having no new tuple, and that of
      shuffled ones. NaN where there is none.
    """
    if config.file is not None:
        return results["own"]
    grammars = xr.Variable("grammar", np.arange(config.num_grammars))
    parts: list[xr.Dataset] = []
    for depth in config.depths:
        rows = [results[f"grammar-{depth}-{number}"] for number in grammars.values]
        parts.append(xr.concat(rows, grammars).assign_coords(level=np.arange(depth)))
    dataset = xr.concat(parts, xr.Variable("depth", list(config.depths)), join="outer")
    if config.learned_depth is None:
        return dataset
    rows = xr.concat([results[f"learned-{number}"] for number in grammars.values], grammars)
    rows = rows.assign_coords(level=np.arange(config.learned_depth))
    rows = rows.reindex(level=dataset.level, samples=dataset.samples)
    return dataset.assign(dict(rows.data_vars))


def recovered(config: Config, key: Key[Array, ""], inputs: Inputs, *, depth: int, number: int) -> xr.Dataset:
    """Every statistic at every number of strings of one grammar."""
    _, x, levels = _drawn(config, key, depth, number)
    shape = len(config.statistics), len(config.samples), depth
    agreement = np.full(shape, np.nan)
    for i, name in enumerate(config.statistics):
        for j, n in enumerate(config.samples):
            found = _recovered(
                config, name, named_key(key, f"{name}-{depth}-{number}", n), x[:n], depth, levels[0][:n, 0]
            )
            for level, value in recovery.level_agreement(found, [symbols[:n] for symbols in levels]).items():
                agreement[i, j, level] = value
        inputs.advance(inputs.units / len(config.statistics), f"depth {depth}, {name}")
    dims = "statistic", "samples", "level"
    scores, stress = _tree_scores(config, named_key(key, f"trees-{depth}", number), x, depth)
    return xr.Dataset(
        {"agreement": (dims, agreement), "score": (("space", "kind"), scores), "stress": ("space", stress)},
        {
            "statistic": list(config.statistics), "samples": list(config.samples), "space": list(SPACES),
            "kind": list(SCORES),
        },
    )  # fmt: skip


def learned(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """Rules from strings alone: expectation-maximisation from the clusters at every number of strings."""
    depth = config.learned_depth
    assert depth is not None  # or there is no such stage
    rhm, x, _ = _drawn(config, key, depth, number)
    held = rhm.sample(named_key(key, "held-out", number), config.held_out).x
    samples = config.learned_samples
    rules, loss = np.full((2, len(samples), depth), np.nan), np.full(len(samples), np.nan)
    for j, n in enumerate(samples):
        found = _recovered(config, OWN, named_key(key, f"learned-{number}", n), x[:n], depth)
        start = learning.SoftGrammar.from_recovered(found, config.num_symbols)
        end = learning.learn(start, x[:n], num_steps=config.num_steps).grammar
        rules[:, j] = learning.rules_found(start, rhm), learning.rules_found(end, rhm)
        loss[j] = float(-end.log_evidence(held).mean() / rhm.entropy)
        inputs.advance(inputs.units / len(samples), f"rules from {n} strings")
    return xr.Dataset(
        {"rules": (("source", "samples", "level"), rules), "loss": ("samples", loss)},
        {"source": ["clusters", "learned"], "samples": samples},
    )


def own(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Levels of windows of the sequences: found in one half of them, and asked in the other."""
    assert config.file is not None
    depth, s = config.depths[0], config.branching
    windows = _windows(load_sequences(config.file).tokens, s**depth)
    windows = windows[np.asarray(jax.random.permutation(named_key(key, "windows", 0), len(windows)))]
    half = len(windows) // 2
    found = _recovered(config, OWN, named_key(key, "own", 0), windows[:half], depth)
    values, known = np.full((2, 2, depth), np.nan), np.zeros(depth)
    rng = np.random.default_rng(np.asarray(jax.random.bits(named_key(key, "shuffle", 0), (2,), np.uint32)))
    for level, symbols in found.of(windows[half:]).items():
        if level == 0:
            continue
        read = symbols[(symbols >= 0).all(1)]  # windows without a tuple that the other half does not have
        known[level - 1] = len(read) / len(symbols)
        if len(read) < FEWEST:
            continue
        for row, rows in enumerate((read, _shuffled(rng, read))):
            estimate = recovery.sibling_information(rows, s)
            values[:, row, level - 1] = estimate.value, estimate.stderr
    dims = "source", "level"
    return xr.Dataset(
        {
            "information": (dims, values[0]), "information_stderr": (dims, values[1]),
            "tuples": ("step", [len(found.found[level].table) for level in range(1, depth)]),
            "windows": len(windows), "known": ("level", known),
        },
        {"source": ["found", "shuffled"], "level": np.arange(1, depth + 1), "step": np.arange(1, depth)},
    )  # fmt: skip


def _drawn(
    config: Config, key: Key[Array, ""], depth: int, number: int
) -> tuple[RandomHierarchyModel, Int[np.ndarray, "n leaves"], list[Int[np.ndarray, "n _nodes"]]]:
    """A grammar, its strings, and their levels."""
    rhm = config.grammar(depth, named_key(key, f"grammar-{depth}", number))
    tree = rhm.sample(named_key(key, f"strings-{depth}", number), config.samples[-1]).latent
    levels = [np.asarray(level) for level in tree.levels]
    return rhm, levels[-1], levels


def _recovered(
    config: Config,
    name: str,
    key: Key[Array, ""],
    x: Int[np.ndarray, "n leaves"],
    depth: int,
    labels: Int[np.ndarray, " n"] | None = None,
) -> recovery.Recovered:
    statistic, clustering = STATISTICS[name]
    branching = (config.branching,) * depth
    return recovery.recover(
        key, x, branching, config.num_symbols, statistic=statistic, clustering=clustering, labels=labels
    )


def _tree_scores(
    config: Config, key: Key[Array, ""], x: Int[np.ndarray, "n leaves"], depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the distances between leaves, and of what two embeddings in a plane make of them."""
    branching = (config.branching,) * depth
    given = recovery.leaf_distances(x)
    curved_key, flat_key = jax.random.split(key)
    curved, flat = recovery.hyperbolic(curved_key, given), recovery.euclidean(flat_key, given)
    scores = [recovery.tree_score(d, branching) for d in (given, curved.distances, flat.distances)]
    stress = [0.0, float(curved.stress), float(flat.stress)]
    return np.array([[getattr(score, kind) for kind in SCORES] for score in scores]), np.array(stress)


def _windows(tokens: Int[np.ndarray, "n total"], length: int) -> Int[np.ndarray, "windows {length}"]:
    """Rows cut into windows, what is left over at the end of a row left out."""
    if tokens.shape[1] < length:
        raise ValueError(f"sequences of {tokens.shape[1]} tokens, windows of {length}: lower depths or branching")
    count = tokens.shape[1] // length
    windows = tokens[:, : count * length].reshape(-1, length)
    if len(windows) < 2 * FEWEST:
        raise ValueError(f"the sequences hold {len(windows)} windows of {length} tokens: give at least {2 * FEWEST}")
    return windows


def _shuffled(rng: np.random.Generator, rows: Int[np.ndarray, "n nodes"]) -> Int[np.ndarray, "n nodes"]:
    """Every place by itself, so that siblings tell nothing."""
    return np.stack([rng.permutation(column) for column in rows.T], 1)
