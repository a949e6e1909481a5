"""Report of the experiment `jacobian`."""

import xarray as xr

from diffusion.measure import Estimate
from phasetree.drawing.style import with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.jacobian.analysis import at_transition, shares_at
from phasetree.recipes.peaks import SIGNIFICANT, peak_words
from phasetree.recipes.training import training_lines


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Eigenvalues and levels at every noise time, shares at the transition, the network, closing sentence."""
    about = config_of(dataset)
    title = (
        f"Jacobian of the denoiser, {_sizes(dataset)}, Gaussian noise, {about.num_data} strings of each of "
        f"{about.num_grammars} grammars, seed {about.seed}:"
    )
    names = ["top", "covariance", "held"]
    header = ["t", "belief in the class", "largest eigenvalue", "of the covariance", "level of the subtree"]
    trained = "trained" in dataset.denoiser
    header += ["trained over exact", "asymmetry"] * trained
    table = []
    for t in dataset.t.values.tolist():
        cells = [findings["class", t], *(findings[name, "exact", t] for name in names)]
        cells += [findings["ratio", t], findings["asymmetry", "trained", t]] if trained else []
        table.append((f"{t:.4g}", *cells))
    return Report(title, (Table(tuple(header), tuple(table)), *_lines(dataset, findings)), _closing(dataset, findings))


def _lines(dataset: xr.Dataset, findings: Findings) -> list[str]:
    t = at_transition(dataset, findings)
    shares = shares_at(dataset, t)
    parts = ", ".join(
        f"{with_error(Estimate(shares.value[level], shares.stderr[level]))} (level {level})"
        for level in range(1, dataset.sizes["level"])
    )
    inside = "inside the grid"
    lines = [
        f"- The leading vector at t = {t:.3g}, nearest to the transition, has in the best single subtree {parts}.",
        f"- Exact denoisers: largest {peak_words(findings, ('top', 'exact'), 'exact', inside)}.",
        f"- Their covariances: largest {peak_words(findings, ('covariance', 'exact'), 'covariance', inside)}.",
        f"- Largest residual of a search, over the mean eigenvalue at its time: {findings['residual'].value:.1e}.",
    ]
    if "trained" in dataset.denoiser:
        lines.append(f"- Trained network: largest {peak_words(findings, ('top', 'trained'), 'trained', inside)}.")
    return [*lines, *(f"- {line}" for line in training_lines(findings))]


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    apart, transition = findings["peak-minus-transition"], findings["transition/class"]
    peak, annealed = (with_error(findings[name].estimate) for name in ("peak-time/exact", "threshold/annealed"))
    start = f"The largest eigenvalue of the exact Jacobian peaks at t = {peak}"
    if not apart.resolved:
        return f"{start}; these noise times and data do not resolve where the class is lost ({_sizes(dataset)})."
    at = abs(apart.value) < SIGNIFICANT * apart.stderr
    side = "lower" if apart.value < 0 else "higher"
    verdict = "at the transition within errors" if at else f"at {side} noise than the transition"
    if not findings["peak-significance/exact"].value >= SIGNIFICANT:
        verdict = "which is no significant peak"
    trained = ""
    if "trained" in dataset.denoiser:
        trained = f", that of the network's at {with_error(findings['peak-time/trained'].estimate)}"
    return (
        f"{start}{trained}; the class is lost at {with_error(transition.estimate)} (annealed, infinite depth: "
        f"{annealed}): peak minus transition {with_error(apart.estimate)}, {verdict} ({_sizes(dataset)}, "
        f"seed {config_of(dataset).seed})."
    )


def _sizes(dataset: xr.Dataset) -> str:
    config = config_of(dataset)
    return f"(v, m, s, L) = {config.num_symbols, config.num_synonyms, config.branching, config.depth}"
