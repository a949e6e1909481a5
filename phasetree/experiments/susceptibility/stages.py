"""The stages of the experiment `susceptibility`, each kept in the folder when done, and how they become one dataset."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int
from tqdm import tqdm

from diffusion import AbstractDenoiser, AbstractNetworkDenoiser, forward_backward
from diffusion.measure import (
    RingGeometry,
    TreeGeometry,
    bootstrap,
    change_sums,
    correlation_length,
    susceptibility,
)
from hierarchical import RandomHierarchyModel, matched_chain, sample_strings
from phasetree.experiments.processes import PROCESSES
from phasetree.experiments.susceptibility.config import SusceptibilityConfig
from phasetree.recipes.training import named_key, trained_on_grammar
from phasetree.results import ResultFolder
from theory import gaussian_field, mean_field, pair_correlation
from theory.exact import GrammarDenoiser, MarkovDenoiser

TRAJECTORIES_AT_ONCE = 2**14  # of a call, between two steps of the progress bar
STRINGS_OF_THE_CHAIN = 2**17
FIELD_SITES, FIELD_EXPONENT = 256, 1.0


class Run:
    """One run of the experiment: the configuration made concrete, and a method for each stage."""

    def __init__(self, config: SusceptibilityConfig, folder: ResultFolder):
        self.config, self.folder = config, folder
        self.process = PROCESSES[config.process](config.num_symbols)
        self.keys = functools.partial(named_key, config.seed)
        self.times = np.linspace(config.first_time, config.last_time, config.num_times).astype(np.float32)
        self.geometry = TreeGeometry((config.branching,) * config.depth)

    def data(self, number: int, rhm: RandomHierarchyModel) -> Int[Array, "data sites"]:
        return sample_strings(self.keys("data", number), rhm, self.config.num_data)

    def trained(self, number: int, rhm: RandomHierarchyModel) -> tuple[AbstractNetworkDenoiser, xr.Dataset]:
        """The trained denoiser of grammar `number`, its losses, and those of the exact denoiser on the same data."""
        options = {"width": self.config.width, "seed": self.config.seed}
        return trained_on_grammar(self.keys, self.folder, number, rhm, self.process, self.config.train, **options)

    def measured(self, kind: str, number: int, denoiser: AbstractDenoiser, x0: Int[Array, "data sites"]) -> xr.Dataset:
        """Sums of correlated changes by forward-backward; denoisers of one grammar get the same data and noise."""
        config = self.config
        size = max(1, TRAJECTORIES_AT_ONCE // config.num_trajectories)
        pieces = [slice(i, i + size) for i in range(0, len(x0), size)]

        def compute() -> xr.Dataset:
            sums = np.zeros((len(x0), len(self.times), config.depth + 1))
            fraction = np.zeros((len(x0), len(self.times)))
            work = [(i, j) for i in range(len(self.times)) for j in range(len(pieces))]
            for i, j in tqdm(work, desc=f"{kind} {number}", unit="call", leave=False):
                key, t = self.keys(f"noise {number}", i * len(pieces) + j), jnp.asarray(self.times[i])
                found = change_sums(
                    key, denoiser, x0[pieces[j]], t, self.geometry, num_trajectories=config.num_trajectories
                )
                sums[pieces[j], i], fraction[pieces[j], i] = found.sums, found.fraction
            return _dataset(sums, fraction)

        return self.folder.stage(f"{kind}-{number}", compute)

    def posterior(self, number: int, rhm: RandomHierarchyModel, x0: Int[Array, "data sites"]) -> xr.Dataset:
        """The same for the epsilon-process, where the posterior's own covariances are the answer."""

        def compute() -> xr.Dataset:
            found = [_posterior_pairs(rhm, self.process, x0, jnp.asarray(t)) for t in tqdm(self.times, "exact pairs")]
            sums = np.stack([np.asarray(pairs.sums) for pairs in found], 1)
            return _dataset(sums, 1 - np.stack([np.asarray(pairs.unchanged).mean(1) for pairs in found], 1))

        return self.folder.stage(f"exact-{number}", compute)

    def controls(self, rhm: RandomHierarchyModel) -> dict[str, xr.Dataset]:
        """Strings without a hierarchy: the grammar's neighbours, or its classes, and nothing else."""
        strings = sample_strings(self.keys("chain strings", 0), rhm, STRINGS_OF_THE_CHAIN)
        chain = matched_chain(strings, rhm.num_symbols)
        flat = RandomHierarchyModel.from_rules(
            rhm.rules, rhm.rule_log_probs, num_symbols=rhm.num_symbols, filter_level=rhm.depth
        )
        keys = jax.random.split(self.keys("chain data", 0), self.config.num_data)
        of_chain = eqx.filter_jit(jax.vmap(lambda key: chain.sample(key).x))(keys)
        return {
            "chain": self.measured("chain", 0, MarkovDenoiser(chain=chain, process=self.process), of_chain),
            "mixture": self.measured("mixture", 0, GrammarDenoiser(rhm=flat, process=self.process), self.data(0, flat)),
        }

    def trees(self, rhm: RandomHierarchyModel, x0: Int[Array, "data sites"], peak: int) -> xr.Dataset:
        """Which nodes of one datum's tree differ after one trajectory below, at and above the peak."""

        def compute() -> xr.Dataset:
            chosen = self.times[[peak // 2, peak, (peak + len(self.times)) // 2]]
            repeated, times = jnp.repeat(x0[:1], 3, 0), jnp.asarray(chosen)
            exact = GrammarDenoiser(rhm=rhm, process=self.process)
            x = forward_backward(self.keys("tree", 0), exact, repeated, times)[0]
            old, new = (jax.vmap(rhm.parse)(strings).levels for strings in (repeated, x))
            nodes = [np.asarray(a != b) for a, b in zip(old, new, strict=True)]
            return xr.Dataset(
                {"tree_changed": (("tree", "node"), np.concatenate(nodes, 1))}, {"tree_time": ("tree", chosen)}
            )

        return self.folder.stage("trees", compute)


def run(config: SusceptibilityConfig, folder: ResultFolder) -> xr.Dataset:
    """Run all stages, skipping those that `folder` holds already.

    Returns:
      `sums` S(r) and the `fraction` changed of every `curve` (exact, trained; chain, mixture: controls; mean field) in
      dims (curve, row, time, distance), NaN where a curve has fewer rows; `chi` and `xi` with standard errors; the
      Gaussian field's; one datum's tree; training losses.
    """
    this = Run(config, folder)
    curves: dict[str, list[xr.Dataset]] = {}
    training = []
    first = None
    for number in range(config.num_grammars):
        rhm = config.grammar(this.keys("grammar", number))
        x0 = this.data(number, rhm)
        first = first or (rhm, x0)
        if config.process == "epsilon":
            curves.setdefault("exact", []).append(this.posterior(number, rhm, x0))
            continue
        if config.width:
            network, losses = this.trained(number, rhm)
            training.append(losses)
            curves.setdefault("trained", []).append(this.measured("trained", number, network, x0))
        exact = GrammarDenoiser(rhm=rhm, process=this.process)
        curves.setdefault("exact", []).append(this.measured("exact", number, exact, x0))
    assert first is not None
    if config.controls:
        curves |= {name: [control] for name, control in this.controls(first[0]).items()}
    rows = {name: _rows(parts) for name, parts in curves.items()}
    if config.process == "epsilon":
        rows["mean field"] = _mean_field(this)
    longest = max(part.sizes["row"] for part in rows.values())
    padded = [part.pad(row=(0, longest - part.sizes["row"])) for part in rows.values()]
    dataset = xr.concat(padded, xr.Variable("curve", list(rows)))
    dataset = xr.merge([dataset, _statistics(this, rows)])
    if config.controls:
        dataset = dataset.merge(_gaussian_field(this.times))
    dataset = dataset.merge(this.trees(*first, int(np.nanargmax(dataset.chi.sel(curve="exact").values))))
    if training:
        dataset = dataset.merge(xr.concat(training, "grammar"))
    dataset = dataset.assign_coords(time=this.times, distance=this.geometry.distances)
    dataset.distance.attrs = {"long_name": "tree distance", "units": "sites"}
    return dataset.assign_attrs(config=folder.config)


def _dataset(sums: np.ndarray, fraction: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"sums": (("row", "time", "distance"), sums), "fraction": (("row", "time"), fraction)})


def _rows(grammars: list[xr.Dataset]) -> xr.Dataset:
    """Independent rows: the data of a single grammar, or the means of several grammars."""
    if len(grammars) == 1:
        return grammars[0]
    return xr.concat([grammar.mean("row") for grammar in grammars], "row")


def _mean_field(this: Run) -> xr.Dataset:
    config, noise = this.config, jnp.asarray(this.times, float)
    sizes = config.depth, config.num_symbols, config.num_synonyms, config.branching
    sums = pair_correlation.mean_field_sums(noise, *sizes) * config.branching**config.depth
    unchanged = mean_field.level_beliefs(noise, *sizes).marginal[-1]
    return _dataset(np.asarray(sums)[None], 1 - np.asarray(unchanged)[None])


def _statistics(this: Run, rows: dict[str, xr.Dataset]) -> xr.Dataset:
    """chi and xi of every curve, with bootstrap errors; NaN where nothing changed, and as the error of a prediction."""
    key = this.keys("bootstrap", 0)
    found = {"chi": [], "chi_stderr": [], "xi": [], "xi_stderr": []}
    for part in rows.values():
        sums = jnp.asarray(part.sums.transpose("row", "time", "distance").values)
        for name, statistic in {"chi": susceptibility, "xi": lambda s: correlation_length(s, this.geometry)}.items():
            estimate = jax.jit(bootstrap, static_argnums=2)(jax.random.clone(key), sums, statistic)
            found[name].append(estimate.value)
            found[f"{name}_stderr"].append(estimate.stderr)
    return xr.Dataset({name: (("curve", "time"), np.stack(values)) for name, values in found.items()})


def _gaussian_field(times: np.ndarray) -> xr.Dataset:
    """chi and xi of a field of 256 sites with spectrum 1/k; its noise is the fraction of variance that is noise."""
    noise = jnp.asarray(times, float)
    spectrum = gaussian_field.power_law_spectrum(FIELD_SITES, FIELD_EXPONENT)
    sums = gaussian_field.change_sums(spectrum, jnp.sqrt(1 - noise), jnp.sqrt(noise))
    return xr.Dataset(
        {
            "field_chi": ("time", np.asarray(susceptibility(sums))),
            "field_xi": ("time", np.asarray(correlation_length(sums, RingGeometry(FIELD_SITES)))),
        }
    )


@eqx.filter_jit
def _posterior_pairs(rhm: RandomHierarchyModel, process, x0, t) -> pair_correlation.PairCorrelations:
    evidence = jax.vmap(process.log_likelihood, (0, None))(x0, t)
    return pair_correlation.posterior_pairs(rhm, x0, evidence)
