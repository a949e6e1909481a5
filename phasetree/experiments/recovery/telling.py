"""The report of the experiment `recovery`."""

import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Findings, Report, Table, config_of
from phasetree.experiments.recovery.analysis import learned_samples


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Agreement by statistic and number of strings, strings needed, rules, trees, closing sentence."""
    if "information" in dataset:
        return _of_file(dataset, findings)
    about = config_of(dataset)
    title = (
        f"Random hierarchies, v = {about.num_symbols}, m = {about.num_synonyms}, s = {about.branching}, "
        f"{about.num_grammars} grammars of each depth, seed {about.seed}."
    )
    depth = int(dataset.depth[min(1, dataset.sizes["depth"] - 1)])
    parts: list[Table | str] = [
        f"Adjusted Rand index of the tuples of leaves, depth {depth}, by number of strings.",
        _agreement(dataset, findings, depth),
        "Strings at which the index of the children of the root crosses 1/2.",
        _strings(dataset, findings),
    ]
    if "rules" in dataset:
        text = "Rules found by clusters and after learning, and the loss of held-out strings over their entropy."
        parts += [text, _rules(dataset, findings)]
    text = "Distances between leaves, and in two embeddings in a plane: scores of the tree."
    parts += [text, _trees(dataset, findings)]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _agreement(dataset: xr.Dataset, findings: Findings, depth: int) -> Table:
    names, samples = dataset.statistic.values.tolist(), dataset.samples.values.tolist()
    rows = [(name, *(findings["agreement", name, depth, depth - 1, n] for n in samples)) for name in names]
    return Table(("statistic", *map(str, samples)), tuple(rows))


def _strings(dataset: xr.Dataset, findings: Findings) -> Table:
    depths = dataset.depth.values.tolist()
    rows = [
        (name, *(findings["strings", name, depth] for depth in depths), findings["growth", name])
        for name in (*dataset.statistic.values.tolist(), "predicted")
    ]
    rows[-1] = ("n m^L", *rows[-1][1:])
    return Table(("statistic", *(f"L = {depth}" for depth in depths), "growth"), tuple(rows))


def _rules(dataset: xr.Dataset, findings: Findings) -> Table:
    levels = [level for level in dataset.level.values.tolist() if findings.select("rules", "learned", level)]
    header = ("strings", *(f"clusters, level {level}" for level in levels[1:]), *(f"level {level}" for level in levels))
    rows = []
    for n in learned_samples(dataset, findings):
        clusters = (findings["rules", "clusters", level, n] for level in levels[1:])
        rows.append((n, *clusters, *(findings["rules", "learned", level, n] for level in levels), findings["loss", n]))
    return Table((*header, "loss / entropy"), tuple(rows))


def _trees(dataset: xr.Dataset, findings: Findings) -> Table:
    rows = []
    for depth in dataset.depth.values.tolist():
        for space in dataset.space.values.tolist():
            cells = (findings["score", space, kind, depth] for kind in dataset.kind.values.tolist())
            rows.append((f"{depth}", space, *cells, findings["stress", space, depth]))
    header = ("depth", "distances", "cophenetic correlation", "ultrametric violation", "triplets", "stress")
    return Table(header, tuple(rows))


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    about, depths = config_of(dataset), dataset.depth.values.tolist()
    clauses = []
    if len(depths) > 1:
        told = [f"{name} {with_error(findings['growth', name].estimate)}" for name in dataset.statistic.values.tolist()]
        clauses.append(
            f"From depth {depths[0]} to {depths[-1]} the strings that are needed grow by {', '.join(told)} "
            f"(n m^L: {findings['growth', 'predicted'].value:g})"
        )
    if "rules" in dataset:
        depth = next(d for d in depths if d > 2)
        level = range(1, depth)
        complete = [
            n for n in learned_samples(dataset, findings)
            if all(findings["rules", "learned", k, n].value == 1 for k in (0, *level))
        ]  # fmt: skip
        scale = int(findings["strings", "predicted", depth].value)
        if complete:
            over = 100 * (findings["loss", complete[0]].value - 1)
            clauses.append(
                f"all rules of all {about.num_grammars} grammars of depth {depth} are learned from {complete[0]} "
                f"strings (n m^L = {scale}), with a loss {over:.1f}% above the entropy"
            )
        else:
            clauses.append(
                f"not all rules of depth {depth} are learned from {learned_samples(dataset, findings)[-1]} strings"
            )
    if not clauses:
        name = str(dataset.statistic.values[0])
        clauses.append(f"{name} need {with_error(findings['strings', name, depths[0]].estimate)} strings")
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]} (seed {about.seed})."


def _of_file(dataset: xr.Dataset, findings: Findings) -> Report:
    about, levels = config_of(dataset), dataset.level.values.tolist()
    title = (
        f"{int(dataset.windows)} windows of {about.branching}^{about.depths[0]} tokens, seed {about.seed}: levels "
        f"found in one half, asked in the other."
    )
    tuples = dict(zip(dataset.step.values.tolist(), dataset.tuples.values.tolist(), strict=True))
    rows = []
    for level in levels:
        pair = (findings["information", source, level] for source in ("found", "shuffled"))
        rows.append((f"{level}", tuples.get(level, "-"), findings["known", level], *pair))
    header = ("level", "different tuples below", "windows known", "information of a sibling, nats", "shuffled")
    table = Table(header, tuple(rows))
    shuffled = [findings["information", "shuffled", level] for level in levels]
    most = max((abs(f.value) / f.stderr for f in shuffled if f.resolved and f.stderr > 0), default=float("nan"))
    told = [f"level {level} {with_error(findings['information', 'found', level].estimate)}" for level in levels]
    closing = (
        f"A hidden symbol tells of its sibling, in nats: {', '.join(told)} (shuffled ones: at most {most:.1f} standard "
        f"errors from 0; seed {about.seed})."
    )
    return Report(title, (f"The last level, {levels[-1]}, is that of the tokens.", table), closing)
