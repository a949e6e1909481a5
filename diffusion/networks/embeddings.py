r"""How a noised string enters a network: sites as vectors.

A noised site is read through its *belief*, the evidence normalised over symbols, softmax_x ln q(x_t^i | x_0^i = x). The
posterior of x_0 depends on (x_t, t) through the evidence alone, so the same network serves every process without the
time: under masking a belief is one-hot or flat, under uniform noise it is (1 - t) one-hot + t/v, under Gaussian
noise it is soft. Large alphabets of masked tokens are read through a table instead.
"""

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped

from ..noise.process import AbstractTokenProcess
from ..noise.strings import Masking

Hidden = Float[Array, "batch nodes width"]
Change = Callable[[str, Hidden], Hidden]
"""What a network does with each of its states, given by name, before it computes on."""


def unchanged(name: str, state: Hidden) -> Hidden:
    return state


class BeliefEmbedding(nnx.Module):
    """Sites as linear maps of their beliefs: for any process and small alphabets."""

    def __init__(self, process: AbstractTokenProcess, width: int, *, rngs: nnx.Rngs):
        self.process, self.width = process, width
        self.linear = nnx.Linear(process.num_symbols, width, rngs=rngs)

    def __call__(self, x_t: Shaped[Array, "batch sites *vector"], t: Float[Array, " batch"]) -> Hidden:
        beliefs = jax.nn.softmax(jax.vmap(self.process.log_likelihood)(x_t, t))
        return self.linear(beliefs.astype(self.linear.kernel.dtype))


class TokenEmbedding(nnx.Module):
    """Sites as rows of a table, the mask symbol included: for masked tokens of large alphabets; t is not used."""

    def __init__(self, process: Masking, width: int, *, rngs: nnx.Rngs):
        self.process, self.width = process, width
        self.table = nnx.Embed(process.num_symbols + 1, width, rngs=rngs)

    def __call__(self, x_t: Int[Array, "batch sites"], t: Float[Array, " batch"]) -> Hidden:
        return self.table(x_t)
