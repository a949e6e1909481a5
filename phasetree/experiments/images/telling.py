"""Report of the experiment `images`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.experiments.images.analysis import DECIDED
from phasetree.experiments.images.drawing import STYLES
from phasetree.recipes.peaks import peak_words


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """chi, xi and class retention against noise, closing sentence."""
    about, has_classes = dataset.attrs, "class-lost" in findings
    classes = " There are no classes: the embedding is an auto-encoder's."
    if has_classes:
        right = findings["accuracy"]
        classes = f" The classifier is right on {right.value:.1f} +- {right.stderr:.1f}% of the held-out images."
    title = (
        f"{about['provenance']}, as {about['pixels']}; {about['trained_on']} trained on, "
        f"{dataset.sizes['step']} steps, {dataset.sizes['datum']} held-out images regenerated, seed "
        f"{config_of(dataset).seed}. chi and xi in patches of {about['patch']} x {about['patch']} pixels; errors over "
        f"images.{classes}"
    )
    columns = [("class-kept",)] if has_classes else []
    columns += [("excess",), *((what, kind) for kind in STYLES for what in ("chi", "xi"))]
    rows: list[tuple[str | Finding, ...]] = [
        (f"{t:g}", *(findings[*column, float(t)] for column in columns)) for t in dataset.t.values
    ]
    header = ("t", *(["class kept"] if has_classes else []), "chi above control")
    header += tuple(f"{what}, {STYLES[kind][2]}" for kind in STYLES for what in ("chi", "xi"))
    return Report(title, (Table(header, tuple(rows)),), _closing(dataset, findings))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    parts = [_peak(findings, ("excess",), "excess", "chi of the embedding above its control")]
    parts.append(_peak(findings, ("chi", "pixels"), "pixels", "chi of pixels"))
    if "class-lost" in findings:
        parts.append(f"the class is lost half-way at t = {with_error(findings['class-lost'].estimate)}")
    if "decided" in findings:
        ratios = [
            f"{with_error(ratio.estimate)} times t_S = {with_error(time.estimate)} by the {time.note}"
            for ratio, time in zip(
                findings.select("decided-over-predicted"), findings.select("speciation-time"), strict=True
            )
        ]
        decided = with_error(findings["decided"].estimate)
        parts.append(
            f"of two classes it is kept with probability {DECIDED:.3f} at t = {decided}, {' and '.join(ratios)}"
        )
    return f"{dataset.attrs['source']}, seed {config_of(dataset).seed}: {'; '.join(parts)}."


def _peak(findings: Findings, curve: tuple[str, ...], of: str, name: str) -> str:
    time = with_error(findings["peak-time", of].estimate)
    return f"{name} is largest at t = {time}, {peak_words(findings, curve, of, 'inside the grid')}"
