"""The options of the experiment `recovery`, and what each statistic counts."""

import dataclasses
import pathlib
from typing import Annotated, Literal

from tyro.conf import arg

from diffusion.measure import recovery
from hierarchical import RandomHierarchyModel
from phasetree.experiments.checks import check_counts, check_grammar, check_options, for_any_machine

STATISTICS: dict[str, tuple[recovery.AbstractStatistic, recovery.AbstractClustering]] = {
    "labels": (recovery.Labels(), recovery.KMeans()),
    "label-shift": (recovery.Labels(), recovery.Factors()),
    "tokens": (recovery.SiblingTokens(), recovery.KMeans()),
    "tuples": (recovery.SiblingTuples(), recovery.KMeans()),
    "next-tuple": (recovery.SiblingTuples(to_the_right=True), recovery.KMeans()),
    "pmi": (recovery.SiblingTuples(), recovery.PMIEmbedding()),
    "latents": (recovery.SiblingLatents(), recovery.KMeans()),
    "latents-pmi": (recovery.SiblingLatents(), recovery.PMIEmbedding()),
}
OWN = "latents-pmi"
"""What is counted in strings of one's own."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Recover the hidden levels of random hierarchies from their strings, and learn their rules."""

    preset: Literal["quick", "default", "paper"] = "default"
    """Starting point for all other options. quick: two depths, a minute; default: four depths, under six minutes on two
    cores; paper: ten grammars and more strings, under an hour."""
    seed: int = 0
    """Decides the grammars, the strings and every start of the clustering."""
    num_symbols: Annotated[int, arg(aliases=("-v",))] = 8
    """v, symbols of every level; of a file, clusters of every hidden level."""
    num_synonyms: Annotated[int, arg(aliases=("-m",))] = 4
    """m, production rules per symbol."""
    branching: Annotated[int, arg(aliases=("-s",))] = 2
    """s, children per node."""
    depths: tuple[int, ...] = (2, 3, 4, 5)
    """L, depths of the trees, increasing; of a file one, whose windows of s^L tokens are the strings."""
    num_grammars: int = 5
    """Grammars of each depth, each of which is recovered by itself."""
    samples: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
    """Numbers of strings, increasing; of a file all are taken."""
    statistics: tuple[str, ...] = ("labels", "label-shift", "tokens", "tuples", "pmi", "latents", "latents-pmi")
    """What is counted of a tuple, and how counts are clustered: labels (classes), label-shift (factors of the same),
    tokens (leaves below siblings), tuples (siblings' tuples), next-tuple (those to the right alone), pmi (mutual
    information of siblings' tuples), latents (siblings' hidden symbols), latents-pmi."""
    no_learn: bool = False
    """Learn no rules; else those of the first depth above 2, by expectation-maximisation from the clusters."""
    num_steps: int = 200
    """Steps of expectation-maximisation, at most."""
    held_out: int = 4096
    """Strings of which the loss of learned rules is taken."""
    file: pathlib.Path | None = None
    """Token sequences of one's own in the place of grammars: .npz, .npy or text, a sequence of integers a line."""

    def __post_init__(self):
        check_options(self, num_symbols=2, num_synonyms=1, branching=2, num_grammars=2, num_steps=1, held_out=16)
        for name, least in (("depths", 2), ("samples", 8)):
            values = getattr(self, name)
            if list(values) != sorted(set(values)) or min(values, default=0) < least:
                raise ValueError(f"{name} = {values}: give increasing whole numbers from {least} on")
        for name in self.statistics:
            if name not in STATISTICS:
                raise ValueError(f"statistics = {name}: give of {', '.join(STATISTICS)}")
        if not self.statistics or len(set(self.statistics)) < len(self.statistics):
            raise ValueError(f"statistics = {self.statistics}: give at least one, each once")
        if self.file is not None and len(self.depths) > 1:
            raise ValueError(f"depths = {self.depths}: strings of a file have one, give --depths L")
        check_grammar(self, "samples", "held_out", deepest="depths")
        check_counts(self, ("num_grammars", "statistics", "samples"))

    @property
    def learned_depth(self) -> int | None:
        """The depth whose rules are learned."""
        deep = [depth for depth in self.depths if depth > 2]
        return deep[0] if deep and not self.no_learn else None

    @property
    def learned_samples(self) -> list[int]:
        """Numbers of strings from which rules are learned: up to 8 n m^L, beyond which nothing changes."""
        depth = self.learned_depth
        most = 0 if depth is None else 8 * self.num_symbols * self.num_synonyms**depth
        return [n for n in self.samples if n <= most] or [self.samples[0]]

    @property
    def label(self) -> str:
        """What distinguishes the default folder of this run, beside its seed."""
        return self.preset if self.file is None else f"{self.preset}-{self.file.stem}"

    def grammar(self, depth: int, key) -> RandomHierarchyModel:
        """A random grammar."""
        return RandomHierarchyModel(self.num_symbols, self.num_synonyms, self.branching, depth, key=key)


with for_any_machine():
    PRESETS = {
        "quick": Config(
            preset="quick", depths=(2, 3), num_grammars=2, samples=(64, 256, 1024, 4096),
            statistics=("labels", "tuples", "latents-pmi"), held_out=1024,
        ),
        "default": Config(),
        "paper": Config(
            preset="paper", num_grammars=10, samples=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
            held_out=32_768,
        ),
    }  # fmt: skip
