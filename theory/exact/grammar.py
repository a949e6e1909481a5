"""The exact denoiser of a grammar: marginals of the leaves and joint draws by belief propagation."""

import equinox as eqx

from diffusion.denoise.denoiser import AbstractJointDenoiser, AbstractTokenDenoiser
from diffusion.noise.process import AbstractTokenProcess
from hierarchical import RandomHierarchyModel
from hierarchical.files.memory import check_memory

from ..inference.belief_propagation import cavity_marginals, marginals, posterior_sample
from ..inference.evidence import noised_evidence
from ..inference.fast.segments import data_at_once, in_pieces
from ..logspace import log_where_positive

_BYTES = 4  # of a number, in float32


class GrammarDenoiser(AbstractTokenDenoiser, AbstractJointDenoiser):
    """The posterior under the grammar that made the data."""

    rhm: RandomHierarchyModel
    process: AbstractTokenProcess

    def __check_init__(self):
        check_alphabet(self.rhm.num_symbols, self.process, "grammar")
        messages = sum(v * nodes for v, nodes in zip(self.rhm.vocabulary, self.rhm.num_nodes, strict=True))
        numbers = messages + self.rhm.num_symbols * self.rhm.num_leaves  # those upward, and the answer
        about = f"inference about one string (depth = {self.rhm.depth}, branching = {self.rhm.branching[0]})"
        check_memory(_BYTES * numbers, about, "lower depth or branching")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rhm.num_leaves,)

    @eqx.filter_jit
    def denoise_batch(self, x_t, t):
        def log_probs(_, rows):
            return log_where_positive(marginals(self.rhm, noised_evidence(self.process, *rows))[-1])

        return in_pieces(log_probs, data_at_once(self.rhm), (x_t, t))

    @eqx.filter_jit
    def cavity_batch(self, x_t, t):
        """From the messages themselves, so that it is known where evidence is `-inf` too; all `-inf`: impossible."""

        def log_probs(_, rows):
            return log_where_positive(cavity_marginals(self.rhm, noised_evidence(self.process, *rows))[-1])

        return in_pieces(log_probs, data_at_once(self.rhm), (x_t, t))

    @eqx.filter_jit
    def draw_batch(self, key, x_t, t):
        def drawn(key, rows):
            return posterior_sample(key, self.rhm, noised_evidence(self.process, *rows)).leaves

        return in_pieces(drawn, data_at_once(self.rhm), (x_t, t), key)


def check_alphabet(num_symbols: int, process: AbstractTokenProcess, what: str) -> None:
    if process.num_symbols != num_symbols:
        raise ValueError(f"the {what} has {num_symbols} symbols, the process {process.num_symbols}: make them agree")
