"""The stages of the experiment `text`, and how they become one dataset.

train, train-shuffled     the networks of the text and of its tokens in a random order
examples                  a few passages and their regenerations, as text
real-T, shuffled-T        correlated changes of all passages from masked fraction T
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int32, Key

from diffusion import RandomOrder
from diffusion.measure import LineGeometry, change_sums
from hierarchical import TokenCorpus
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.text.config import Config
from phasetree.recipes.language import Prepared, network_on_text, prepare, prepare_sequences, regenerate, storable

STRINGS_AT_ONCE = 512
STRINGS_PER_GROUP = 128  # with similar numbers of masks; fewer strings at a time are faster on a CPU
SHOWN = 3  # passages kept as text


def plan(config: Config) -> list[Stage]:
    """Train, regenerate, correlate; then the same with shuffled tokens."""
    levels = list(enumerate(config.noise_levels))
    stages = [Stage("train", trained, units=len(levels)), Stage("examples", examples, ("train",))]
    stages += [Stage(f"real-{t:g}", correlated, ("train",), options={"number": i}) for i, t in levels]
    if config.control:
        stages.append(Stage("train-shuffled", trained_on_shuffled, units=len(levels) / 2))
        stages += [
            Stage(f"shuffled-{t:g}", correlated_shuffled, ("train-shuffled",), options={"number": i}) for i, t in levels
        ]
    return stages


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      For every `text` (real, shuffled), datum (passage) and masked fraction `t`: `sums` S(r) of correlated changes at
      token distance r, the part `within` words, and the `fraction` of tokens changed; training losses; some passages.
    """
    texts = ["real", "shuffled"] if config.control else ["real"]
    parts = [xr.concat([results[f"{text}-{t:g}"] for t in config.noise_levels], "t", data_vars="all") for text in texts]
    dataset = xr.concat(parts, xr.Variable("text", texts), data_vars="all")
    dataset = xr.merge([dataset, results["examples"], results["train"].loss])
    about = results["train"].attrs
    dataset = dataset.assign_coords(t=list(config.noise_levels), distance=np.arange(about["window"]))
    dataset.t.attrs = {"long_name": "masked fraction", "units": "1", "process": "masking"}
    dataset.distance.attrs = {"long_name": "distance", "units": "tokens"}
    return dataset.assign_attrs(about)


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The network of the text.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there is no such text, see `load_text`, or it is too short.
    """
    network_key, train_key, *_ = jax.random.split(key, 5)
    return network_on_text(network_key, train_key, inputs, config, _ready(config))


def trained_on_shuffled(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The network of the shuffled tokens, which only has to learn how frequent they are."""
    shuffle_key, network_key, train_key, _ = _control_keys(key)
    brief = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=config.control_steps))
    return network_on_text(network_key, train_key, inputs, brief, shuffled(shuffle_key, _ready(config)))


def correlated(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """Sums of correlated changes of all passages at one noise level."""
    return _correlated(jax.random.split(key, 5)[3], config, inputs, number, _ready(config))


def correlated_shuffled(config: Config, key: Key[Array, ""], inputs: Inputs, *, number: int) -> xr.Dataset:
    """Sums of correlated changes of the shuffled passages at one noise level."""
    shuffle_key, _, _, change_key = _control_keys(key)
    return _correlated(change_key, config, inputs, number, shuffled(shuffle_key, _ready(config)))


def examples(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """A few passages as text, and one regeneration of each at every noise level."""
    data, example_key = _ready(config), jax.random.split(key, 5)[2]
    passages = _passages(config, data)
    chosen = passages[np.linspace(0, len(passages) - 1, SHOWN + 2).astype(int)[1:-1]]
    decode, texts = data.corpus.tokenizer.decode, []
    keys = jax.random.split(example_key, len(config.noise_levels))
    for t, level_key in zip(config.noise_levels, keys, strict=True):
        strings = regenerate(level_key, inputs["train"].model, chosen, t, 1, config.tokens_per_step)[:, 0]
        texts.append([storable(decode(row)) for row in strings])
    originals = [storable(decode(row)) for row in chosen]
    return xr.Dataset(
        {
            "original": ("example", np.array(originals, object)),
            "regenerated": (("t", "example"), np.array(texts, object)),
        }
    )


def _control_keys(key: Key[Array, ""]) -> Key[Array, "4"]:
    """Keys of shuffling, network, training and changes."""
    return jax.random.split(jax.random.split(key, 5)[4], 4)


def _ready(config: Config) -> Prepared:
    data = prepare_sequences(config.sequences, config.window) if config.sequences else prepare(config)
    count, length = data.windows.held_out.shape
    if count < 4 or length < 4:
        raise ValueError(
            f"{data.text.name} leaves {count} held-out windows of {length} tokens; at least 4 of 4 are needed: give a "
            f"longer text or more sequences, or lower window or vocabulary"
        )
    return data


def shuffled(key: Key[Array, ""], data: Prepared) -> Prepared:
    """Tokens permuted among all training passages, and among all held-out blocks; lengths stay."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def permuted(passages):
        mixed = rng.permutation(np.concatenate(passages))
        return tuple(np.split(mixed, np.cumsum([len(tokens) for tokens in passages])[:-1]))

    corpus = TokenCorpus(data.corpus.tokenizer, permuted(data.corpus.train), permuted(data.corpus.held_out))
    return data._replace(corpus=corpus, windows=corpus.windows(data.windows.train.shape[1]))


def _passages(config: Config, data: Prepared) -> Int32[np.ndarray, "passages length"]:
    """Held-out windows, spread evenly."""
    windows = data.windows.held_out
    return windows[np.unique(np.linspace(0, len(windows) - 1, config.num_data).astype(int))]


def _correlated(key: Key[Array, ""], config: Config, inputs: Inputs, number: int, data: Prepared) -> xr.Dataset:
    [network], passages = inputs.values(), _passages(config, data)
    words = data.corpus.tokenizer.words(passages).astype(np.int32)
    size = max(1, STRINGS_AT_ONCE // config.num_trajectories)
    pieces = [slice(i, i + size) for i in range(0, len(passages), size)]
    level_key = jax.random.split(key, len(config.noise_levels))[number]
    parts = []
    for piece, piece_key in zip(pieces, jax.random.split(level_key, len(pieces)), strict=True):
        changes = change_sums(
            piece_key,
            network.model,
            jnp.asarray(passages[piece]),
            jnp.float32(config.noise_levels[number]),
            LineGeometry(passages.shape[1]),
            num_trajectories=config.num_trajectories,
            sampler=RandomOrder(config.tokens_per_step, STRINGS_PER_GROUP),
            strings_at_once=STRINGS_AT_ONCE,
            groups=jnp.asarray(words[piece]),
        )
        parts.append([np.asarray(changes[i]) for i in range(3)])
        inputs.advance(1 / len(pieces))
    sums, fraction, within = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    dims = ("datum", "distance")
    return xr.Dataset({"sums": (dims, sums), "within": (dims, within), "fraction": ("datum", fraction)})
