"""The report of the experiment `symmetry`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.experiments.symmetry.analysis import scores
from phasetree.experiments.symmetry.sets import CASES
from phasetree.report import Cell


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Counts, generators, knobs, and the closing sentence."""
    about = config_of(dataset)
    title = (
        f"{'Data of a file. ' if about.file else ''}{about.num_data} data of each set, seed {about.seed}; "
        f"autoencoders count at tau = {about.tau:g}; symmetries at noise {about.noise:g} (law) and {about.set_noise:g} "
        f"(set) of the standard deviation of a feature."
    )
    names = dataset.set.values.tolist()
    parts: list[Table | str] = [
        "Degrees of freedom, measured (of the law): rank of the covariance, active latents of a dense autoencoder "
        "(embedding), dimension from data alone (intrinsic), rank of the map's Jacobian.",
        Table(("set", "linear", "autoencoder", "dimension", "Jacobian"), tuple(_counts(findings, n) for n in names)),
        "Generators below the threshold, and their largest angle with the true ones: rotations of the law, linear "
        "generators of the set.",
        Table(
            ("set", "score", "rotations", "true", "degrees", "generators", "true", "degrees"),
            tuple(_generators(findings, n, s) for n in names for s in scores(dataset.sel(set=n))),
        ),
    ]
    swept = [name for name in names if ("knob", name, "theory") in findings]
    if swept:
        header = ("set", "knob", "tau", "theory", "linear", "error, %", "dense")
        parts += [
            "The knob at which a latent switches: predicted, of linear networks, and of dense ones over seeds.",
            Table(header, tuple(_knobs(findings, name) for name in swept)),
        ]
    if findings.select("closed-form"):
        parts += [
            "Linear networks and the closed form, the largest relative difference of 1 + relevance: at knob 0; "
            "where the knob is swept, of the latents that it switches, and of the others, which mix where "
            "eigenvalues are nearly equal and many tau.",
            Table(("set", "spectrum", "switching", "others"), tuple(_closed_form(findings, name) for name in names)),
        ]
    return Report(title, tuple(parts), _closing(findings, names, swept, about.seed))


def _whole(findings: Findings, *name: str) -> str:
    found = findings.select(*name)
    return next((f"{finding.value:g}" for finding in found), "-")


def _cell(findings: Findings, *name: str) -> Finding | str:
    found = findings.select(*name)
    return next(iter(found), "-")


def _counts(findings: Findings, name: str) -> tuple[Cell, ...]:
    cells: list[Cell] = [name]
    pairs = (("linear", "linear"), ("autoencoder", "embedding"), ("dimension", "intrinsic"), ("intrinsic", "intrinsic"))
    for kind, true in pairs:
        if ("count", name, kind) not in findings:
            cells.append("-")
            continue
        found = findings["count", name, kind]
        said = f"{found.value:g}" if found.stderr == 0 else with_error(found.estimate)
        of_law = f" ({findings['true', name, true].value:g})" if ("true", name, true) in findings else ""
        cells.append(f"{said}{of_law}")
    return tuple(cells)


def _generators(findings: Findings, name: str, score: str) -> tuple[Cell, ...]:
    cells: list[Cell] = [name, score]
    for what, of in (("rotations", "law"), ("generators", "set")):
        cells += [_whole(findings, what, name, score), _whole(findings, "true", name, what)]
        cells.append(_cell(findings, "angle", name, score, of))
    return tuple(cells)


def _knobs(findings: Findings, name: str) -> tuple[Cell, ...]:
    case = CASES[name]
    cells = (_cell(findings, "knob", name, kind) for kind in ("theory", "linear"))
    error, dense = _cell(findings, "knob-error", name, "linear"), _cell(findings, "knob", name, "dense")
    return name, case.knob, case.tau, *cells, error, dense


def _closed_form(findings: Findings, name: str) -> tuple[Cell, ...]:
    found = (findings.select("closed-form", name, what) for what in ("spectrum", "switching", "others"))
    return name, *(next((f"{finding.value:.1e}" for finding in of), "-") for of in found)


def _closing(findings: Findings, names: list[str], swept: list[str], seed: int) -> str:
    clauses = []
    for name in names:
        if ("count", name, "autoencoder") in findings:
            needed = findings.select("true", name, "embedding")
            of_law = "".join(f" ({true.value:g} are needed)" for true in needed)
            clauses.append(f"{name} {findings['count', name, 'autoencoder'].value:g}{of_law}")
    counts = f"latents that dense autoencoders use: {', '.join(clauses)}" if clauses else ""
    errors = [f"{name} {with_error(findings['knob-error', name, 'linear'].estimate)}%" for name in swept]
    switch = "linear ones switch a latent where theory says, within " + ", ".join(errors) if errors else ""
    parts = [part for part in (counts, switch) if part]
    if not parts:
        found = [f"{n} {with_error(findings['count', n, 'dimension'].estimate)}" for n in names]
        parts = [f"Dimensions from data alone: {', '.join(found)}"]
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]} (seed {seed})."
