"""The stages of the experiment `text`, each kept in the folder when done, and how they become one dataset."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int32, Key
from tqdm import tqdm

from diffusion import AbstractNetworkDenoiser, RandomOrder
from diffusion.measure import LineGeometry, change_sums
from hierarchical import TokenCorpus
from phasetree.experiments.text.config import TextConfig
from phasetree.experiments.text.figure import passages_page
from phasetree.recipes.language import Prepared, prepare, regenerate, shortened, storable, trained_on_text
from phasetree.results import ResultFolder

STRINGS_AT_ONCE = 512
STRINGS_PER_GROUP = 128  # with similar numbers of masks; fewer strings at a time are faster on a CPU
SHOWN = 3  # passages kept in words


class Case(NamedTuple):
    """A text and the network trained on it."""

    data: Prepared
    denoiser: AbstractNetworkDenoiser
    passages: Int32[np.ndarray, "passages length"]


def run(config: TextConfig, folder: ResultFolder) -> xr.Dataset:
    """Train, regenerate, correlate; then the same with shuffled tokens. Resumes from what `folder` holds.

    Returns:
      For every `text` (real, shuffled), passage and masked fraction t: `sums` S(r) of correlated changes at token
      distance r, the part `within` words, and the `fraction` of tokens changed; training losses; some passages.

    Raises:
      FileNotFoundError, ValueError, ImportError: if there is no such text, see `load_text`.
      FolderError: if the text has changed since the folder was made.
    """
    keys = jax.random.split(jax.random.key(config.seed), 5)
    data = prepare(config)
    count, length = data.windows.held_out.shape
    if count < 4 or length < 4:
        raise ValueError(
            f"{data.text.name} leaves {count} held-out windows of {length} tokens; at least 4 of 4 are needed: give a "
            f"longer text, or lower window or vocabulary"
        )
    denoiser, losses = trained_on_text(keys[0], keys[1], config, data, folder)
    real = Case(data, denoiser, _passages(config, data))
    examples = folder.stage("examples", lambda: _examples(keys[2], config, real))
    parts = {"real": _correlated(keys[3], config, folder, "real", real)}
    if config.control:
        parts["shuffled"] = _control(keys[4], config, folder, data)
    dataset = xr.concat(list(parts.values()), xr.Variable("text", list(parts)), data_vars="all")
    dataset = xr.merge([dataset, examples, losses]).assign_coords(
        t=list(config.noise_levels), distance=np.arange(data.windows.train.shape[1])
    )
    dataset.t.attrs = {"long_name": "masked fraction", "units": "1"}
    dataset.distance.attrs = {"long_name": "distance", "units": "tokens"}
    dataset = dataset.assign_attrs(
        config=folder.config,
        source=data.text.name,
        provenance=data.text.provenance,
        sha256=data.text.sha256,
        seed=config.seed,
        characters=len(data.text.characters),
        vocabulary=data.corpus.tokenizer.vocab_size,
        window=data.windows.train.shape[1],
        steps=losses.sizes["step"],
        note=shortened(config, data, losses.sizes["step"]),
    )
    folder.write("passages.html", lambda part: part.write_text(passages_page(dataset)))
    return dataset


def _control(key: Key[Array, ""], config: TextConfig, folder: ResultFolder, data: Prepared) -> xr.Dataset:
    """The same tokens in a random order: trained on, and regenerated, by itself."""
    shuffle_key, network_key, train_key, change_key = jax.random.split(key, 4)
    shuffled = _shuffled(np.random.default_rng(np.asarray(jax.random.key_data(shuffle_key))), data)
    brief = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=config.control_steps))
    denoiser, _ = trained_on_text(network_key, train_key, brief, shuffled, folder, name="shuffled")
    case = Case(shuffled, denoiser, _passages(config, shuffled))
    return _correlated(change_key, config, folder, "shuffled", case)


def _shuffled(rng: np.random.Generator, data: Prepared) -> Prepared:
    """Tokens permuted among all training passages, and among all held-out blocks; lengths stay."""

    def permuted(passages):
        mixed = rng.permutation(np.concatenate(passages))
        return tuple(np.split(mixed, np.cumsum([len(tokens) for tokens in passages])[:-1]))

    corpus = TokenCorpus(data.corpus.tokenizer, permuted(data.corpus.train), permuted(data.corpus.held_out))
    return data._replace(corpus=corpus, windows=corpus.windows(data.windows.train.shape[1]))


def _passages(config: TextConfig, data: Prepared) -> Int32[np.ndarray, "passages length"]:
    """Held-out windows, spread evenly."""
    windows = data.windows.held_out
    return windows[np.unique(np.linspace(0, len(windows) - 1, config.passages).astype(int))]


def _correlated(key: Key[Array, ""], config: TextConfig, folder: ResultFolder, name: str, case: Case) -> xr.Dataset:
    """Sums of correlated changes of all passages at every noise level, a stage for each level."""
    geometry = LineGeometry(case.passages.shape[1])
    words = case.data.corpus.tokenizer.words(case.passages).astype(np.int32)
    size = max(1, STRINGS_AT_ONCE // config.trajectories)
    pieces = [slice(i, i + size) for i in range(0, len(case.passages), size)]
    sampler = RandomOrder(config.tokens_per_step, STRINGS_PER_GROUP)
    levels: list[xr.Dataset] = []
    with tqdm(desc=f"regenerating, {name}", total=len(config.noise_levels) * len(pieces), unit="call") as bar:

        def level(t: float, key: Key[Array, ""]) -> xr.Dataset:
            found = []
            for piece, piece_key in zip(pieces, jax.random.split(key, len(pieces)), strict=True):
                found.append(
                    change_sums(
                        piece_key,
                        case.denoiser,
                        jnp.asarray(case.passages[piece]),
                        jnp.float32(t),
                        geometry,
                        num_trajectories=config.trajectories,
                        sampler=sampler,
                        strings_at_once=STRINGS_AT_ONCE,
                        groups=jnp.asarray(words[piece]),
                    )
                )
                jax.block_until_ready(found[-1])
                bar.update()
            sums, fraction, within = (np.concatenate([np.asarray(part[i]) for part in found]) for i in range(3))
            dims = ("passage", "distance")
            return xr.Dataset({"sums": (dims, sums), "within": (dims, within), "fraction": ("passage", fraction)})

        for t, level_key in zip(config.noise_levels, jax.random.split(key, len(config.noise_levels)), strict=True):
            levels.append(folder.stage(f"{name}-{t:g}", lambda t=t, key=level_key: level(t, key)))
            bar.update((len(levels) * len(pieces)) - bar.n)
    return xr.concat(levels, "t", data_vars="all")


def _examples(key: Key[Array, ""], config: TextConfig, case: Case) -> xr.Dataset:
    """A few passages in words, and one regeneration of each at every noise level."""
    chosen = case.passages[np.linspace(0, len(case.passages) - 1, SHOWN + 2).astype(int)[1:-1]]
    decode = case.data.corpus.tokenizer.decode
    texts = []
    for t, level_key in zip(config.noise_levels, jax.random.split(key, len(config.noise_levels)), strict=True):
        strings = regenerate(level_key, case.denoiser, chosen, t, 1, config.tokens_per_step)[:, 0]
        texts.append([storable(decode(row)) for row in strings])
    originals = [storable(decode(row)) for row in chosen]
    return xr.Dataset(
        {
            "original": ("example", np.array(originals, object)),
            "regenerated": (("t", "example"), np.array(texts, object)),
        }
    )
