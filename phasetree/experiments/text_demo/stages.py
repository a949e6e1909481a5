"""The stages of the experiment `text-demo`, and how they become one dataset.

train           the network
baselines       bits per character of n-gram models
bits            the bound of the network, and its bits at every noise level
regenerated-T   passages regenerated from masked fraction T
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from diffusion.measure import masked_costs, stratified_numbers
from hierarchical import BitsPerCharacter, bits_per_character, fit_ngram
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.text_demo.config import Config
from phasetree.recipes.language import (
    Prepared,
    fraction_of_words_changed,
    network_on_text,
    prepare,
    regenerate,
    storable,
)

NGRAMS = ("unigram", "bigram", "trigram")


def plan(config: Config) -> list[Stage]:
    """Train, evaluate, regenerate."""
    levels = [
        Stage(f"regenerated-{t:g}", regenerated, ("train",), options={"number": i})
        for i, t in enumerate(config.noise_levels)
    ]
    units = len(levels)
    network = Stage("train", trained, units=4 * units)
    return [network, Stage("baselines", baselines), Stage("bits", bits, ("train",), 2 * units), *levels]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      `ngram_bits` and the network's `bound` and `bits` at every masked fraction `t`, bits per character with errors
      over held-out blocks; for every datum (passage) and trajectory the fraction of `tokens_changed` and
      `words_changed`, and the text; the training loss.
    """
    levels = [results[f"regenerated-{t:g}"] for t in config.noise_levels]
    changes = xr.concat([level.drop_vars("original") for level in levels], "t")
    parts = [results["baselines"], results["bits"], changes, levels[0].original, results["train"].loss]
    dataset = xr.merge(parts).assign_coords(t=list(config.noise_levels))
    dataset.t.attrs = {"long_name": "masked fraction", "units": "1", "process": "masking"}
    return dataset.assign_attrs(results["train"].attrs)


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The network.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there is no such text, see `load_text`.
    """
    network_key, train_key, *_ = jax.random.split(key, 5)
    return network_on_text(network_key, train_key, inputs, config, prepare(config))


def baselines(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Character models of orders 1, 2, 3 on the characters of the held-out windows."""
    data = prepare(config)
    models = [fit_ngram(data.split.train, order) for order in (1, 2, 3)]
    costs = [_over_blocks(np.array([-m.log_prob(text).sum() for text in data.window_texts]), data) for m in models]
    return _bits_dataset("ngram", "ngram_bits", costs, "n-gram model").assign_coords(ngram=list(NGRAMS))


def bits(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """The bound, and b(t) at the noise levels."""
    _, _, number_key, mask_key, _ = jax.random.split(key, 5)
    data = prepare(config)
    windows = data.windows.held_out
    numbers = stratified_numbers(number_key, len(windows), windows.shape[1], config.strata)
    levels = jnp.asarray([max(round(t * windows.shape[1]), 1) for t in config.noise_levels], jnp.int32)
    fixed = jnp.broadcast_to(levels[None], (len(windows), len(levels)))
    costs = masked_costs(
        mask_key, inputs["train"].model, windows, jnp.concatenate([numbers, fixed], 1),
        report=lambda _, total: inputs.advance(inputs.units / total),
    ).astype(np.float64)  # fmt: skip
    bound = _over_blocks(costs[:, : config.strata].mean(1), data)
    curve = [_over_blocks(cost, data) for cost in costs[:, config.strata :].T]
    dataset = _bits_dataset("t", "bits", curve, "bits per character of masked tokens")
    return dataset.assign(bound=((), bound.value, _units("bound on bits per character")), bound_stderr=bound.stderr)


def _over_blocks(nats: np.ndarray, data: Prepared) -> BitsPerCharacter:
    """Bits per character from the costs of windows, with the error over held-out blocks."""
    characters = np.bincount(data.block, [len(text) for text in data.window_texts]).astype(np.int64)
    return bits_per_character(np.bincount(data.block, nats), characters)


def _bits_dataset(dim: str, name: str, costs: list[BitsPerCharacter], long_name: str) -> xr.Dataset:
    values, errors = [cost.value for cost in costs], [cost.stderr for cost in costs]
    return xr.Dataset({name: (dim, values, _units(long_name)), f"{name}_stderr": (dim, errors, _units(long_name))})


def _units(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "bits per character"}


def regenerated(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """Passages spread over the held-out text, regenerated from one masked fraction."""
    level_key = jax.random.split(jax.random.split(key, 5)[4], len(config.noise_levels))[number]
    data = prepare(config)
    windows, decode = data.windows.held_out, data.corpus.tokenizer.decode
    x0 = windows[np.unique(np.linspace(0, len(windows) - 1, config.num_data).astype(int))]
    t, per_step = config.noise_levels[number], config.tokens_per_step
    x = regenerate(level_key, inputs["train"].model, x0, t, config.num_trajectories, per_step)
    originals = [storable(decode(row)) for row in x0]
    texts = [[storable(decode(row)) for row in rows] for rows in x]
    words = [[fraction_of_words_changed(old, new) for new in row] for old, row in zip(originals, texts, strict=True)]
    dims = ("datum", "trajectory")
    return xr.Dataset(
        {
            "tokens_changed": (dims, (x != x0[:, None]).mean(2), {"long_name": "fraction of tokens changed"}),
            "words_changed": (dims, np.array(words), {"long_name": "fraction of words changed"}),
            "original": ("datum", np.array(originals, object)),
            "regenerated": (dims, np.array(texts, object)),
        }
    )
