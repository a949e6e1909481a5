"""Figure, table, marked passages and closing sentence of the experiment `text-demo`."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from diffusion.measure import Estimate, mean_estimate
from phasetree.drawing.style import COLORS, in_style, new_figure, with_error
from phasetree.recipes.language import escape, mark_changes

SHOWN_LEVELS, SHOWN_PASSAGES = 3, 2
DASHES = {"unigram": ":", "bigram": "-.", "trigram": "--"}


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """Bits per character against masked fraction beside the n-grams; fraction of tokens and words changed below."""
    figure, axes = new_figure(rows=2)
    _plot_bits(axes[0], dataset)
    _plot_changes(axes[1], dataset)
    for axis in axes:
        axis.set(xlabel="masked fraction $t$", xlim=(0, 1.02))
    return figure


def _plot_bits(axis, dataset: xr.Dataset) -> None:
    for name in dataset.ngram.values:
        value = float(dataset.ngram_bits.sel(ngram=name))
        axis.axhline(value, color=COLORS["baseline"], linestyle=DASHES[str(name)], linewidth=1)
        axis.annotate(f"{name} {value:.2f}", (0.02, value), xytext=(0, 2), textcoords="offset points", fontsize=7)
    bound = float(dataset.bound)
    axis.axhline(bound, color=COLORS["theory"], linewidth=1)
    label = f"bound {bound:.2f}, mean of $b(t)$"
    axis.annotate(label, (0.02, bound), xytext=(0, 2), textcoords="offset points", fontsize=7)
    _points(axis, dataset.t, dataset.bits, dataset.bits_stderr, "o", COLORS["trained"], None)
    axis.set(ylabel="$b(t)$ (bits per character)", ylim=(0, 1.12 * float(dataset.ngram_bits.max())))


def _plot_changes(axis, dataset: xr.Dataset) -> None:
    axis.plot([0, 1], [0, 1], color=COLORS["theory"], linewidth=1, label="every masked token")
    for kind, marker, color in (("tokens", "o", COLORS["exact"]), ("words", "s", COLORS["trained"])):
        changed = over_passages(dataset[f"{kind}_changed"])
        _points(axis, dataset.t, changed.value, changed.stderr, marker, color, kind)
    axis.set(ylabel="fraction changed", ylim=(0, 1.02))
    axis.legend(loc="lower right", fontsize=7, frameon=False)


def _points(axis, t, value, stderr, marker: str, color: str, label: str | None) -> None:
    face = "white" if marker == "s" else color
    axis.errorbar(
        t,
        value,
        stderr,
        fmt=marker,
        color=color,
        markersize=3,
        linewidth=1,
        capsize=1.5,
        markerfacecolor=face,
        label=label,
    )


def over_passages(changed: xr.DataArray) -> Estimate:
    """Mean over regenerations, at every noise level, with its standard error over passages."""
    return mean_estimate(jnp.asarray(changed.mean("trajectory").transpose("passage", "t").values))


def report(dataset: xr.Dataset) -> str:
    """Markdown: bits per character, changes against noise, passages with the changed words bold, closing sentence."""
    return "\n".join([*_header(dataset), *_bits_table(dataset), *_changes_table(dataset), *_passages(dataset),
                      _closing_sentence(dataset)])  # fmt: skip


def _header(dataset: xr.Dataset) -> list[str]:
    about = dataset.attrs
    sizes = (
        f"{escape(about['provenance'])}; {about['characters']} characters, {about['held_out_characters']} of them held "
        f"out; {about['vocabulary']} byte-pair tokens, windows of {about['window']}, {about['steps']} training steps, "
        f"seed {about['seed']}."
    )
    return [sizes, "", *([about["note"], ""] if about["note"] else [])]


def _bits_table(dataset: xr.Dataset) -> list[str]:
    rows = [
        f"| character {name} | {with_error(_scalar(value, error))} |"
        for name, value, error in zip(dataset.ngram.values, dataset.ngram_bits, dataset.ngram_bits_stderr, strict=True)
    ]
    bound = f"| masked diffusion, at most | {with_error(_scalar(dataset.bound, dataset.bound_stderr))} |"
    return ["| model of held-out text | bits per character |", "|---|---|", *rows, bound, ""]


def _changes_table(dataset: xr.Dataset) -> list[str]:
    columns = [
        Estimate(jnp.asarray(dataset.bits.values), jnp.asarray(dataset.bits_stderr.values)),
        over_passages(dataset.tokens_changed),
        over_passages(dataset.words_changed),
    ]
    lines = [
        "| masked fraction t | bits per character of masked tokens | tokens changed | words changed |",
        "|---|---|---|---|",
    ]
    for row, t in enumerate(dataset.t.values):
        cells = [with_error(_scalar(column.value[row], column.stderr[row])) for column in columns]
        lines.append(f"| {t:g} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _passages(dataset: xr.Dataset) -> list[str]:
    """Some passages and their first regeneration at low, middle and high noise."""
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, SHOWN_LEVELS + 2).round().astype(int)[1:-1])
    passages = np.linspace(0, dataset.sizes["passage"] - 1, SHOWN_PASSAGES + 2).astype(int)[1:-1]
    lines = []
    for passage in map(int, np.unique(passages)):
        original = str(dataset.original.values[passage])
        lines += [f"Held-out passage {passage}, and regenerated (what is new is bold):", "", f"- {escape(original)}"]
        for level in map(int, levels):
            text = str(dataset.regenerated.values[level, passage, 0])
            lines.append(f"- t = {dataset.t.values[level]:g}: {mark_changes(original, text)}")
        lines.append("")
    return lines


def _closing_sentence(dataset: xr.Dataset) -> str:
    about = dataset.attrs
    title = "King James Bible" if about["text"] == "king-james" else escape(about["text"])
    pairs = zip(dataset.ngram.values, dataset.ngram_bits.values, strict=True)
    ngrams = ", ".join(f"{name} {value:.2f}" for name, value in pairs)
    bound = with_error(_scalar(dataset.bound, dataset.bound_stderr))
    level = int(np.argmin(np.abs(dataset.t.values - 0.5)))
    words = over_passages(dataset.words_changed)
    changed = f"{100 * words.value[level]:.0f} +- {100 * words.stderr[level]:.0f}%"
    gap = float(dataset.bound - dataset.ngram_bits[-1])
    verdict = f"{abs(gap):.2f} {'below' if gap < 0 else 'ABOVE'} the trigram"
    return (
        f"{title}, {about['window']}-token windows, seed {about['seed']}: at most {bound} bits per character, "
        f"{verdict} ({ngrams}); at masked fraction {dataset.t.values[level]:g} regeneration changes {changed} of the "
        "words."
    )


def _scalar(value, stderr) -> Estimate:
    return Estimate(jnp.asarray(float(value)), jnp.asarray(float(stderr)))
