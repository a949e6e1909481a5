"""The stages of the experiment `transition`, and how they become one dataset.

annealed                    threshold of an infinite hierarchy, rules drawn anew at every node
quenched                    this grammar's own threshold, and those of the ensemble, by quenched density evolution
predicted-N                 exact posterior's beliefs, grammar N, and what the strings still say of every level
train-N                     the network of grammar N, looked at on the way
exact-N, trained-N, empirical-N    retention by forward-backward, the same data and noise
close-N                     trained and exact beside the posterior where the class is lost, many strings
ensemble, depth-L           the posterior's beliefs for other grammars of these sizes, and of depth L
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from diffusion import AbstractDenoiser, Fresh
from diffusion.measure import locate_transition
from hierarchical import Derivation, RandomHierarchyModel, sample_trees
from phasetree.experiment import Inputs, Stage
from phasetree.experiments.transition.config import STRINGS, Config
from phasetree.experiments.transition.networks import trained
from phasetree.experiments.transition.sweeps import believed, noised, regenerated, sweep
from phasetree.recipes.training import named_key
from theory import density_evolution, mean_field, quenched
from theory.ensemble.information import level_entropies
from theory.exact import EmpiricalDenoiser, GrammarDenoiser

INFORMATION = 512  # strings whose entropies are computed
CLOSE = 1 / 6  # of the grid's length, to either side of the crossing
ALL = ("t", "level")


def plan(config: Config) -> list[Stage]:
    """Theory first, then each grammar: posterior, training, forward-backward."""
    units, stages = config.num_times, [Stage("annealed", annealed, units=2)]
    for n in range(config.num_grammars):
        stages.append(Stage(f"predicted-{n}", predicted, ("annealed",), 2 * units, {"number": n}))
    first = tuple(f"predicted-{n}" for n in range(config.num_grammars))
    stages.append(Stage("close-grid", close_grid, ("annealed", *first)))
    for n in range(config.num_grammars):
        number, network = {"number": n}, f"train-{n}"
        stages.append(Stage(f"exact-{n}", exact, ("annealed",), units, number))
        if config.training_set:
            stages.append(Stage(f"empirical-{n}", empirical, ("annealed",), units, number))
        needed = (network,) if config.trains else ()
        if config.trains:
            stages.append(Stage(network, trained, ("close-grid",), 10 * units, number))
            stages.append(Stage(f"trained-{n}", by_network, ("annealed", network), 3 * units, number))
        stages.append(Stage(f"close-{n}", close, ("close-grid", *needed), 4 * config.close_times, number))
    if config.process != "epsilon":
        stages.append(Stage("quenched", own_thresholds, units=config.num_grammars + config.ensemble))
    stages.append(Stage("ensemble", ensemble, ("annealed",), config.ensemble, {"depth": config.depth}))
    return [*stages, *(Stage(f"depth-{L}", ensemble, ("annealed",), config.ensemble, {"depth": L})
                       for L in config.depths)]  # fmt: skip


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      `retention` of every denoiser (exact, trained, empirical) and of the posterior, in (denoiser, grammar, datum, t,
      level); the same as `close_retention` and `close_valid` around the loss of the class; `entropy` of every level;
      `ensemble`, `at_depth`; thresholds; training.
    """
    kinds = [kind for kind in ("predicted", "exact", "trained", "empirical") if f"{kind}-0" in results]
    by_kind = {kind: _grammars(config, results, kind) for kind in kinds}
    dataset = xr.concat([by_kind[kind].retention for kind in kinds], xr.Variable("denoiser", kinds)).to_dataset()
    dataset = dataset.merge(_grammars(config, results, "close"))
    dataset = dataset.merge(by_kind["predicted"].drop_vars("retention"))
    dataset["ensemble"] = results["ensemble"].belief
    dataset["annealed"], dataset["annealed_stderr"] = results["annealed"].threshold, results["annealed"].stderr
    if config.trains:
        dataset = dataset.merge(_grammars(config, results, "train"))
    if "quenched" in results:
        dataset = dataset.merge(results["quenched"])
    if config.depths:
        curves = [results[f"depth-{depth}"].belief.isel(level=0) for depth in config.depths]
        dataset["at_depth"] = xr.concat(curves, xr.Variable("depth", list(config.depths)))
    if config.process == "epsilon":
        beliefs = mean_field.level_beliefs(jnp.asarray(dataset.t.values), config.depth, *config.sizes).marginal
        dataset["mean_field"] = (("level", "t"), np.asarray(beliefs))
    unit = "OU time" if config.process == "gaussian" else "1"
    dataset.t.attrs = {"long_name": "noise time", "units": unit, "process": config.process}
    return dataset


