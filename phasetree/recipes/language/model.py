"""A real text made ready for a masked-diffusion model, and the model trained on it."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Int32, Key

from diffusion import (
    Finite,
    Masking,
    TokenEmbedding,
    TrainConfig,
    Transformer,
    from_flax,
    train,
)
from hierarchical import (
    HeldOutSplit,
    Sequences,
    Text,
    TokenCorpus,
    TokenWindows,
    hold_out,
    load_sequences,
    load_text,
    tokenize,
    train_tokenizer,
)
from hierarchical.text.sequences import NumberedSymbols
from phasetree.experiment import Inputs, Training

STRIDES_PER_WINDOW = 8  # training windows overlap: each token is seen at several places of a window
MANY_SEQUENCES = 10_000
LONG_TEXT = 1_000_000  # characters; shorter texts hold out a tenth instead of a twentieth


@runtime_checkable
class LanguageConfig(Protocol):
    """The options of text and network that an experiment's configuration must have."""

    @property
    def file(self) -> pathlib.Path | None: ...
    @property
    def corpus(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def train(self) -> TrainConfig: ...
    @property
    def readings(self) -> int: ...


class Prepared(NamedTuple):
    """A text or sequences as tokens and windows; of a text, its split and the characters of each held-out window."""

    text: Text | Sequences
    corpus: TokenCorpus
    windows: TokenWindows
    block: np.ndarray  # of each held-out window, numbered 0, 1, ... without gaps
    split: HeldOutSplit = HeldOutSplit((), ())
    window_texts: tuple[str, ...] = ()


def shortened(config: LanguageConfig, data: Prepared, steps: int) -> str:
    """A sentence that names what a short text made smaller than asked for; empty if nothing."""
    used = {
        "byte-pair tokens": (data.corpus.tokenizer.vocab_size, config.vocabulary),
        "tokens per window": (data.windows.train.shape[1], config.window),
        "training steps": (steps, config.train.steps),
    }
    if isinstance(data.text, Sequences):
        used.pop("byte-pair tokens")
    smaller = [f"{got} {name} instead of {asked}" for name, (got, asked) in used.items() if got < asked]
    return f"The text is short, so less was used than asked for: {', '.join(smaller)}." if smaller else ""


def prepare(config: LanguageConfig) -> Prepared:
    """Load, split, tokenize and cut the text; vocabulary and window shrink for a short one.

    Several stages ask for the same text, so the last text is cached.
    """
    return _prepared(load_text(config.file or config.corpus), config.vocabulary, config.window)


@functools.lru_cache(maxsize=1)
def _prepared(text: Text, vocabulary: int, window: int) -> Prepared:
    length = len(text.characters)
    period = 20 if length >= LONG_TEXT else 10
    split = hold_out(text.characters, block_length=min(4000, length // (8 * period)), period=period)
    most = 256 + sum(map(len, split.train)) // 100
    tokenizer = train_tokenizer(split.train, min(vocabulary, most))
    corpus = tokenize(split, tokenizer)
    second_longest = sorted(map(len, corpus.held_out))[-2]  # two blocks at least must give a window
    windows = corpus.windows(min(window, second_longest))
    texts = _window_texts(split, tokenizer.token_characters[windows.held_out].sum(1), windows)
    return Prepared(text, corpus, windows, _blocks(windows), split, texts)


def prepare_sequences(file: pathlib.Path, window: int) -> Prepared:
    """Load sequences, hold out every tenth, or every twentieth of many, and cut those longer than `window`."""
    sequences = load_sequences(file)
    rows = sequences.tokens
    held_out = np.arange(len(rows)) % (20 if len(rows) >= MANY_SEQUENCES else 10) == 9
    if not held_out.any():
        raise ValueError(f"{sequences.name} has {len(rows)} sequences, one in ten is held out: give at least 10")
    corpus = TokenCorpus(NumberedSymbols(sequences.num_symbols), tuple(rows[~held_out]), tuple(rows[held_out]))
    windows = corpus.windows(min(window, rows.shape[1]))
    return Prepared(sequences, corpus, windows, _blocks(windows))


def _blocks(windows: TokenWindows) -> np.ndarray:
    return np.unique(windows.held_out_block, return_inverse=True)[1]


def text_attributes(config: LanguageConfig, data: Prepared, steps: int) -> dict[str, str | int]:
    """Attributes of a dataset that describe its text or sequences."""
    vocabulary = data.corpus.tokenizer.vocab_size
    about: dict[str, str | int] = {
        "source": data.text.name,
        "provenance": data.text.provenance,
        "sha256": data.text.sha256,
        "vocabulary": vocabulary,
        "window": data.windows.train.shape[1],
        "steps": steps,
        "note": shortened(config, data, steps),
    }
    if isinstance(data.text, Sequences):
        return about | {"size": f"{vocabulary} symbols"}
    characters = len(data.text.characters)
    held_out = sum(map(len, data.window_texts))
    size = f"{characters} characters, {vocabulary} byte-pair tokens"
    return about | {"size": size, "characters": characters, "held_out_characters": held_out}


def _window_texts(split: HeldOutSplit, lengths: np.ndarray, windows: TokenWindows) -> tuple[str, ...]:
    """The characters that begin in each held-out window: bits of its tokens are divided by their number."""
    texts = []
    for block, characters in enumerate(split.held_out):
        ends = np.cumsum(lengths[windows.held_out_block == block])
        texts += [characters[i:j] for i, j in zip([0, *ends], ends, strict=False)]
    return tuple(texts)


def network_on_text(
    network_key: Key[Array, ""], key: Key[Array, ""], inputs: Inputs, config: LanguageConfig, data: Prepared
) -> Training:
    """A transformer that fills in masked tokens of the training windows.

    Its record is the `loss` of every step, nats per token, with `text_attributes`.
    """
    process, length = Masking(data.corpus.tokenizer.vocab_size), data.windows.train.shape[1]
    rngs = nnx.Rngs(network_key)
    embedding = TokenEmbedding(process, config.width, rngs=rngs)
    network = Transformer(embedding, length, process.num_symbols, config.width, config.layers, config.heads, rngs=rngs)
    tokens = sum(map(len, data.corpus.train))
    most = max(config.readings * tokens // (config.train.batch_size * length), 1)
    training = dataclasses.replace(config.train, steps=min(config.train.steps, most))
    strings = Finite(jnp.asarray(_overlapping(data.corpus.train, length)))
    report = inputs.training(training, "loss {:.2f} nats a token")
    denoiser = from_flax(network, process, length)
    result = train(key, denoiser, strings, training, folder=inputs.folder, report=report)
    losses = ("step", np.asarray(result.losses), {"long_name": "training loss", "units": "nats per token"})
    return Training(result.denoiser, xr.Dataset({"loss": losses}, attrs=text_attributes(config, data, training.steps)))


def _overlapping(passages: tuple[Int32[np.ndarray, " _"], ...], length: int) -> Int32[np.ndarray, "n length"]:
    """Windows of the training passages at a stride of an eighth of their length."""
    stride = max(length // STRIDES_PER_WINDOW, 1)
    long_enough = [tokens for tokens in passages if len(tokens) >= length]
    views = [np.lib.stride_tricks.sliding_window_view(tokens, length)[::stride] for tokens in long_enough]
    return np.concatenate(views)
