"""Passages of a real text, regenerated, and the words that change in them.

A regenerated passage is aligned with its original, word by word and punctuation mark by punctuation mark
(longest matching blocks, `difflib`). A word is a run of letters, digits and apostrophes; it has *changed* if the
alignment gives it no equal counterpart. In scripts without spaces a word is a whole clause.
"""

import difflib
import itertools
import re

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, Key

from diffusion import AbstractDenoiser, RandomOrder, forward_backward
from hierarchical.files.printable import printable

PIECE = re.compile(r"[\w'’]+|[^\w\s]")
MARKDOWN = re.compile(r"([\\`*_\[\]<>~#|])")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tabs and line ends


def regenerate(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    passages: Int[np.ndarray, "passages length"],
    fraction: float,
    num_trajectories: int,
    tokens_per_step: int,
) -> Int32[np.ndarray, "passages trajectories length"]:
    """Forward-backward: mask each token with probability `fraction`, then reveal `tokens_per_step` at a time."""
    x0 = jnp.asarray(np.repeat(np.asarray(passages, np.int32), num_trajectories, axis=0))
    t = jnp.full(len(x0), fraction, jnp.float32)
    sampler = RandomOrder(tokens_per_step)
    x = forward_backward(key, denoiser, x0, t, sampler=sampler)[0]
    return np.asarray(x, np.int32).reshape(len(passages), num_trajectories, -1)


def fraction_of_words_changed(original: str, regenerated: str) -> float:
    """Words of the original without a counterpart, as a fraction of its words; 0 if it has none."""
    kept, _ = _kept(original, regenerated)
    words = [same for piece, same in zip(PIECE.finditer(original), kept, strict=True) if _is_word(piece.group())]
    return 1 - sum(words) / len(words) if words else 0.0


def mark_changes(original: str, regenerated: str) -> str:
    """The regenerated passage as one line of Markdown; new words are **bold**, up to the next space.

    Words of the original that are only missing leave no mark.
    """
    pieces = marked_words(original, regenerated)
    return " ".join(f"**{escape(words)}**" if new else escape(words) for words, new in pieces)


def marked_words(original: str, regenerated: str) -> list[tuple[str, bool]]:
    """The regenerated passage in runs of words between spaces, each with whether it contains a new word."""
    _, kept = _kept(original, regenerated)
    changed = [piece.start() for piece, same in zip(PIECE.finditer(regenerated), kept, strict=True) if not same]
    words = [
        (word.group(), any(word.start() <= start < word.end() for start in changed))
        for word in re.finditer(r"\S+", regenerated)
    ]
    runs = itertools.groupby(words, key=lambda word: word[1])
    return [(" ".join(word for word, _ in run), new) for new, run in runs]


def escape(text: str) -> str:
    """Text as one line of Markdown that shows it, without characters that a terminal obeys."""
    return MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))


def storable(text: str) -> str:
    """Text that a netCDF file can hold (its strings end at a NUL) and a terminal can print: controls become U+FFFD."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _kept(original: str, regenerated: str) -> tuple[list[bool], list[bool]]:
    """Which pieces of each text have a counterpart in the other."""
    old, new = PIECE.findall(original), PIECE.findall(regenerated)
    kept_old, kept_new = [False] * len(old), [False] * len(new)
    for i, j, size in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        kept_old[i : i + size] = kept_new[j : j + size] = [True] * size
    return kept_old, kept_new


def _is_word(piece: str) -> bool:
    return any(letter.isalnum() for letter in piece)
