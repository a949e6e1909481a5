"""The stages of the experiment `text-demo`, each kept in the folder when done, and how they become one dataset."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Int32, Key
from tqdm import tqdm

from diffusion import Masking, NetworkDenoiser, TokenEmbedding, TrainingSet, Transformer, from_flax, train
from hierarchical import (
    BitsPerCharacter,
    HeldOutSplit,
    Text,
    TokenCorpus,
    TokenWindows,
    bits_per_character,
    fit_ngram,
    hold_out,
    load_text,
    tokenize,
    train_tokenizer,
)
from phasetree.experiments.text_demo.config import TextDemoConfig
from phasetree.experiments.text_demo.passages import (
    fraction_of_words_changed,
    masked_costs,
    regenerate,
    stratified_numbers,
)
from phasetree.results import ResultFolder

NGRAMS = ("unigram", "bigram", "trigram")
STRIDES_PER_WINDOW = 8  # training windows overlap: each token is seen at several places of a window
LONG_TEXT = 1_000_000  # characters; shorter texts hold out a tenth instead of a twentieth


class Prepared(NamedTuple):
    """A text, ready: its split, tokens, windows, and the characters of each held-out window."""

    text: Text
    split: HeldOutSplit
    corpus: TokenCorpus
    windows: TokenWindows
    window_texts: list[str]
    block: np.ndarray  # 0, 1, ... without gaps, of each held-out window


def run(config: TextDemoConfig, folder: ResultFolder) -> xr.Dataset:
    """Train, evaluate, regenerate; resumes from what `folder` holds.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there is no such text, see `load_text`.
      FolderError: if the text has changed since the folder was made.
    """
    network_key, train_key, number_key, mask_key, regeneration_key = jax.random.split(jax.random.key(config.seed), 5)
    data = prepare(config)
    denoiser, losses = _trained(network_key, train_key, config, data, folder)
    baselines = folder.stage("baselines", lambda: _baselines(data))
    bits = folder.stage("bits", lambda: _bits(number_key, mask_key, config, data, denoiser))
    level_keys = jax.random.split(regeneration_key, len(config.noise_levels))
    levels = [
        folder.stage(f"regenerated-{t:g}", lambda t=t, key=key: _regenerated(key, config, data, denoiser, t))
        for t, key in zip(tqdm(config.noise_levels, "regenerating", unit="level"), level_keys, strict=True)
    ]
    changes = xr.concat([level.drop_vars("original") for level in levels], "t")
    dataset = xr.merge([baselines, bits, changes, levels[0].original, losses]).assign_coords(
        t=list(config.noise_levels)
    )
    dataset.t.attrs = {"long_name": "masked fraction", "units": "1"}
    return dataset.assign_attrs(
        config=folder.config,
        text=data.text.name,
        provenance=data.text.provenance,
        sha256=data.text.sha256,
        seed=config.seed,
        characters=len(data.text.characters),
        held_out_characters=sum(map(len, data.window_texts)),
        vocabulary=data.corpus.tokenizer.vocab_size,
        window=data.windows.train.shape[1],
        steps=losses.sizes["step"],
        note=_note(config, data, losses.sizes["step"]),
    )


def _note(config: TextDemoConfig, data: Prepared, steps: int) -> str:
    """What a short text made smaller than asked for; empty if nothing."""
    used = {
        "byte-pair tokens": (data.corpus.tokenizer.vocab_size, config.vocabulary),
        "tokens per window": (data.windows.train.shape[1], config.window),
        "training steps": (steps, config.train.steps),
    }
    smaller = [f"{got} {name} instead of {asked}" for name, (got, asked) in used.items() if got < asked]
    return f"The text is short, so less was used than asked for: {', '.join(smaller)}." if smaller else ""


def prepare(config: TextDemoConfig) -> Prepared:
    """Load, split, tokenize and cut the text; vocabulary and window shrink for a short one."""
    text = load_text(config.file or config.corpus)
    length = len(text.characters)
    period = 20 if length >= LONG_TEXT else 10
    split = hold_out(text.characters, block_length=min(4000, length // (8 * period)), period=period)
    vocabulary = min(config.vocabulary, 256 + sum(map(len, split.train)) // 100)
    corpus = tokenize(split, train_tokenizer(split.train, vocabulary))
    second_longest = sorted(map(len, corpus.held_out))[-2]  # two blocks at least must give a window
    windows = corpus.windows(min(config.window, second_longest))
    block = np.unique(windows.held_out_block, return_inverse=True)[1]
    return Prepared(text, split, corpus, windows, _window_texts(split, corpus, windows), block)


def _window_texts(split: HeldOutSplit, corpus: TokenCorpus, windows: TokenWindows) -> list[str]:
    """The characters that begin in each held-out window: the ones its tokens are charged for."""
    lengths = corpus.tokenizer.token_characters[windows.held_out].sum(1)
    texts = []
    for block, characters in enumerate(split.held_out):
        ends = np.cumsum(lengths[windows.held_out_block == block])
        texts += [characters[i:j] for i, j in zip([0, *ends], ends, strict=False)]
    return texts


def _trained(
    network_key: Key[Array, ""], key: Key[Array, ""], config: TextDemoConfig, data: Prepared, folder: ResultFolder
) -> tuple[NetworkDenoiser, xr.Dataset]:
    process, length = Masking(data.corpus.tokenizer.vocab_size), data.windows.train.shape[1]
    rngs = nnx.Rngs(network_key)
    embedding = TokenEmbedding(process, config.width, rngs=rngs)
    network = Transformer(embedding, length, process.num_symbols, config.width, config.layers, config.heads, rngs=rngs)
    tokens = sum(map(len, data.corpus.train))
    most = max(config.readings * tokens // (config.train.batch_size * length), 1)
    training = dataclasses.replace(config.train, steps=min(config.train.steps, most))
    strings = TrainingSet(jnp.asarray(_overlapping(data.corpus.train, length)))
    identity = {"sha256": data.text.sha256, "vocabulary": process.num_symbols, "window": length, "heads": config.heads}
    with tqdm(desc=f"training on {data.text.name}", total=training.steps, unit="step") as bar:

        def report(step: int, loss: float) -> None:
            if not bar.n:  # the first chunk, perhaps of a resumed run
                bar.initial = bar.n = bar.last_print_n = step - min(step, training.steps_per_chunk)
            bar.set_postfix_str(f"loss {loss:.2f} nats a token", refresh=False)
            bar.update(step - bar.n)

        denoiser = from_flax(network, process, length)
        checkpoints = folder.path / "checkpoints"
        result = train(key, denoiser, strings, training, folder=checkpoints, fingerprint=identity, report=report)
        if not bar.n:  # it was trained already
            bar.initial = bar.n = training.steps
    losses = {"loss": ("step", np.asarray(result.losses), {"long_name": "training loss", "units": "nats per token"})}
    return result.denoiser, xr.Dataset(losses)


def _overlapping(passages: tuple[Int32[np.ndarray, " _"], ...], length: int) -> Int32[np.ndarray, "n length"]:
    """Windows of the training passages at a stride of an eighth of their length."""
    stride = max(length // STRIDES_PER_WINDOW, 1)
    long_enough = [tokens for tokens in passages if len(tokens) >= length]
    views = [np.lib.stride_tricks.sliding_window_view(tokens, length)[::stride] for tokens in long_enough]
    return np.concatenate(views)


def _baselines(data: Prepared) -> xr.Dataset:
    """Character models of orders 1, 2, 3 on the characters of the held-out windows."""
    models = [fit_ngram(data.split.train, order) for order in (1, 2, 3)]
    costs = [_over_blocks(np.array([-m.log_prob(text).sum() for text in data.window_texts]), data) for m in models]
    return _bits_dataset("ngram", "ngram_bits", costs, "n-gram model").assign_coords(ngram=list(NGRAMS))


def _bits(
    number_key: Key[Array, ""],
    mask_key: Key[Array, ""],
    config: TextDemoConfig,
    data: Prepared,
    denoiser: NetworkDenoiser,
) -> xr.Dataset:
    """The bound, and b(t) at the noise levels."""
    windows = data.windows.held_out
    numbers = stratified_numbers(number_key, len(windows), windows.shape[1], config.strata)
    levels = jnp.asarray([max(round(t * windows.shape[1]), 1) for t in config.noise_levels], jnp.int32)
    fixed = jnp.broadcast_to(levels[None], (len(windows), len(levels)))
    costs = masked_costs(mask_key, denoiser, windows, jnp.concatenate([numbers, fixed], 1)).astype(np.float64)
    bound = _over_blocks(costs[:, : config.strata].mean(1), data)
    curve = [_over_blocks(cost, data) for cost in costs[:, config.strata :].T]
    dataset = _bits_dataset("t", "bits", curve, "bits per character of masked tokens")
    return dataset.assign(bound=((), bound.value, _units("bound on bits per character")), bound_stderr=bound.stderr)


def _over_blocks(nats: np.ndarray, data: Prepared) -> BitsPerCharacter:
    """Bits per character of costs of windows, with the error over held-out blocks."""
    characters = np.bincount(data.block, [len(text) for text in data.window_texts]).astype(np.int64)
    return bits_per_character(np.bincount(data.block, nats), characters)


def _bits_dataset(dim: str, name: str, costs: list[BitsPerCharacter], long_name: str) -> xr.Dataset:
    values, errors = [cost.value for cost in costs], [cost.stderr for cost in costs]
    return xr.Dataset({name: (dim, values, _units(long_name)), f"{name}_stderr": (dim, errors, _units(long_name))})


def _units(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "bits per character"}


def _regenerated(
    key: Key[Array, ""], config: TextDemoConfig, data: Prepared, denoiser: NetworkDenoiser, t: float
) -> xr.Dataset:
    """Passages spread over the held-out text, regenerated from masked fraction t."""
    windows, decode = data.windows.held_out, data.corpus.tokenizer.decode
    x0 = windows[np.unique(np.linspace(0, len(windows) - 1, config.passages).astype(int))]
    x = regenerate(key, denoiser, x0, t, config.trajectories, config.tokens_per_step)
    originals = [_storable(decode(row)) for row in x0]
    texts = [[_storable(decode(row)) for row in rows] for rows in x]
    words = [[fraction_of_words_changed(old, new) for new in row] for old, row in zip(originals, texts, strict=True)]
    dims = ("passage", "trajectory")
    return xr.Dataset(
        {
            "tokens_changed": (dims, (x != x0[:, None]).mean(2), {"long_name": "fraction of tokens changed"}),
            "words_changed": (dims, np.array(words), {"long_name": "fraction of words changed"}),
            "original": ("passage", np.array(originals, object)),
            "regenerated": (dims, np.array(texts, object)),
        }
    )


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # netCDF strings end at a NUL
