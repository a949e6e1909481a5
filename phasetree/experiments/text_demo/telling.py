"""Report of the experiment `text-demo`."""

import numpy as np
import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.recipes.language import escape, mark_changes

SHOWN_LEVELS, SHOWN_PASSAGES = 3, 2


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """Bits per character, changes against noise, passages with the changed words bold, closing sentence."""
    about = dataset.attrs
    title = (
        f"{escape(about['provenance'])}; {about['characters']} characters, {about['held_out_characters']} of them held "
        f"out; {about['vocabulary']} byte-pair tokens, windows of {about['window']}, {about['steps']} training steps, "
        f"seed {config_of(dataset).seed}."
    )
    bits: list[tuple[str | Finding, ...]] = [
        (f"character {name}", findings["bits", str(name)]) for name in dataset.ngram.values
    ]
    bits.append(("masked diffusion, at most", findings["bits/bound"]))
    names = ("masked-bits", "tokens-changed", "words-changed")
    changes: list[tuple[str | Finding, ...]] = [
        (f"{t:g}", *(findings[name, float(t)] for name in names)) for t in dataset.t.values
    ]
    parts = [
        *([about["note"]] if about["note"] else []),
        Table(("model of held-out text", "bits per character"), tuple(bits)),
        Table(
            ("masked fraction t", "bits per character of masked tokens", "tokens changed", "words changed"),
            tuple(changes),
        ),
        *_passages(dataset),
    ]
    return Report(title, tuple(parts), _closing(dataset, findings))


def _passages(dataset: xr.Dataset) -> list[str]:
    """Some passages and their first regeneration at low, middle and high noise."""
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, SHOWN_LEVELS + 2).round().astype(int)[1:-1])
    passages = np.linspace(0, dataset.sizes["datum"] - 1, SHOWN_PASSAGES + 2).astype(int)[1:-1]
    lines = []
    for passage in map(int, np.unique(passages)):
        original = str(dataset.original.values[passage])
        lines += [f"Held-out passage {passage} and its regenerations (new words are bold):", f"- {escape(original)}"]
        for level in map(int, levels):
            text = str(dataset.regenerated.values[level, passage, 0])
            lines.append(f"- t = {dataset.t.values[level]:g}: {mark_changes(original, text)}")
    return lines


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    about = dataset.attrs
    title = "King James Bible" if about["source"] == "king-james" else escape(about["source"])
    ngrams = ", ".join(f"{name} {findings['bits', str(name)].value:.2f}" for name in dataset.ngram.values)
    bound, gap = with_error(findings["bits/bound"].estimate), findings["gap/bound-trigram"].value
    t = float(dataset.t[int(np.argmin(np.abs(dataset.t.values - 0.5)))])
    words = findings["words-changed", t]
    changed = f"{100 * words.value:.0f} +- {100 * words.stderr:.0f}%"
    verdict = f"{abs(gap):.2f} {'below' if gap < 0 else 'ABOVE'} the trigram"
    return (
        f"{title}, {about['window']}-token windows, seed {config_of(dataset).seed}: at most {bound} bits per "
        f"character, {verdict} ({ngrams}); at masked fraction {t:g} regeneration changes {changed} of the words."
    )