def _grammars(config: Config, results: Mapping[str, xr.Dataset], kind: str) -> xr.Dataset:
    return xr.concat([results[f"{kind}-{n}"] for n in range(config.num_grammars)], "grammar")


def grammar(config: Config, key, number: int) -> RandomHierarchyModel:
    return config.grammar(named_key(key, "grammar", number))


def annealed(config: Config, key, inputs: Inputs) -> xr.Dataset:
    """The threshold of an infinitely deep hierarchy; NaN if the class is lost, or kept, at every noise."""
    value, stderr = np.nan, np.nan
    if config.process == "epsilon":
        value, stderr = mean_field.critical_noise(*config.sizes), 0.0
    elif mean_field.transition_exists(*config.sizes):
        # the last cell is 1/729 of the masked fractions; of OU times, up to 8, the threshold is a small part
        refinements = 5 if config.process == "gaussian" else 3
        key = named_key(key, "density evolution", 0)
        found = density_evolution.critical_noise(key, *config.sizes, config.noise, refinements=refinements)
        value, stderr = float(found.value), float(found.stderr)
    inputs.advance(2)
    dataset = xr.Dataset({"threshold": value, "stderr": stderr})
    return dataset.assign_coords(t=config.times(value))


def own_thresholds(config: Config, key, inputs: Inputs) -> xr.Dataset:
    """Where each grammar, and each of the ensemble, loses its class: strings and noise averaged, by its own tables."""
    grammars = [grammar(config, key, n) for n in range(config.num_grammars)]
    grammars += [config.random_grammar(named_key(key, "ensemble grammar", n)) for n in range(config.ensemble)]
    found = []
    for n, rhm in enumerate(grammars):
        refinements = 5 if config.process == "gaussian" else 3
        replicas = 4 if n < config.num_grammars else 2  # of the others only their spread is read, ten times as wide
        # neither its size nor its key depends on the rules: one compiled program for all grammars
        size = max(64, 4096 // config.num_symbols)
        key_here = named_key(key, "quenched", n)
        search = {"population": size, "replicas": replicas, "refinements": refinements}
        found.append(quenched.critical_noise(key_here, rhm, config.noise, **search))
        inputs.advance()
    own, others = np.split(np.array([[float(x.value), float(x.stderr)] for x in found]), [config.num_grammars])
    return xr.Dataset(
        {
            "quenched": ("grammar", own[:, 0]),
            "quenched_stderr": ("grammar", own[:, 1]),
            "quenched_ensemble": ("other", others[:, 0]),
            "quenched_ensemble_stderr": ("other", others[:, 1]),
        }
    )


def predicted(config: Config, key, inputs: Inputs, *, number: int) -> xr.Dataset:
    """Beliefs of the exact posterior in the truth, and the entropy of every level given the noised string."""
    rhm, times = grammar(config, key, number), inputs["annealed"].t.values
    data = _data(config, key, number, rhm, config.num_data)
    (belief,) = sweep(
        rhm, config.num_data, times, _noise(key, number), believed(rhm, config.noise, data), inputs.advance
    )
    dataset = _retention(belief, times)
    if config.process == "epsilon":
        inputs.advance(config.num_times)
        return dataset
    few = jax.tree.map(lambda x: x[:INFORMATION], data)

    def entropies(k, t, rows):
        part = jax.tree.map(lambda x: x[rows], few)
        evidence = jax.vmap(config.noise.log_likelihood, (0, None))(noised(k, config.noise, part, t), t)
        return (level_entropies(rhm, evidence),)

    (entropy,) = sweep(rhm, min(INFORMATION, config.num_data), times, _noise(key, number), entropies, inputs.advance)
    nothing = jnp.zeros((1, rhm.num_leaves, rhm.num_symbols))
    return dataset.assign(
        entropy=(("string", *ALL), entropy.astype(np.float32)),
        prior_entropy=("level", np.asarray(level_entropies(rhm, nothing)[0])),
    )


def exact(config: Config, key, inputs: Inputs, *, number: int) -> xr.Dataset:
    rhm = grammar(config, key, number)
    denoiser = GrammarDenoiser(rhm=rhm, process=config.noise)
    return _measured(config, key, inputs, number, denoiser, _data(config, key, number, rhm, config.num_data).leaves)


def by_network(config: Config, key, inputs: Inputs, *, number: int) -> xr.Dataset:
    x0 = _data(config, key, number, grammar(config, key, number), config.num_data).leaves
    return _measured(config, key, inputs, number, inputs[f"train-{number}"].model, x0)


def empirical(config: Config, key, inputs: Inputs, *, number: int) -> xr.Dataset:
    """The Bayes denoiser of a finite training set, asked about its own strings."""
    strings = Fresh(grammar(config, key, number)).batch(named_key(key, "training set", number), config.training_set)
    chosen = jax.random.randint(named_key(key, "chosen", number), (config.num_data,), 0, len(strings))
    denoiser = EmpiricalDenoiser(data=strings, process=config.noise)
    return _measured(config, key, inputs, number, denoiser, strings[chosen])


def _measured(config: Config, key, inputs: Inputs, number: int, denoiser: AbstractDenoiser, x0) -> xr.Dataset:
    rhm, times = grammar(config, key, number), inputs["annealed"].t.values
    kept, _ = sweep(rhm, len(x0), times, _noise(key, number), regenerated(rhm, denoiser, x0), inputs.advance)
    return _retention(kept, times)


def close_grid(config: Config, key, inputs: Inputs) -> xr.Dataset:
    """Noise times around the loss of the class, by the exact posterior; those of the curves if they do not show it."""
    curves = [inputs[f"predicted-{n}"].retention.isel(level=0) for n in range(config.num_grammars)]
    times = curves[0].t.values
    rows = jnp.stack([jnp.asarray(curve.values, float) for curve in curves])
    where = float(locate_transition(named_key(key, "close grid", 0), jnp.asarray(times), rows).value)
    reach = CLOSE * (times[-1] - times[0])
    inputs.advance()
    if not np.isfinite(where):
        return xr.Dataset(coords={"t_close": np.linspace(times[0], times[-1], config.close_times)})
    centre = np.clip(round(where, 2 if config.process != "gaussian" else 3), times[0] + reach, times[-1] - reach)
    return xr.Dataset(coords={"t_close": np.linspace(centre - reach, centre + reach, config.close_times)})


def close(config: Config, key, inputs: Inputs, *, number: int) -> xr.Dataset:
    """Posterior, exact samples and network, string by string, where the class is lost."""
    rhm, times = grammar(config, key, number), inputs["close-grid"].t_close.values
    data = _data(config, key, number, rhm, config.close_data)

    def noise(index):
        return named_key(key, f"close noise {number}", index)

    denoisers: dict[str, AbstractDenoiser] = {"exact": GrammarDenoiser(rhm=rhm, process=config.noise)}
    if config.trains:
        denoisers["trained"] = inputs[f"train-{number}"].model
    step = 4 / (1 + len(denoisers))
    (belief,) = sweep(
        rhm, config.close_data, times, noise, believed(rhm, config.noise, data), lambda: inputs.advance(step)
    )
    kept, valid = {"predicted": belief}, {"predicted": np.ones(belief.shape[:2], bool)}
    for kind, denoiser in denoisers.items():
        of = regenerated(rhm, denoiser, data.leaves)
        kept[kind], valid[kind] = sweep(rhm, config.close_data, times, noise, of, lambda: inputs.advance(step))
    dims = ("close_denoiser", "close_datum", "t_close")
    return xr.Dataset(
        {
            "close_retention": ((*dims, "level"), np.stack(list(kept.values())).astype(np.float32)),
            "close_valid": (dims, np.stack(list(valid.values())).astype(np.int8)),
        },
        {"close_denoiser": list(kept), "t_close": times},
    )


def ensemble(config: Config, key, inputs: Inputs, *, depth: int) -> xr.Dataset:
    """Beliefs of the exact posterior for many grammars, mean over strings, a row each; those of depth L share rules."""
    times, rows = inputs["annealed"].t.values, []
    for number in range(config.ensemble):
        rhm = config.random_grammar(named_key(key, "ensemble grammar", number), depth)
        data = _data(config, key, number, rhm, STRINGS)
        of = believed(rhm, config.noise, data)
        (belief,) = sweep(rhm, STRINGS, times, _noise(key, number), of, lambda: None)
        rows.append(belief.mean(0))
        inputs.advance()
    return xr.Dataset({"belief": (("other", *ALL), np.stack(rows))}, {"t": times})


def _data(config: Config, key, number: int, rhm: RandomHierarchyModel, count: int) -> Derivation:
    return sample_trees(named_key(key, "data", number), rhm, count)


def _noise(key, number: int):
    return lambda index: named_key(key, f"noise {number}", index)


def _retention(kept: np.ndarray, times: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"retention": (("datum", *ALL), kept.astype(np.float32))}, {"t": times})
