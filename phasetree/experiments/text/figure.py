"""Figure, table, marked passages and closing sentence of the experiment `text`."""

import html

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from diffusion.measure import Estimate, LineGeometry, Peak, bootstrap, correlation, correlation_length, locate_peak
from diffusion.measure import susceptibility as chi_of
from phasetree.drawing.style import COLORS, at, in_style, new_page, peak_words, with_error
from phasetree.recipes.language import escape, mark_changes, marked_words

STYLES = {"real": ("o", COLORS["trained"]), "shuffled": ("s", COLORS["baseline"])}


def across_words(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid distances"]:
    """S(0), and S(r) of pairs across words: of all pairs (first) without those within words (second)."""
    every, within = sums[..., 0, :], sums[..., 1, :]
    return every - within.at[..., 0].set(0)


def chi_across(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return chi_of(across_words(sums))


def xi_across(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return correlation_length(across_words(sums), LineGeometry(sums.shape[-1]))


def chi_all(sums: Float[Array, "*grid 2 distances"]) -> Float[Array, "*grid"]:
    return chi_of(sums[..., 0, :])


def curve(dataset: xr.Dataset, text: str, statistic) -> Estimate:
    """A function of the mean sums at every noise level, with its bootstrap error over passages."""
    return jax.jit(lambda rows: bootstrap(jax.random.key(0), rows, statistic))(_rows(dataset, text))


def peak(dataset: xr.Dataset, text: str) -> Peak:
    """The peak of chi of pairs across words."""
    locate = jax.jit(lambda rows: locate_peak(jax.random.key(1), _times(dataset), rows, chi_across))
    return locate(_rows(dataset, text))


def _rows(dataset: xr.Dataset, text: str) -> Float[Array, "passages t 2 distances"]:
    part = dataset.sel(text=text)
    both = np.stack([part[name].transpose("passage", "t", "distance").values for name in ("sums", "within")], 2)
    return jnp.asarray(both[~np.isnan(both).any((1, 2, 3))], float)


def _times(dataset: xr.Dataset) -> Float[Array, " t"]:
    return jnp.asarray(dataset.t.values, float)


@in_style
def plot(dataset: xr.Dataset) -> Figure:
    """chi and xi of pairs across words against noise; C(r) of the same at the peak and around it."""
    figure, ((left, middle, right),) = new_page(1, 3)
    for text in map(str, dataset.text.values):
        marker, color = STYLES[text]
        label = "text" if text == "real" else "tokens shuffled"
        for axis, statistic in ((left, chi_across), (middle, xi_across)):
            found = curve(dataset, text, statistic)
            axis.errorbar(
                dataset.t, found.value, found.stderr, fmt=marker, color=color, markersize=3, linewidth=0.7, label=label
            )
        if text == "real":
            every = curve(dataset, text, chi_all)
            left.plot(
                dataset.t, every.value, color="0.6", linewidth=0.8, linestyle=":", label="with pairs within words"
            )
    left.axhline(1, color="0.8", linewidth=0.6, zorder=0)
    left.set(xlabel="masked fraction $t$", ylabel=r"susceptibility $\chi$")
    middle.set(xlabel="masked fraction $t$", ylabel=r"correlation length $\xi$ (tokens)")
    left.legend(fontsize=5.5)
    _plot_decay(right, dataset)
    return figure


def _plot_decay(axis, dataset: xr.Dataset) -> None:
    top = int(jnp.nanargmax(curve(dataset, "real", chi_across).value))
    geometry, last = LineGeometry(dataset.sizes["distance"]), dataset.sizes["t"] - 1
    for index, shade in ((top // 2, 0.35), (top, 1.0), ((top + last) // 2, 0.6)):
        found = curve(dataset, "real", lambda sums, i=index: correlation(across_words(sums[i]), geometry))
        shown = slice(1, geometry.num_sites // 2)
        axis.errorbar(
            geometry.distances[shown],
            found.value[shown],
            found.stderr[shown],
            fmt="o-",
            color=COLORS["trained"],
            alpha=shade,
            markersize=2,
            linewidth=0.6,
            label=f"t = {float(dataset.t[index]):g}",
        )
    axis.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axis.set(xscale="log", xlabel="distance $r$ (tokens)", ylabel="$C(r)/C(0)$, across words")
    axis.legend(fontsize=6)


def report(dataset: xr.Dataset) -> str:
    """Markdown: chi and xi against noise, passages with the changed words bold, closing sentence."""
    about = dataset.attrs
    texts = [str(text) for text in dataset.text.values]
    titles = [f"{name}, {text}" for text in texts for name in ("chi", "xi")]
    lines = [
        f"{escape(about['provenance'])}; {about['characters']} characters, {about['vocabulary']} byte-pair tokens, "
        f"windows of {about['window']}, {about['steps']} training steps, {dataset.sizes['passage']} passages, seed "
        f"{about['seed']}. chi and xi (tokens) are of pairs of tokens in different words; errors over passages.",
        "",
        *([about["note"], ""] if about["note"] else []),
        "| t | tokens changed | chi with pairs within words | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 3) + "|",
    ]
    every = curve(dataset, "real", chi_all)
    columns = [curve(dataset, text, statistic) for text in texts for statistic in (chi_across, xi_across)]
    changed = dataset.fraction.sel(text="real").mean("passage").values
    for i, t in enumerate(dataset.t.values):
        cells = [with_error(at(column, i)) for column in (every, *columns)]
        lines.append(f"| {t:g} | {changed[i]:.3f} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_passages(dataset), _closing_sentence(dataset)])


def _passages(dataset: xr.Dataset) -> list[str]:
    levels = np.unique(np.linspace(0, dataset.sizes["t"] - 1, 5).round().astype(int)[1:-1])
    original = str(dataset.original.values[0])
    lines = ["A held-out passage, and regenerated (what is new is bold):", "", f"- {escape(original)}"]
    for level in map(int, levels):
        text = str(dataset.regenerated.values[level, 0])
        lines.append(f"- t = {dataset.t.values[level]:g}: {mark_changes(original, text)}")
    return [*lines, ""]


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


def _closing_sentence(dataset: xr.Dataset) -> str:
    parts = [_peak_words(dataset, text) for text in map(str, dataset.text.values)]
    xi = curve(dataset, "real", xi_across)
    longest = int(jnp.nanargmax(xi.value))
    where = f"at masked fraction {float(dataset.t[longest]):g}"
    parts.append(f"xi of the text is largest {where}, {with_error(at(xi, longest))} tokens")
    return f"{escape(dataset.attrs['source'])}, seed {dataset.attrs['seed']}: {'; '.join(parts)}."


def _peak_words(dataset: xr.Dataset, text: str) -> str:
    chi, found = curve(dataset, text, chi_across), peak(dataset, text)
    name = "text" if text == "real" else "shuffled tokens"
    where = f"at masked fraction {float(dataset.t[int(jnp.nanargmax(chi.value))]):g}"
    return f"{name}: chi is largest {where}, {peak_words(chi, found, 'inside (0, T)')}"
