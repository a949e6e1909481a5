"""The stages of the experiment `symmetry`, and how they become one dataset.

counted-SET                     rank, dimension and rotations from the data alone, and of the exact score
score-SET, asked-SET            a denoiser, and its symmetries
dense-SET-TRIAL                 a dense autoencoder that counts degrees of freedom
spectrum-SET-TAU                a linear autoencoder at knob 0
linear-SET-FACTOR               a linear autoencoder where the symmetry is broken
switch-SET-FACTOR-SEED          a dense one
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float32, Float64, Key
from scipy.spatial import KDTree

from diffusion import (
    AbstractVectorDenoiser,
    DenseVAE,
    Finite,
    LinearVAE,
    TrainConfig,
    VarianceExploding,
    VectorProcess,
    Whole,
    from_vae,
    full_batch,
)
from diffusion.measure import dimension, symmetry
from diffusion.noise.gaussian import time_of_noise
from hierarchical import intrinsic_dimension, linear_rank, load_points, tangent_generators
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.symmetry.config import OWN, SCORED, SWITCHED, Config
from phasetree.experiments.symmetry.sets import CASES, covariance, eigenvalues, switching, unit
from phasetree.recipes.autoencoders import autoencoder_on, matched
from phasetree.recipes.training import named_key
from phasetree.recipes.vectors import network_on_vectors
from theory.exact import AbstractEmpiricalDenoiser, EmpiricalDenoiser, MixtureDenoiser

PROCESS = VectorProcess(VarianceExploding())
NUM_POINTS = 2500  # for the dimension from data alone
NUM_ASKED = 2048  # points at which a score is asked; those of the exact one, which is slow, are fewer
NUM_EXACT = 512
NUM_LINEAR = 1024  # data of linear networks, which know them by their covariance alone
NEIGHBOUR = 10  # whose distance is the least noise for data alone
NUM_SHOWN = 400  # data of a latent map
MANY = 40_000  # data of dense networks and denoisers
Rows = Float32[np.ndarray, "n d"]


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


def knobs(name: str, factors: tuple[float, ...]) -> tuple[float, ...]:
    """The factors that stay within the range of the knob; none where there is no knob."""
    if name == OWN or not CASES[name].knob:
        return ()
    switch = switching(name, CASES[name].tau)
    return () if switch is None else tuple(f for f in factors if f * switch.knob <= CASES[name].largest)


def taus(config: Config, name: str) -> tuple[float, ...]:
    """From half the least eigenvalue that is not 0, of the law or of one's own data, to the largest."""
    values = _spectrum(own_rows(config)) if name == OWN else eigenvalues(name, 0.0)
    kept = values[values > 1e-4 * values[0]]
    low, high = np.log(kept[-1] / 2), np.log(1.1 * kept[0])
    shares = (np.arange(config.num_taus) + 0.5) / config.num_taus
    return tuple(float(f"{np.exp(low + (high - low) * share):.4g}") for share in shares)


def rows_of(config: Config, key: Key[Array, ""], name: str, knob: float, count: int) -> Rows:
    """Data in the unit of their features."""
    if name == OWN:
        return own_rows(config)
    drawn = CASES[name].law(knob).sample(named_key(key, f"data-{name}", 0), (count,)).x
    return (np.asarray(drawn, np.float64) / unit(name)).astype(np.float32)


def own_rows(config: Config) -> Rows:
    """The user's data, each feature that varies in units of its standard deviation.

    Raises:
      ValueError: if there are fewer than 512 data or none varies.
    """
    rows = load_points(config.file or "")
    std = rows.std(0)
    if len(rows) < 512 or not std.max() > 0:
        raise ValueError(f"{config.file} holds {len(rows)} rows: give at least 512, not all equal")
    varied = std > 1e-6 * std.max()
    return ((rows - rows.mean(0))[:, varied] / std[varied]).astype(np.float32)


