r"""Denoisers that are known exactly: the grammar's by belief propagation, a finite training set's by Bayes' rule.

    grammar      p(x_0 | x_t) of the random hierarchy model: marginals and joint draws by message passing
    empirical    p(x_0 = x^k | x_t) = w_k ~ prod_i q(x_t^i | x_0^i = x^k_i) over the n strings x^k of a training set,

the latter being what a network of unlimited capacity learns from n strings: it memorises. Both are joint denoisers, so
forward-backward undoes all noise in one exact draw.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from diffusion.denoiser import AbstractJointDenoiser
from diffusion.process import AbstractProcess
from hierarchical import RandomHierarchyModel

from .belief_propagation import batched_marginals, batched_posterior_sample
from .evidence import noised_evidence
from .messages import finite, log_sum
from .segments import data_at_once, in_pieces


class GrammarDenoiser(AbstractJointDenoiser):
    """The posterior under the grammar that made the data."""

    rhm: RandomHierarchyModel
    process: AbstractProcess

    def __check_init__(self):
        _check_alphabet(self.rhm.num_symbols, self.process, "grammar")

    @eqx.filter_jit
    def __call__(self, x_t, t):
        def log_probs(_, rows):
            return jnp.log(batched_marginals(self.rhm, noised_evidence(self.process, *rows))[-1])

        return in_pieces(log_probs, data_at_once(self.rhm), (x_t, t))

    @eqx.filter_jit
    def posterior_sample(self, key, x_t, t):
        def drawn(key, rows):
            return batched_posterior_sample(key, self.rhm, noised_evidence(self.process, *rows)).leaves

        return in_pieces(drawn, data_at_once(self.rhm), (x_t, t), key)


class EmpiricalDenoiser(AbstractJointDenoiser):
    """The posterior when the data are known to be one of `strings`. Costs O(strings * sites) per row."""

    strings: Int[Array, "n sites"]
    process: AbstractProcess

    def __check_init__(self):
        if self.strings.shape[0] == 0:
            raise ValueError("the training set is empty: give at least one string")
        if not isinstance(self.strings, Tracer):
            low, high = int(np.min(self.strings)), int(np.max(self.strings))
            if low < 0 or high >= self.process.num_symbols:
                raise ValueError(
                    f"the training set has symbols {low} .. {high}, the process 0 .. {self.process.num_symbols - 1}: "
                    f"make them agree"
                )

    def __call__(self, x_t, t):
        weights = self.log_weights(x_t, t)  # (batch, n)
        symbols = jax.nn.one_hot(self.strings, self.process.num_symbols, dtype=weights.dtype)  # (n, sites, v)
        probs = jnp.einsum("bn,nsv->bsv", jnp.exp(weights), symbols, precision="highest")  # TF32 would cost digits
        return jnp.log(probs)

    def posterior_sample(self, key, x_t, t):
        return self.strings[jax.random.categorical(key, self.log_weights(x_t, t))]

    def log_weights(self, x_t, t) -> Float[Array, "batch n"]:
        """ln p(x_0 = x^k | x_t), nats; all `-inf` in a row that no training string can have become."""
        evidence = jax.vmap(self.process.log_likelihood)(x_t, t)  # (batch, sites, v)
        # a site at a time, so that no (batch, n, sites) array is formed
        total, _ = jax.lax.scan(
            lambda total, site: (total + site[0][:, site[1]], None),
            jnp.zeros((len(x_t), len(self.strings)), evidence.dtype),
            (evidence.transpose(1, 0, 2), self.strings.T),
        )
        return total - finite(log_sum(total, axis=1))[:, None]


def _check_alphabet(num_symbols: int, process: AbstractProcess, what: str) -> None:
    if process.num_symbols != num_symbols:
        raise ValueError(f"the {what} has {num_symbols} symbols, the process {process.num_symbols}: make them agree")
