"""The stages of the experiment `text-demo`, each kept in the folder when done, and how they become one dataset."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key
from tqdm import tqdm

from diffusion import AbstractNetworkDenoiser
from hierarchical import (
    BitsPerCharacter,
    bits_per_character,
    fit_ngram,
)
from phasetree.experiments.text_demo.config import TextDemoConfig
from phasetree.recipes.language import (
    Prepared,
    fraction_of_words_changed,
    masked_costs,
    prepare,
    regenerate,
    shortened,
    storable,
    stratified_numbers,
    trained_on_text,
)
from phasetree.results import ResultFolder

NGRAMS = ("unigram", "bigram", "trigram")


def run(config: TextDemoConfig, folder: ResultFolder) -> xr.Dataset:
    """Train, evaluate, regenerate; resumes from what `folder` holds.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there is no such text, see `load_text`.
      FolderError: if the text has changed since the folder was made.
    """
    network_key, train_key, number_key, mask_key, regeneration_key = jax.random.split(jax.random.key(config.seed), 5)
    data = prepare(config)
    denoiser, losses = trained_on_text(network_key, train_key, config, data, folder)
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
        note=shortened(config, data, losses.sizes["step"]),
    )


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
    denoiser: AbstractNetworkDenoiser,
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
    key: Key[Array, ""], config: TextDemoConfig, data: Prepared, denoiser: AbstractNetworkDenoiser, t: float
) -> xr.Dataset:
    """Passages spread over the held-out text, regenerated from masked fraction t."""
    windows, decode = data.windows.held_out, data.corpus.tokenizer.decode
    x0 = windows[np.unique(np.linspace(0, len(windows) - 1, config.passages).astype(int))]
    x = regenerate(key, denoiser, x0, t, config.trajectories, config.tokens_per_step)
    originals = [storable(decode(row)) for row in x0]
    texts = [[storable(decode(row)) for row in rows] for rows in x]
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
