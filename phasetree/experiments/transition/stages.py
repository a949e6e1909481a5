"""What the experiment `transition` computes, in one stage whose parts are kept when done."""

import functools
from collections.abc import Callable, Iterator, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from diffusion import (
    AbstractDenoiser,
    Fresh,
    forward_backward,
)
from diffusion.measure import level_retention
from diffusion.noise.process import AbstractTokenProcess
from hierarchical import Derivation, RandomHierarchyModel, sample_trees
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.processes import PROCESSES
from phasetree.experiments.transition.config import TIMES, Config
from phasetree.recipes.training import named_key, network_on_grammar
from theory import density_evolution, marginals, mean_field
from theory.exact import AbstractEmpiricalDenoiser, EmpiricalDenoiser, GrammarDenoiser


class Run:
    """One run of the experiment: the configuration made concrete, and a method for each stage."""

    def __init__(self, config: Config, inputs: Inputs):
        self.config, self.inputs = config, inputs
        self.process = PROCESSES[config.process](config.num_symbols)
        self.keys = functools.partial(named_key, config.seed)
        self.times = np.linspace(*TIMES[config.process], config.num_times)
        if config.process == "gaussian":
            threshold = float(inputs.keep("infinite-depth", self.infinite_depth).threshold)
            self.times *= threshold if np.isfinite(threshold) else 1.0

    def trained(self, number: int, rhm: RandomHierarchyModel) -> Training:
        """The trained denoiser of grammar `number`, its losses, and those of the exact denoiser on the same data."""
        options = {"width": self.config.width, "seed": self.config.seed}
        key = jax.random.key(self.config.seed)
        return network_on_grammar(key, self.inputs, number, rhm, self.process, self.config.train, **options)

    def measured(self, kind: str, number: int, rhm: RandomHierarchyModel, denoiser: AbstractDenoiser) -> xr.Dataset:
        """Retention of every level by forward-backward: the same data and noise whatever the denoiser."""
        config = self.config
        x0 = Fresh(rhm).batch(self.keys("data", number), config.num_data)
        if isinstance(denoiser, AbstractEmpiricalDenoiser):
            chosen = jax.random.randint(self.keys("chosen", number), (config.num_data,), 0, len(denoiser.data))
            x0 = denoiser.data[chosen]

        def retention(key: Key[Array, ""], t: Float[Array, ""], rows: slice) -> Array:
            return _regenerated_retention(key, rhm, denoiser, x0[rows], t)

        return self._sweep(kind, number, rhm, config.num_data, retention)

    def predicted(self, name: str, number: int, rhm: RandomHierarchyModel, num_data: int) -> xr.Dataset:
        """Expected retention, without sampling the regenerated string: the posterior's belief in the truth.

        The strings and their noise are those of `measured`, so what is left of a difference is the drawing.
        """
        data = sample_trees(self.keys("data", number), rhm, num_data)

        def retention(key: Key[Array, ""], t: Float[Array, ""], rows: slice) -> Array:
            return _believed_retention(key, rhm, self.process, jax.tree.map(lambda x: x[rows], data), t)

        return self._sweep(name, number, rhm, num_data, retention)

    def _sweep(self, name: str, number: int, rhm: RandomHierarchyModel, num_data: int, retention: Callable):
        """Evaluate every noise level on all data, in pieces that bound the memory, with a progress bar."""

        def compute() -> xr.Dataset:
            pieces = list(_pieces(num_data, rhm))
            found = np.zeros((num_data, len(self.times), rhm.depth + 1), np.float32)
            work = [(i, j) for i in range(len(self.times)) for j in range(len(pieces))]
            for i, j in tqdm(work, desc=f"{name} {number}", unit="call", leave=False, disable=name == "ensemble"):
                key = self.keys(f"noise {number}", i * len(pieces) + j)
                found[:, i][pieces[j]] = retention(key, jnp.asarray(self.times[i]), pieces[j])
            return xr.Dataset({"retention": (("datum", "time", "level"), found)})

        return self.inputs.keep(f"{name}-{number}", compute)

    def ensemble(self) -> xr.DataArray:
        """Expected retention of many grammars of the same sizes, one row each."""
        rows = []
        for number in tqdm(range(self.config.ensemble), desc="exact inference on other grammars", unit="grammar"):
            rhm = self.config.grammar(self.keys("ensemble grammar", number))
            rows.append(self.predicted("ensemble", number, rhm, 64).retention.mean("datum").values)
        return xr.DataArray(np.stack(rows), dims=("row", "time", "level"))

    def infinite_depth(self) -> xr.Dataset:
        """The threshold of an infinitely deep hierarchy; NaN if the class is lost, or kept, at every noise."""
        config = self.config
        sizes = config.num_symbols, config.num_synonyms, config.branching
        if config.process == "epsilon":
            return xr.Dataset({"threshold": mean_field.critical_noise(*sizes), "stderr": 0.0})
        if not mean_field.transition_exists(*sizes):
            return xr.Dataset({"threshold": np.nan, "stderr": np.nan})
        # the last cell is 1/729 of the masked fractions; of OU times, up to 8, the threshold is a small part
        refinements = 5 if config.process == "gaussian" else 3
        key = self.keys("density evolution", 0)
        result = density_evolution.critical_noise(key, *sizes, self.process, refinements=refinements)
        return xr.Dataset({"threshold": float(result.value), "stderr": float(result.stderr)})