def counted(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> xr.Dataset:
    """Counts, and the rotations of the law, from data alone and by the exact score where it is known."""
    x = rows_of(config, key, name, 0.0, max(config.num_data, NUM_POINTS))
    found = dimension.from_data(named_key(key, f"dimension-{name}", 0), x[:NUM_POINTS].astype(np.float64))
    inputs.advance(inputs.units / 2)
    record = {
        "rank": float(linear_rank(np.cov(x.T).astype(np.float32))),
        "dimension": float(found.value),
        "dimension_stderr": float(found.stderr),
        "eigenvalue": ("place", _spectrum(x)),
    }
    if name != OWN:
        law = CASES[name].law(0.0)
        record["jacobian_rank"] = float(intrinsic_dimension(named_key(key, f"rank-{name}", 0), law))
    alone = EmpiricalDenoiser(jnp.asarray(x), PROCESS)
    assert isinstance(alone, AbstractVectorDenoiser)  # of arrays
    parts = [_asked(config, key, name, alone, x[:NUM_ASKED], "data")]
    exact = None if name == OWN else CASES[name].exact
    if exact is not None:
        denoiser = MixtureDenoiser(mixture=exact(CASES[name].law(0.0)), process=PROCESS)
        parts.append(_asked(config, key, name, denoiser, x[:NUM_EXACT], "exact"))
    inputs.advance(inputs.units / 2)
    return xr.merge([xr.Dataset(record), xr.concat(parts, "score")])


def scored(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> Training:
    """A denoiser of a set."""
    x = rows_of(config, key, name, 0.0, MANY)
    how = TrainConfig(steps=config.score_steps, batch_size=256, ema_decay=0.998)
    return network_on_vectors(key, inputs, name, Finite(x), x, how, width=config.width)


def asked(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> xr.Dataset:
    """The symmetries of a trained denoiser."""
    x = rows_of(config, key, name, 0.0, config.num_data)[:NUM_ASKED]
    return _asked(config, key, name, inputs[f"score-{name}"].model, x, "trained")


def _spacing(x: Rows) -> float:
    """The median distance of a datum to its tenth neighbour: at less noise the data alone know only themselves."""
    return float(np.median(KDTree(x).query(x[:NUM_ASKED], NEIGHBOUR + 1)[0][:, -1]))


def _asked(
    config: Config, key: Key[Array, ""], name: str, denoiser: AbstractVectorDenoiser, x: Rows, kind: str
) -> xr.Dataset:
    """Rotations of the law and generators of the set that are broken least, and their angles with the true ones."""
    variances = np.var(x, 0, dtype=np.float64)
    size = float(np.sqrt(variances[variances > 1e-6 * variances.max()].mean()))
    least = {"law": 0.0, "set": 0.0}
    if isinstance(denoiser, AbstractEmpiricalDenoiser):
        least["set"] = _spacing(np.asarray(denoiser.data))
    purpose = named_key(key, f"{kind}-{name}", 0)
    columns = {}
    for part, noise, of_set in (("law", config.noise, False), ("set", config.set_noise, True)):
        draw = jax.random.fold_in(purpose, int(of_set))
        t = time_of_noise(max(noise * size, least[part]))
        try:
            whole = of_set or name == OWN  # whose features are rescaled, so that rotations are not seen as such
            search = symmetry.search if whole else symmetry.search_rotations
            found = search(draw, denoiser, x, t, of_set=of_set)
        except ValueError:  # a span of too many dimensions for the data that there are
            continue
        true = None if name == OWN else _true(named_key(key, f"algebra-{name}", 0), name, of_set)
        breaking = np.full((2, MOST_GENERATORS), np.nan)
        shown = min(MOST_GENERATORS, len(found.matrices))
        breaking[0, :shown], breaking[1, :shown] = found.breaking.value[:shown], found.breaking.stderr[:shown]
        columns |= {
            f"{part}_breaking": (("score", "generator"), breaking[:1]),
            f"{part}_breaking_stderr": (("score", "generator"), breaking[1:]),
            f"{part}_searched": ("score", [float(len(found.matrices))]),
        }
        if true is not None:
            count = min(len(true), len(found.matrices))
            angle = symmetry.principal_angles(found.matrices[:count], true)[0] if count else np.nan
            columns |= {f"{part}_true": ("score", [float(len(true))]), f"{part}_angle": ("score", [float(angle)])}
    return xr.Dataset(columns, {"score": [kind]})


MOST_GENERATORS = 64  # of a set that are kept


def _true(key: Key[Array, ""], name: str, of_set: bool) -> Float64[np.ndarray, "g d d"]:
    """Generators of the law or of the set, acting on features in their unit."""
    law, size = CASES[name].law(0.0), unit(name)
    matrices = np.asarray(tangent_generators(key, law) if of_set else law.rotations(), np.float64)
    return matrices * size[None, None] / size[None, :, None]


def dense(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, trial: int) -> Training:
    """A dense network at knob 0 and a small tau, with the means of some data."""
    x = rows_of(config, key, name, 0.0, MANY)
    network = _dense(config, x, named_key(key, f"dense-{name}", trial), config.num_latents)
    made = from_vae(network, tau=config.tau)
    how = _how(config.dense_steps)
    trained = autoencoder_on(named_key(key, f"train-{name}", trial), inputs, made, Finite(x), how, x[: config.num_data])
    order = trained.record.latent_order.values.astype(int)
    means = np.asarray(trained.model.encode(x[:NUM_SHOWN]).mean)[:, order]
    angle = np.arctan2(x[:NUM_SHOWN, 1], x[:NUM_SHOWN, 0])
    return trained._replace(record=trained.record.assign(means=(("datum", "latent"), means), angle=("datum", angle)))


def linear(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, tau: float) -> Training:
    """A linear network at knob 0."""
    return _linear(config, key, inputs, _matched(config, key, name, 0.0), tau)


def broken(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, factor: float) -> Training:
    """A linear network at `factor` times the knob at which theory says that a latent switches."""
    knob = factor * _critical(name)
    trained = _linear(config, key, inputs, _matched(config, key, name, knob), CASES[name].tau)
    return trained._replace(record=trained.record.assign(knob=knob))


def switched(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, factor: float, seed: int) -> Training:
    """A dense network at such a knob."""
    knob = factor * _critical(name)
    x = rows_of(config, key, name, knob, MANY)
    made = from_vae(_dense(config, x, named_key(key, f"switch-{name}", seed)), tau=CASES[name].tau)
    how = _how(config.switch_steps)
    purpose = named_key(key, f"switch-train-{name}", seed)
    return autoencoder_on(purpose, inputs, made, Finite(x), how, x[: config.num_data])


def _critical(name: str) -> float:
    """The knob at which a latent switches, of a set that has one."""
    switch = switching(name, CASES[name].tau)
    assert switch is not None  # of sets with factors
    return switch.knob


def _matched(config: Config, key: Key[Array, ""], name: str, knob: float) -> Rows:
    """Data moved linearly to the covariance of the law, so that their own scatter does not count; one's own as is."""
    x = rows_of(config, key, name, knob, NUM_LINEAR)
    return x if name == OWN else matched(x, covariance(name, knob)).astype(np.float32)


def _linear(config: Config, key: Key[Array, ""], inputs: Inputs, x: Rows, tau: float) -> Training:
    network = LinearVAE.of_data(x, x.shape[1], rngs=nnx.Rngs(named_key(key, "linear", 0)))
    source = Whole(x)
    made = from_vae(network, tau=tau)
    trained = autoencoder_on(
        named_key(key, "linear-train", 0), inputs, made, source, full_batch(source, config.steps), x
    )
    return trained._replace(record=trained.record.assign(eigenvalue=("latent", _spectrum(x, ddof=0))))


def _dense(config: Config, x: Rows, key: Key[Array, ""], num_latents: int | None = None) -> DenseVAE:
    return DenseVAE.of_data(x, num_latents or x.shape[1], config.width, LAYERS, rngs=nnx.Rngs(key))


LAYERS = 3  # hidden, in encoder and decoder


def _how(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=256, learning_rate=1e-3, weight_decay=0.0, ema_decay=0.998, steps_per_chunk=500
    )


def _spectrum(x: Rows, ddof: int = 1) -> Float64[np.ndarray, " d"]:
    """Eigenvalues of the data's covariance, falling."""
    covariance = np.atleast_2d(np.cov(x.T, ddof=ddof, dtype=np.float64))
    return np.linalg.eigvalsh(covariance)[::-1].clip(0).copy()


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
        part = xr.merge(pieces, compat="no_conflicts", join="outer")
        counts = {dim: np.arange(size) for dim, size in part.sizes.items() if dim not in part.coords}
        parts.append(part.assign_coords(counts))  # so that sets of different sizes are padded
    names = xr.Variable("set", list(config.names))
    return xr.concat(
        parts, names, join="outer", data_vars="all", coords="minimal", compat="override", fill_value=np.nan
    )


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
