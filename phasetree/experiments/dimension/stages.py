"""The stages of the experiment `dimension`, and how they become one dataset.

data-SET                   estimators from data alone
exact-SET, trained-SET     estimators of a denoiser, at the noise level that is chosen, and its curve
train-SET                  the network
"""

import functools
import importlib
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from diffusion import AbstractVectorDenoiser
from diffusion.measure import dimension
from diffusion.measure.dimension import Dimension
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.dimension.config import Config
from phasetree.experiments.dimension.sets import Case, case_of
from phasetree.recipes.training import named_key
from phasetree.recipes.vectors import network_on_vectors

ESTIMATORS = ("normal bundle", "ritz", "flipd", "dsm", "trace")
BASELINES = ("TwoNN", "MLE", "lPCA")
"""Of scikit-dimension."""
EXACT_TRACE = 128  # numbers of a datum up to which `flipd` takes every derivative
PROBES = 64


class Asked(NamedTuple):
    """An estimator's answers at all data, and what they took."""

    found: Dimension
    passes: int
    """Calls of the denoiser, or derivatives, for each datum."""
    seconds: float
    """Of a second call, so without compilation, but for `automatic`, which is called once."""


def plan(config: Config) -> list[Stage]:
    """For each set: data alone, exact denoiser, network."""
    stages = []
    for name in config.names:
        options = {"name": name}
        stages.append(Stage(f"data-{name}", alone, units=1, options=options))
        if name.startswith("sphere") or name in ("line", "union"):
            stages.append(Stage(f"exact-{name}", measured, units=3, options=options))
        if not config.no_train:
            stages.append(Stage(f"train-{name}", trained, units=10, options=options))
            asked = {**options, "network": f"train-{name}"}
            stages.append(Stage(f"trained-{name}", measured, (f"train-{name}",), units=4, options=asked))
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `set`, `denoiser` (exact, trained), `estimator` and `datum` the `dimension`, with the `passes` and the
      `seconds` that it took; beside the `truth` of each datum the `curve` of the mean against the `noise` s of each
      `level`, the noise that was `chosen`, the eigenvalues of a datum's Jacobian in order (`spectrum`), how many data
      each `flag` marks; and from data alone `alone` with its error, for every `source`. NaN where there is none.
    """
    kinds = [kind for kind in ("exact", "trained") if any(f"{kind}-{name}" in results for name in config.names)]
    sets: list[xr.Dataset] = []
    for name in config.names:
        own = [results[f"{kind}-{name}"] if f"{kind}-{name}" in results else xr.Dataset() for kind in kinds]
        parts = [part.expand_dims(denoiser=[kind]) for part, kind in zip(own, kinds, strict=True) if part]
        sets.append(xr.merge([*parts, results[f"data-{name}"]], compat="no_conflicts", join="outer"))
    names = xr.Variable("set", list(config.names))
    dataset = xr.concat(sets, names, join="outer", data_vars="all", fill_value=np.nan)
    if kinds:
        dataset.noise.attrs = {"long_name": "noise s", "units": "of the data"}
    return dataset


def alone(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> xr.Dataset:
    """Estimates from data alone, and their seconds."""
    case = case_of(config, key, name)
    chosen = np.asarray(jax.random.permutation(named_key(key, "alone", 0), len(case.rows)))[: config.num_points]
    rows = np.asarray(case.rows[chosen], np.float64)
    start = time.perf_counter()
    found = dimension.from_data(named_key(key, f"from-data-{name}", 0), rows)
    values, errors, seconds = [float(found.value)], [float(found.stderr)], [time.perf_counter() - start]
    methods = ["from data"]
    for method, estimate in _baselines():
        start = time.perf_counter()
        values.append(estimate(rows))
        seconds.append(time.perf_counter() - start)
        errors.append(np.nan)
        methods.append(method)
    columns = {"alone": values, "alone_stderr": errors, "alone_seconds": seconds}
    return xr.Dataset({column: ("source", numbers) for column, numbers in columns.items()}, {"source": methods})


def _baselines() -> list[tuple[str, Callable[[np.ndarray], float]]]:
    try:
        estimators = importlib.import_module("skdim").id
    except ImportError:
        return []

    def of(method: str) -> Callable[[np.ndarray], float]:
        def estimate(rows: np.ndarray) -> float:
            if rows.shape[1] < 2:
                return np.nan  # they take data of two numbers or more
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own dependencies
                return float(getattr(estimators, method)().fit(rows).dimension_)

        return estimate

    return [(method, of(method)) for method in BASELINES]


def trained(config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str) -> Training:
    """The network of a set."""
    case = case_of(config, key, name)
    return network_on_vectors(key, inputs, name, case.source, case.rows, config.train, width=config.width)


def measured(
    config: Config, key: Key[Array, ""], inputs: Inputs, *, name: str, network: str | None = None
) -> xr.Dataset:
    """Every estimator at the chosen noise, of the exact denoiser or that of `network`."""
    case, kind = case_of(config, key, name), "trained" if network else "exact"
    denoiser = inputs[network].model if network else case.exact
    assert denoiser is not None  # of sets with an exact stage
    same = functools.partial(jax.random.clone, named_key(key, f"{kind}-{name}", 0))  # draws of all estimators
    found, seconds = _timed(lambda: dimension.automatic(same(), denoiser, case.x, num_draws=config.num_draws))
    inputs.advance(inputs.units / 2, f"dimension {float(jnp.mean(found.value)):.3g}")
    answers = [
        *_asked(same, denoiser, case, found.time, config.num_draws),
        Asked(found, 2 * config.num_draws * (len(found.times) + 1), seconds),
    ]
    noise = np.sqrt(np.expm1(2 * np.asarray(found.times, float)))  # of the exploding path
    places = min(case.x.shape[1], 256)
    values = dimension.spectrum(same(), denoiser, case.x[:1], found.time, num_probes=places)[0]
    inputs.advance(inputs.units / 2)
    return xr.Dataset(
        {
            "dimension": (("estimator", "datum"), np.stack([np.asarray(a.found.value, float) for a in answers])),
            "passes": ("estimator", [float(a.passes) for a in answers]),
            "seconds": ("estimator", [a.seconds for a in answers]),
            "truth": ("datum", case.truth),
            "curve": ("level", np.asarray(found.curve.value, float)),
            "curve_stderr": ("level", np.asarray(found.curve.stderr, float)),
            "noise": ("level", noise),
            "chosen": float(np.sqrt(np.expm1(2 * float(found.time)))),
            "spectrum": ("place", np.asarray(values, float)),
            "flagged": ("flag", [float(jnp.sum(marks)) for marks in found.flags.values()]),
        },
        {"estimator": list(ESTIMATORS), "flag": list(found.flags), "level": np.arange(len(noise)),
         "place": 1 + np.arange(len(values)), "datum": np.arange(len(case.x))},
    )  # fmt: skip


def _asked(
    same: Callable[[], Any], denoiser: AbstractVectorDenoiser, case: Case, t: Float[Array, ""], num_draws: int
) -> list[Asked]:
    """All estimators but the last, at one noise time."""
    x, d = case.x, case.x.shape[1]
    probes = min(d, PROBES)
    while dimension.ritz(same(), denoiser, x, t, num_probes=probes).flags["more probes needed"].any():
        probes = min(d, 2 * probes)
    exact = None if d <= EXACT_TRACE else PROBES
    calls: list[tuple[Callable[[], Any], int]] = [
        (lambda: dimension.normal_bundle(same(), denoiser, x, t) if d > 2 else _unknown(len(x)), 2 * d),
        (lambda: dimension.ritz(same(), denoiser, x, t, num_probes=probes), 2 * probes),
        (lambda: dimension.flipd(same(), denoiser, x, t, num_probes=exact, extrapolate=1), 2 * (1 + (exact or d))),
        (lambda: dimension.dsm(same(), denoiser, x, t, num_draws=num_draws, extrapolate=1), 4 * num_draws),
    ]
    answers = []
    for call, passes in calls:
        call()  # compiles
        found, seconds = _timed(call)
        answers.append(Asked(found, passes, seconds))
    return answers


def _unknown(count: int) -> Dimension:
    """Of the normal bundle, which needs three numbers of a datum."""
    nothing = jnp.full(count, jnp.nan)
    return Dimension(nothing, nothing, {})


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = jax.block_until_ready(call())
    return found, time.perf_counter() - start