def plan(config: Config) -> list[Stage]:
    """All in one."""
    return [Stage("transition", run)]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """That of the stage."""
    return results["transition"]


def run(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Run all parts, skipping those that are kept already.

    Returns:
      Retention of `curve` (trained, exact, empirical: measured; predicted, ensemble: theory) in dims (curve, row, time,
      level), NaN where a curve has fewer rows; training losses; the infinite-depth threshold.
    """
    this = Run(config, inputs)
    curves: dict[str, list[xr.DataArray]] = {}
    training = []
    for number in range(config.num_grammars):
        rhm = config.grammar(this.keys("grammar", number))
        denoisers: dict[str, AbstractDenoiser] = {"exact": GrammarDenoiser(rhm=rhm, process=this.process)}
        if config.width and config.process != "epsilon":
            denoisers["trained"], losses = this.trained(number, rhm)
            training.append(losses)
        if config.training_set:
            strings = Fresh(rhm).batch(this.keys("training set", number), config.training_set)
            denoisers["empirical"] = EmpiricalDenoiser(data=strings, process=this.process)
        for kind, denoiser in denoisers.items():
            curves.setdefault(kind, []).append(this.measured(kind, number, rhm, denoiser).retention)
        curves.setdefault("predicted", []).append(this.predicted("predicted", number, rhm, config.num_data).retention)
    rows = {kind: xr.concat(parts, "datum").rename(datum="row") for kind, parts in curves.items()}
    rows["ensemble"] = this.ensemble()
    if config.process == "epsilon":
        rows["mean field"] = _mean_field(this)
    threshold = inputs.keep("infinite-depth", this.infinite_depth)
    longest = max(part.sizes["row"] for part in rows.values())
    dataset = xr.Dataset(
        {
            "retention": xr.concat(
                [_padded(part, longest) for part in rows.values()], xr.Variable("curve", list(rows))
            ),
            "infinite_depth": threshold.threshold,
            "infinite_depth_stderr": threshold.stderr,
        }
    )
    if training:
        dataset = dataset.merge(xr.concat(training, "grammar"))
    dataset = dataset.assign_coords(time=this.times, level=np.arange(config.depth + 1))
    return dataset


@eqx.filter_jit
def _regenerated_retention(key, rhm: RandomHierarchyModel, denoiser: AbstractDenoiser, x0, t) -> Array:
    times = jnp.full(len(x0), t, jnp.float32)
    return level_retention(rhm, x0, forward_backward(key, denoiser, x0, times)[0])


@eqx.filter_jit
def _believed_retention(key, rhm: RandomHierarchyModel, process: AbstractTokenProcess, data: Derivation, t) -> Array:
    noise_key, _ = jax.random.split(key)  # as in `forward_backward`: the same noise on the same strings
    x_t = jax.vmap(process.corrupt, (0, 0, None))(jax.random.split(noise_key, len(data.leaves)), data.leaves, t)
    tables = marginals(rhm, jax.vmap(process.log_likelihood, (0, None))(x_t, t))
    truths = [
        jnp.take_along_axis(table, level[..., None], -1) for table, level in zip(tables, data.levels, strict=True)
    ]
    return jnp.stack([belief.mean((1, 2)) for belief in truths], -1)


def _padded(rows: xr.DataArray, longest: int) -> xr.DataArray:
    """Rows of NaN added, so that curves of unequal numbers of rows share one array."""
    return rows.pad(row=(0, longest - rows.sizes["row"])).transpose("row", "time", "level")


def _mean_field(this: Run) -> xr.DataArray:
    config = this.config
    sizes = config.num_symbols, config.num_synonyms, config.branching
    beliefs = mean_field.level_beliefs(jnp.asarray(this.times), config.depth, *sizes).marginal
    return xr.DataArray(np.asarray(beliefs, np.float32).T[None], dims=("row", "time", "level"))


def _pieces(num_data: int, rhm: RandomHierarchyModel) -> Iterator[slice]:
    """Rows that fit into about 200 MB of messages at a time."""
    size = max(1, 2**23 // (rhm.num_leaves * rhm.num_symbols))
    for start in range(0, num_data, size):
        yield slice(start, min(start + size, num_data))
