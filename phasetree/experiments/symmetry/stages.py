"""The stages of the experiment `symmetry`, and how they become one dataset.

counted-SET                     rank, dimension and rotations from the data alone, and of the exact score
score-SET, asked-SET            a denoiser, and its symmetries
dense-SET-TRIAL                 a dense autoencoder that counts degrees of freedom
spectrum-SET-TAU                a linear autoencoder at knob 0
linear-SET-FACTOR               a linear autoencoder where the symmetry is broken
switch-SET-FACTOR-SEED          a dense one
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from phasetree.experiment import Stage
from phasetree.experiments.symmetry.config import SCORED, SWITCHED, Config
from phasetree.experiments.symmetry.networks import broken, dense, linear, scored, switched
from phasetree.experiments.symmetry.scores import asked, counted
from phasetree.experiments.symmetry.sets import knobs, taus


def plan(config: Config) -> list[Stage]:
    """Set by set."""
    stages = []
    for name in config.names:
        options = {"name": name}
        stages.append(Stage(f"counted-{name}", counted, units=2, options=options))
        if config.no_train:
            continue
        if name in SCORED:
            stages.append(Stage(f"score-{name}", scored, units=6, options=options))
            stages.append(Stage(f"asked-{name}", asked, (f"score-{name}",), options=options))
        for trial in range(config.num_trials):
            stages.append(Stage(f"dense-{name}-{trial}", dense, units=6, options={**options, "trial": trial}))
        for tau in taus(config, name):
            stages.append(Stage(f"spectrum-{name}-{tau:g}", linear, options={**options, "tau": tau}))
        stages += _sweep(config, name)
    return stages


def _sweep(config: Config, name: str) -> list[Stage]:
    """The stages in which the symmetry is broken."""
    stages = []
    for factor in knobs(name, config.factors):
        options = {"name": name, "factor": factor}
        stages.append(Stage(f"linear-{name}-{factor:g}", broken, options=options))
    for factor in _dense_factors(config, name):
        for seed in range(config.num_seeds):
            options = {"name": name, "factor": factor, "seed": seed}
            stages.append(Stage(f"switch-{name}-{factor:g}-{seed}", switched, units=2, options=options))
    return stages


def _dense_factors(config: Config, name: str) -> tuple[float, ...]:
    """0, where the symmetry is exact, and those at which it is broken; none of sets that are not swept."""
    return (0.0, *knobs(name, config.dense_factors)) if name in SWITCHED else ()


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `set`: its counts, from data alone (`rank`, `dimension`) and of the Jacobian; of every `score` (data,
      exact, trained) how much each `generator` is broken, of the law and of the set; of the dense network of least free
      energy the relevance of each `latent` and the means of some data; relevances of linear networks against `tau` and
      `factor`, with the eigenvalues of their own data, and of dense ones against `dense_factor` for every `seed`. NaN
      where there is none.
    """
    parts: list[xr.Dataset] = []
    for name in config.names:
        pieces = [results[f"counted-{name}"]]
        if f"asked-{name}" in results:
            scores = [pieces[0][[v for v in pieces[0] if "score" in pieces[0][v].dims]], results[f"asked-{name}"]]
            pieces = [pieces[0].drop_dims("score"), xr.concat(scores, "score", join="outer")]
        if not config.no_train:
            pieces += [_best(config, results, name), *_sweeps(config, results, name)]
        parts.append(xr.merge(map(_numbered, pieces), compat="no_conflicts", join="outer"))
    names = xr.Variable("set", list(config.names))
    return xr.concat(
        parts, names, join="outer", data_vars="all", coords="minimal", compat="override", fill_value=np.nan
    )


def _numbered(piece: xr.Dataset) -> xr.Dataset:
    """With a coordinate along every dimension, so that networks and sets of different sizes are padded."""
    return piece.assign_coords({dim: np.arange(size) for dim, size in piece.sizes.items() if dim not in piece.coords})


def _best(config: Config, results: Mapping[str, xr.Dataset], name: str) -> xr.Dataset:
    """The dense network of least free energy, and the count of every trial."""
    trials = [results[f"dense-{name}-{trial}"] for trial in range(config.num_trials)]
    best = min(trials, key=lambda trial: float(trial.free_energy))
    kept = best[["relevance", "relevance_stderr", "active", "free_energy", "free_energy_stderr", "means", "angle"]]
    return kept.assign(active_of_trials=("trial", [float(trial.active) for trial in trials]))


def _sweeps(config: Config, results: Mapping[str, xr.Dataset], name: str) -> list[xr.Dataset]:
    columns = ["relevance", "relevance_stderr", "eigenvalue"]
    spectra = [results[f"spectrum-{name}-{tau:g}"][columns] for tau in taus(config, name)]
    step = xr.Variable("step", np.arange(len(spectra)))
    spectrum = xr.concat(spectra, step).assign(tau=("step", list(taus(config, name))))
    found = [spectrum.rename({v: f"spectrum_{v}" for v in columns})]
    factors = knobs(name, config.factors)
    if factors:
        swept = [results[f"linear-{name}-{factor:g}"][[*columns, "knob"]] for factor in factors]
        linear = xr.concat(swept, xr.Variable("factor", list(factors)))
        found.append(linear.rename({v: f"linear_{v}" for v in (*columns, "knob")}))
    factors = _dense_factors(config, name)
    if factors:
        seeds = xr.Variable("seed", np.arange(config.num_seeds))
        rows = [
            xr.concat([results[f"switch-{name}-{f:g}-{seed}"][columns[:2]] for seed in seeds.values], seeds)
            for f in factors
        ]
        dense = xr.concat(rows, xr.Variable("dense_factor", list(factors)))
        found.append(dense.rename({v: f"dense_{v}" for v in columns[:2]}))
    return found
