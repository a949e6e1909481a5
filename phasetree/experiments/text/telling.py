"""Report of the experiment `text`, and its page of passages."""

import html

import jax.numpy as jnp
import numpy as np
import xarray as xr

from phasetree.drawing.style import with_error
from phasetree.experiment import Finding, Findings, Report, Table, config_of
from phasetree.recipes.language import escape, mark_changes, marked_words
from phasetree.recipes.peaks import peak_words

NAMES = {"real": "text", "shuffled": "shuffled tokens"}


def tell(dataset: xr.Dataset, findings: Findings) -> Report:
    """chi and xi against noise, passages with the changed words bold, closing sentence."""
    about, texts = dataset.attrs, [str(text) for text in dataset.text.values]
    title = (
        f"{escape(about['provenance'])}; {about['size']}, windows of {about['window']}, {about['steps']} training "
        f"steps, {dataset.sizes['datum']} passages, seed {config_of(dataset).seed}. chi and xi (tokens) are of pairs "
        f"of tokens in different words; errors over passages."
    )
    statistics = [(what, text) for text in texts for what in ("chi", "xi")]
    rows: list[tuple[str | Finding, ...]] = []
    for t in map(float, dataset.t.values):
        numbers = (findings["chi-all/real", t], *(findings[what, text, t] for what, text in statistics))
        rows.append((f"{t:g}", f"{findings['changed/real', t].value:.3f}", *numbers))
    header = ("t", "tokens changed", "chi with pairs within words", *(f"{what}, {text}" for what, text in statistics))
    parts = (*([about["note"]] if about["note"] else []), Table(header, tuple(rows)), *_passages(dataset))
    return Report(title, parts, _closing(dataset, findings), {"passages.html": passages_page(dataset)})


def _passages(dataset: xr.Dataset) -> list[str]:
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, 5).round().astype(int)[1:-1])
    original = str(dataset.original.values[0])
    lines = ["A held-out passage and its regenerations (new words are bold):", f"- {escape(original)}"]
    for level in map(int, levels):
        text = str(dataset.regenerated.values[level, 0])
        lines.append(f"- t = {dataset.t.values[level]:g}: {mark_changes(original, text)}")
    return lines


def passages_page(dataset: xr.Dataset) -> str:
    """All kept passages at all noise levels as a page of HTML, changed words marked."""
    style = "body{font:16px/1.5 serif;max-width:45em;margin:2em auto}b{background:#fde3d0}td{padding:.3em}"
    parts = ["<!doctype html><meta charset=utf-8><title>Regenerated passages</title>", f"<style>{style}</style>"]
    parts.append(f"<h1>{html.escape(dataset.attrs['source'])}: passages regenerated</h1>")
    for number, original in enumerate(map(str, dataset.original.values)):
        parts.append(f"<h2>Passage {number + 1}</h2><table><tr><td>original<td>{html.escape(original)}")
        for level, t in enumerate(dataset.t.values):
            pieces = marked_words(original, str(dataset.regenerated.values[level, number]))
            words = [f"<b>{html.escape(words)}</b>" if new else html.escape(words) for words, new in pieces]
            parts.append(f"<tr><td>t&nbsp;=&nbsp;{t:g}<td>{' '.join(words)}")
        parts.append("</table>")
    return "\n".join(parts)


def _closing(dataset: xr.Dataset, findings: Findings) -> str:
    times, parts = dataset.t.values, []
    for text in map(str, dataset.text.values):
        chi = findings.curve("chi", text)
        where = f"at masked fraction {float(times[int(jnp.nanargmax(chi.value))]):g}"
        parts.append(
            f"{NAMES[text]}: chi is largest {where}, {peak_words(findings, ('chi', text), text, 'inside (0, T)')}"
        )
    longest = float(times[int(jnp.nanargmax(findings.curve("xi/real").value))])
    xi = with_error(findings["xi/real", longest].estimate)
    parts.append(f"xi of the text is largest at masked fraction {longest:g}, {xi} tokens")
    return f"{escape(dataset.attrs['source'])}, seed {config_of(dataset).seed}: {'; '.join(parts)}."
