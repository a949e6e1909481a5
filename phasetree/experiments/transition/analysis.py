"""The findings of the experiment `transition`; every transition is read at retention 1/2, levels count from the class.

transition/KIND/LEVEL      noise time; KIND: predicted (exact posterior), exact, trained, empirical (measured), ensemble
close/KIND/LEVEL           the same with many strings near the loss of the class; KIND valid: network, valid strings
shift/KIND/LEVEL           close/KIND minus close/predicted, paired string by string; shift-percent of the class
halfway/predicted/0        the class at (1 + 1/v)/2 instead
validity/T                 share of the network's strings inside the grammar, T a close noise time; validity is the mean
threshold/annealed, threshold/quenched/N, threshold/ensemble, threshold/spread      of infinite depth; of this grammar
                           (number N); mean and standard deviation over grammars of these sizes
excess/N, excess-percent/N network's loss above Bayes, nats per site
look-valid/N/STEP, look-shift/N/STEP    during training
information/LEVEL/T        what the noised string says of a level, fraction of the level's entropy
at-depth/L, slope/L        where class retention crosses 1/2 at depth L, and its slope there
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from diffusion.measure import (
    Estimate,
    among_valid,
    bootstrap,
    halfway,
    independent_rows,
    locate_difference,
    locate_transition,
    mean_estimate,
)
from phasetree.experiment import Finding, Findings, config_of, curve_findings
from phasetree.findings import path

HALF = 0.5
CLOSE = 9  # noise times that are fitted on the close grid, which spans a third of the curves' range


def analyse(dataset: xr.Dataset) -> Findings:
    """All findings, thresholds first."""
    unit = {"masking": "masked fraction", "uniform": "replaced fraction", "gaussian": "OU time", "epsilon": "epsilon"}[
        config_of(dataset).process
    ]
    found = _thresholds(dataset, unit) + _transitions(dataset, unit) + _close(dataset, unit)
    found += _training(dataset) + _information(dataset) + _depths(dataset, unit)
    return Findings(found)


def _thresholds(dataset: xr.Dataset, unit: str) -> list[Finding]:
    annealed = Estimate(jnp.asarray(float(dataset.annealed)), jnp.asarray(float(dataset.annealed_stderr)))
    found = [Finding("threshold/annealed", annealed, "predicted", unit, "rules drawn anew at every node, L infinite")]
    if "quenched" not in dataset:
        return found
    own = zip(dataset.quenched.values, dataset.quenched_stderr.values, strict=True)
    found += [
        Finding(path("threshold/quenched", n), Estimate(jnp.asarray(value), jnp.asarray(error)), "predicted", unit)
        for n, (value, error) in enumerate(own)
    ]
    others = jnp.asarray(dataset.quenched_ensemble.values)
    spread = jnp.std(others, ddof=1)
    of_spread = Estimate(spread, spread / (2 * (len(others) - 1)) ** 0.5)
    return [
        *found,
        Finding("threshold/ensemble", mean_estimate(others), "predicted", unit, "mean over grammars of this depth"),
        Finding("threshold/spread", of_spread, "predicted", unit, "standard deviation between grammars"),
    ]


def _levels(
    key: int, times, rows: Float[Array, "*groups rows times levels"], num_points: int = 6, threshold: float = HALF
) -> Estimate:
    """The transition of every level, with one choice of rows for all."""

    def locate(curve):
        return locate_transition(jax.random.key(key), times, curve, threshold, num_points=num_points)

    return jax.vmap(locate)(jnp.moveaxis(rows, -1, 0))


def _shifts(key: int, times, one: Float[Array, "*groups rows times levels"], other: Float[Array, "..."]) -> Estimate:
    """The transition of every level of the other rows minus that of the first, paired row by row."""

    def locate(a, b):
        return locate_difference(jax.random.key(key), times, a, b, num_points=CLOSE)

    return jax.vmap(locate)(jnp.moveaxis(one, -1, 0), jnp.moveaxis(other, -1, 0))


def _transitions(dataset: xr.Dataset, unit: str) -> list[Finding]:
    seed, times, found = config_of(dataset).seed, jnp.asarray(dataset.t.values), []
    for kind in map(str, dataset.denoiser.values):
        located = _levels(seed, times, _rows(dataset, kind))
        found += _by_level(("transition", kind), located, "predicted" if kind == "predicted" else "measured", unit)
    others = jnp.asarray(dataset.ensemble.transpose("other", "t", "level").values)
    found += _by_level(("transition", "ensemble"), _levels(seed, times, others), "predicted", unit)
    if "mean_field" in dataset:
        curve = jnp.asarray(dataset.mean_field.transpose("t", "level").values)[None]
        found += _by_level(("transition", "mean field"), _levels(seed, times, curve), "predicted", unit)
    if "trained" in dataset.denoiser:
        difference = _rows(dataset, "trained") - _rows(dataset, "exact")
        gap = mean_estimate(independent_rows(difference))
        at = np.unravel_index(int(jnp.argmax(abs(gap.value))), gap.value.shape)
        note = f"at t = {float(times[at[0]]):.3g}, level {at[1]}"
        largest = Estimate(abs(gap.value[at]), gap.stderr[at])
        found.append(Finding("largest-difference", largest, "difference", "retention", note))
    return found


def _by_level(name: tuple, located: Estimate, kind, unit: str) -> list[Finding]:
    return curve_findings(name, np.arange(len(located.value)), located, kind, unit)


def _rows(dataset: xr.Dataset, kind: str) -> Float[Array, "grammar datum times levels"]:
    return jnp.asarray(dataset.retention.sel(denoiser=kind).transpose("grammar", "datum", "t", "level").values, float)


def close_rows(dataset: xr.Dataset, kind: str) -> tuple[Float[Array, "grammar datum times levels"], Array]:
    """Retention near the loss of the class, and which strings are valid."""
    dims = ("grammar", "close_datum", "t_close")
    part = dataset.sel(close_denoiser=kind)
    kept = jnp.asarray(part.close_retention.transpose(*dims, "level").values, float)
    return kept, jnp.asarray(part.close_valid.transpose(*dims).values) > 0


def _close(dataset: xr.Dataset, unit: str) -> list[Finding]:
    config, times = config_of(dataset), jnp.asarray(dataset.t_close.values)
    theory, _ = close_rows(dataset, "predicted")
    found = _by_level(("close", "predicted"), _levels(config.seed, times, theory, CLOSE), "predicted", unit)
    half = _class(_levels(config.seed, times, theory, CLOSE, halfway(config.num_symbols)))
    found.append(Finding("halfway/predicted/0", half, "predicted", unit, "class, at (1 + 1/v)/2"))
    where = found[0].value
    for kind in map(str, dataset.close_denoiser.values):
        if kind == "predicted":
            continue
        kept, valid = close_rows(dataset, kind)
        found += _by_level(("close", kind), _levels(config.seed, times, kept, CLOSE), "measured", unit)
        shifts = _shifts(config.seed, times, theory, kept)
        found += _by_level(("shift", kind), shifts, "difference", unit)
        percent = Estimate(100 * shifts.value[0] / where, 100 * shifts.stderr[0] / where)
        found.append(Finding(path("shift-percent", kind), percent, "difference", "% of the class's transition"))
        if kind == "trained":
            among = jnp.stack([among_valid(k, v) for k, v in zip(kept[..., 0], valid, strict=True)])
            among = jnp.broadcast_to(among[..., None], kept.shape)  # of the class, in the shape of all levels: the
            of_class = _class(_levels(config.seed, times, among, CLOSE))  # programs are compiled already
            found.append(Finding("close/valid/0", of_class, "measured", unit))
            shift = _class(_shifts(config.seed, times, theory, among))
            found.append(Finding("shift/valid/0", shift, "difference", unit, "network, valid strings only"))
            inside = mean_estimate(independent_rows(valid.astype(float)))
            found += curve_findings(("validity",), np.asarray(times), inside, "measured", "1")
            overall = mean_estimate(independent_rows(valid.astype(float)).mean(-1))
            found.append(Finding("validity", overall, "measured", "1", "mean over the close noise times"))
    return found


def _class(levels: Estimate) -> Estimate:
    return Estimate(levels.value[0], levels.stderr[0])


def _training(dataset: xr.Dataset) -> list[Finding]:
    if "excess_loss" not in dataset:
        return []
    found = []
    for n in range(dataset.sizes["grammar"]):
        part = dataset.isel(grammar=n)
        excess = Estimate(jnp.asarray(float(part.excess_loss)), jnp.asarray(float(part.excess_loss_stderr)))
        percent = jax.tree.map(lambda x, floor=float(part.bayes_loss): 100 * x / floor, excess)
        found.append(Finding(path("excess", n), excess, "difference", "nats per site"))
        found.append(Finding(path("excess-percent", n), percent, "difference", "% of the Bayes loss"))
        for name, unit in (("look_valid", "1"), ("look_shift", "class retention")):
            look = Estimate(jnp.asarray(part[name].values), jnp.asarray(part[f"{name}_stderr"].values))
            kind = "measured" if name == "look_valid" else "difference"
            found += curve_findings((name.replace("_", "-"), n), dataset.look.values, look, kind, unit)
    return found


def _information(dataset: xr.Dataset) -> list[Finding]:
    if "prior_entropy" not in dataset:
        return []
    prior = dataset.prior_entropy.isel(grammar=0) if "grammar" in dataset.prior_entropy.dims else dataset.prior_entropy
    rows = dataset.entropy.transpose("grammar", "string", "t", "level").values
    found = []
    for level, whole in enumerate(prior.values):
        left = mean_estimate(independent_rows(jnp.asarray(rows[..., level], float)))
        known = Estimate(1 - left.value / whole, left.stderr / whole)
        found += curve_findings(("information", level), dataset.t.values, known, "predicted", "of the level's entropy")
    return found


def _depths(dataset: xr.Dataset, unit: str) -> list[Finding]:
    if "at_depth" not in dataset:
        return []
    times, key, found = jnp.asarray(dataset.t.values), jax.random.key(config_of(dataset).seed), []

    def slope(curve: Float[Array, " times"]) -> Float[Array, ""]:
        """Of the straight line through the 4 noise times around the crossing, by least squares."""
        count = min(4, len(times))
        start = jnp.clip(jnp.argmax(jnp.cumsum(curve - HALF)) + 1 - count // 2, 0, len(times) - count)
        t, p = (jax.lax.dynamic_slice(x, (start,), (count,)) for x in (times, curve))
        centred = t - jnp.mean(t)
        return -(centred @ p) / (centred @ centred)

    for depth in dataset.depth.values:
        rows = jnp.asarray(dataset.at_depth.sel(depth=depth).transpose("other", "t").values)
        found.append(
            Finding(
                path("at-depth", int(depth)), locate_transition(jax.random.clone(key), times, rows), "predicted", unit
            )
        )
        steep = bootstrap(jax.random.clone(key), rows, slope)
        found.append(Finding(path("slope", int(depth)), steep, "predicted", f"1 per unit of {unit}"))
    return found
