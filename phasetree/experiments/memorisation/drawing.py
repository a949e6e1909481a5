"""Figure and report of the experiment `memorisation`."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasetree.drawing import curves
from phasetree.drawing.style import PALETTE, in_style, new_page, with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.memorisation.analysis import best
from phasetree.experiments.memorisation.stages import CORNERS, COUNT, PLACES

SHAPES = ("o", "s", "^", "D", "v", "P")


@in_style
def draw(dataset: xr.Dataset, findings: Findings) -> Figure:
    """The landscape, exact and trained; AUC against the share; AUC on images against noise, for each group."""
    figure, [[exact, trained, shares], [members, planted, rates]] = new_page(2, 3)
    _landscape(figure, exact, dataset, "exact")
    _landscape(figure, trained, dataset, "trained")
    _shares(shares, dataset, findings)
    for axis, group, title in ((members, "members", "seen once"), (planted, "planted", "planted")):
        _auc(axis, dataset, findings, group, title)
    _rates(rates, dataset, findings)
    shares.legend(loc="center right", fontsize=5)
    return figure


def _landscape(figure: Figure, axis: Axes, dataset: xr.Dataset, kind: str) -> None:
    values = dataset.landscape.sel(denoiser=kind)
    image = axis.pcolormesh(dataset.x, dataset.y, values, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True)
    axis.plot(*CORNERS.T, "k+", markersize=4)
    axis.set(title=f"inward 1-Laplace, {kind}", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    figure.colorbar(image, ax=axis, shrink=0.8)


def _shares(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    noise = float(dataset.share_noise.values[0])
    places = np.arange(dataset.sizes["share"])
    for detector, style in _styles(dataset):
        table = [findings["share-auc", detector, share, noise].estimate for share in dataset.share.values.tolist()]
        axis.errorbar(places, [float(e.value) for e in table], [float(e.stderr) for e in table], **style)
    axis.set_xticks(places, [f"{share:g}" for share in dataset.share.values])
    axis.set(title=f"mixed scores, $s$ = {noise:g}", xlabel="share of the set's own score", ylabel="AUC")
    curves.threshold(axis, 0.5)


def _auc(axis: Axes, dataset: xr.Dataset, findings: Findings, group: str, title: str) -> None:
    for detector, style in _styles(dataset):
        found = findings.curve("auc", group, detector)
        axis.errorbar(dataset.noise, np.asarray(found.value), np.asarray(found.stderr), **style)
    axis.set(title=f"{noun(dataset)} {title}", xlabel="noise $s$", ylabel="AUC", xscale="log", ylim=(0.4, 1.03))
    _ticks(axis, dataset)
    curves.threshold(axis, 0.5)


def _rates(axis: Axes, dataset: xr.Dataset, findings: Findings) -> None:
    for detector, style in _styles(dataset):
        found = findings.curve("found", "members", detector)
        axis.errorbar(dataset.noise, np.asarray(found.value), np.asarray(found.stderr), **style)
    axis.set(
        title=f"{noun(dataset)} seen once",
        xlabel="noise $s$",
        ylabel="found at 1% false",
        xscale="log",
        ylim=(-0.03, 1.03),
    )
    _ticks(axis, dataset)


def _ticks(axis: Axes, dataset: xr.Dataset) -> None:
    noises = dataset.noise.values.tolist()
    axis.set_xticks(noises, [f"{noise:g}" for noise in noises])
    axis.minorticks_off()


def _styles(dataset: xr.Dataset):
    for number, detector in enumerate(dataset.detector.values.tolist()):
        color, marker = PALETTE[number % len(PALETTE)], SHAPES[number % len(SHAPES)]
        yield detector, {"color": color, "fmt": f"-{marker}", "markersize": 2.5, "linewidth": 0.7, "label": detector}


def noun(dataset: xr.Dataset) -> str:
    """What is remembered: images, or the rows of a file."""
    return "images" if config_of(dataset).file is None else "rows"


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Modes against quadrature, shares, images, closing sentence."""
    about = config_of(dataset)
    title = (
        f"Three modes, side 5, covariance .1, circles of radius 1. Mixed scores: a Gaussian on 16 of 64 dimensions, "
        f"{COUNT} members, {COUNT} others, {about.num_repeats} repeats. {noun(dataset).capitalize()}: "
        f"{about.file or about.images}, {about.num_train} "
        f"seen, {about.num_planted} of them {about.copies} times, as many not seen; network of width {about.width}, "
        f"{about.train.steps} steps; seed {about.seed}."
    )
    kinds, places = dataset.denoiser.values.tolist(), list(PLACES)
    fluxes = tuple(
        (place, findings["flux", place], *(findings["flux", kind, place] for kind in kinds)) for place in places
    )
    noises = dataset.share_noise.values.tolist()
    shares = tuple(
        (detector, share, *(findings["share-auc", detector, share, noise] for noise in noises))
        for detector in dataset.detector.values.tolist()
        for share in dataset.share.values.tolist()
    )
    parts = (
        Table(("place", "quadrature", *kinds), fluxes),
        "AUC on mixed scores.",
        Table(("detector", "share", *(f"s = {noise:g}" for noise in noises)), shares),
        *_image_tables(dataset, findings),
    )
    return Report(title, parts, _closing(dataset, findings))


def _image_tables(dataset: xr.Dataset, findings: Findings) -> list[Table | str]:
    parts: list[Table | str] = []
    noises = dataset.noise.values.tolist()
    header = ("detector", *(f"s = {noise:g}" for noise in noises))
    names = {"members": "seen once", "planted": "planted several times"}
    for quantity, what in (("auc", "AUC"), ("found", "Found at 1% of false positives")):
        for group, said in names.items():
            rows = tuple(
                (detector, *(findings[quantity, group, detector, noise] for noise in noises))
                for detector in dataset.detector.values.tolist()
            )
            parts += [f"{what}, {noun(dataset)} {said}.", Table(header, rows)]
    return parts


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    clauses = []
    for group, said in (("members", "seen once"), ("planted", "planted")):
        detector, noise = best(dataset, group)
        clauses.append(f"{said} by {detector} at s = {noise:g}, AUC {with_error(findings['best', group].estimate)}")
    mode, seed = with_error(findings["flux-difference", "trained", "mode"].estimate), config_of(dataset).seed
    tried = f"{dataset.sizes['detector']} detectors and {dataset.sizes['noise']} noises"
    what = noun(dataset)
    return (
        f"{what.capitalize()} are told from {what} not seen: {'; '.join(clauses)}; the largest of {tried}. At a mode "
        f"the trained 1-Laplace is off by {mode} (seed {seed})."
    )
