r"""What is asked of a masked-diffusion model of text: the bits it needs, and the words it changes.

**Bits.** A denoiser that fills in the n masked tokens of a window of d tokens gives, averaged over which are masked,

    c_n = mean over masked i of -ln p(x^i | visible tokens)      (nats per token),                               (1)
    -ln p(x) <= d * mean over n = 1 .. d of c_n .                                                                (2)

(2) is the chain rule in a random order, with Jensen's inequality for the average over orders: revealing the tokens one
by one, the cost of the next is c_n when n are left. Divided by ln 2 and by the characters of the window it bounds the
bits per character. Taking n from K equal strata of 1 .. d, a window is seen at every noise level and the mean is quiet.

**Words.** A regenerated passage is aligned with its original, word by word and punctuation mark by punctuation mark
(longest matching blocks, `difflib`). A word is a run of letters, digits and apostrophes; it has *changed* if the
alignment gives it no equal counterpart. In scripts without spaces a word is a whole clause.
"""

import difflib
import itertools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, Key
from tqdm import tqdm

from diffusion import AbstractDenoiser, RandomOrder, forward_backward
from hierarchical.files.printable import printable

PIECE = re.compile(r"[\w'’]+|[^\w\s]")
MARKDOWN = re.compile(r"([\\`*_\[\]<>~#|])")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tabs and line ends


def stratified_numbers(
    key: Key[Array, ""], num_windows: int, length: int, strata: int
) -> Int32[Array, "num_windows strata"]:
    """Numbers of masked tokens: column k is uniform on the k-th of `strata` equal parts of 1 .. length."""
    uniform = jax.random.uniform(key, (num_windows, strata), jnp.float32)  # in [0, 1)
    fraction = (jnp.arange(strata, dtype=jnp.float32)[None] + uniform) / strata
    return jnp.minimum(jnp.floor(length * fraction), length - 1).astype(jnp.int32) + 1


def masked_costs(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    windows: Int[np.ndarray, "num_windows length"],
    num_masked: Int[Array, "num_windows k"],
    batch_size: int = 128,
) -> Float32[np.ndarray, "num_windows k"]:
    """d times equation (1), nats per window, for one random set of `num_masked` tokens each.

    The mean over columns made by `stratified_numbers` estimates the bound (2) of each window.
    """
    numbers = np.asarray(num_masked, np.int32)
    rows = np.repeat(np.asarray(windows, np.int32), numbers.shape[1], axis=0)
    total = len(rows)
    padding = -total % batch_size  # equal batches compile once
    rows = np.pad(rows, ((0, padding), (0, 0)), mode="wrap").reshape(-1, batch_size, rows.shape[1])
    counts = np.pad(numbers.reshape(-1), (0, padding), mode="wrap").reshape(-1, batch_size)
    keys = jax.random.split(key, len(rows))
    batches = tqdm(zip(keys, rows, counts, strict=True), "bits of held-out text", len(rows), unit="batch")
    costs = [_batch_costs(key, denoiser, jnp.asarray(x0), jnp.asarray(n)) for key, x0, n in batches]
    return np.concatenate(costs)[:total].reshape(numbers.shape)


@eqx.filter_jit
def _batch_costs(
    key: Key[Array, ""], denoiser: AbstractDenoiser, x0: Int32[Array, "batch sites"], n: Int32[Array, " batch"]
) -> Float32[Array, " batch"]:
    order = jnp.argsort(jax.random.uniform(key, x0.shape, jnp.float32), -1)
    masked = jnp.argsort(order, -1).astype(n.dtype) < n[:, None]
    fraction = n.astype(jnp.float32) / x0.shape[1]
    log_probs = denoiser(jnp.where(masked, jnp.int32(denoiser.process.num_symbols), x0), fraction)
    nats = -jnp.take_along_axis(log_probs, x0[..., None], -1)[..., 0]
    return (jnp.sum(jnp.where(masked, nats, 0), -1) / fraction).astype(jnp.float32)


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
    """The regenerated passage as one line of Markdown; what is new in it is **bold**, up to the next space.

    Words that were only left out leave no mark.
    """
    pieces = marked_words(original, regenerated)
    return " ".join(f"**{escape(words)}**" if new else escape(words) for words, new in pieces)


def marked_words(original: str, regenerated: str) -> list[tuple[str, bool]]:
    """The regenerated passage in runs of words between spaces, each with whether something in it is new."""
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
