r"""Denoisers that are known exactly: grammars and chains by message passing, Gaussian mixtures in closed form.

    grammar      p(x_0 | x_t) of the random hierarchy model: marginals and joint draws by message passing
    chain        the same of a Markov chain, by the forward-backward recursion
    mixture      E[x_0 | x_t] and p(x_0 | x_t) of a Gaussian mixture
    empirical    p(x_0 | x_t) over a finite training set, in `empirical.py`

All are joint denoisers, so forward-backward undoes all noise in one exact draw.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion import VectorProcess
from diffusion.denoiser import AbstractJointDenoiser
from diffusion.process import AbstractTokenProcess
from hierarchical import GaussianMixture, MarkovChain, RandomHierarchyModel

from .belief_propagation import batched_marginals, batched_posterior_sample
from .empirical import EmpiricalDenoiser as EmpiricalDenoiser
from .evidence import noised_evidence
from .messages import finite, log_sum
from .segments import data_at_once, in_pieces


class GrammarDenoiser(AbstractJointDenoiser):
    """The posterior under the grammar that made the data."""

    rhm: RandomHierarchyModel
    process: AbstractTokenProcess

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


class MarkovDenoiser(AbstractJointDenoiser):
    """The posterior under a Markov chain.

    With e_i the evidence of site i, forward f_i(x) = e_i(x) sum_y f_(i-1)(y) T_i(x|y), backward b_i(y) =
    sum_x T_(i+1)(x|y) e_(i+1)(x) b_(i+1)(x); the posterior is f b, and a draw goes backwards: x_d from f_d, then x_i
    from f_i(x) T_(i+1)(x_(i+1)|x). In logarithms, O(sites v^2) per row.
    """

    chain: MarkovChain
    process: AbstractTokenProcess

    def __check_init__(self):
        _check_alphabet(self.chain.num_symbols, self.process, "chain")

    def __call__(self, x_t, t):
        def posterior(evidence):
            forward, steps = self._forward(evidence)

            def back(after, inputs):
                step, site = inputs
                before = log_sum(step + (site + after)[None], axis=1)
                return before, before

            end = jnp.zeros_like(evidence[-1])
            _, backward = jax.lax.scan(back, end, (steps, evidence[1:]), reverse=True)
            joint = forward + jnp.concatenate([backward, end[None]])
            return joint - finite(log_sum(joint, axis=1))[:, None]

        return jax.vmap(posterior)(jax.vmap(self.process.log_likelihood)(x_t, t))

    def posterior_sample(self, key, x_t, t):
        def drawn(key, evidence):
            forward, steps = self._forward(evidence)
            noise = jax.random.gumbel(key, evidence.shape, evidence.dtype)  # the largest of logs + noise: a draw
            last = jnp.argmax(forward[-1] + noise[-1]).astype(jnp.int32)

            def back(after, inputs):
                noise, step, site = inputs
                symbol = jnp.argmax(site + step[:, after] + noise).astype(jnp.int32)
                return symbol, symbol

            _, rest = jax.lax.scan(back, last, (noise[:-1], steps, forward[:-1]), reverse=True)
            return jnp.concatenate([rest, last[None]])

        evidence = jax.vmap(self.process.log_likelihood)(x_t, t)
        return jax.vmap(drawn)(jax.random.split(key, len(x_t)), evidence)

    def _forward(self, evidence: Float[Array, "sites v"]) -> tuple[Float[Array, "sites v"], Float[Array, "steps v v"]]:
        """ln f of every site, up to a constant for each, and ln T."""
        steps = jnp.log(self.chain.transitions).astype(evidence.dtype)

        def ahead(before, inputs):
            step, site = inputs
            found = site + log_sum(before[:, None] + step)
            found -= finite(jnp.max(found))
            return found, found

        first = evidence[0] + jnp.log(self.chain.initial).astype(evidence.dtype)
        _, rest = jax.lax.scan(ahead, first, (steps, evidence[1:]))
        return jnp.concatenate([first[None], rest]), steps


class MixtureDenoiser(AbstractJointDenoiser):
    """The mean under a Gaussian mixture, for vectors of d numbers; exact draws from the posterior."""

    mixture: GaussianMixture
    process: VectorProcess = VectorProcess()

    def __call__(self, x_t, t):
        alpha, sigma = self.process.path.alpha(t), self.process.path.sigma(t)
        return jax.vmap(self.mixture.posterior_mean)(x_t, alpha, sigma)

    def posterior_sample(self, key, x_t, t):
        alpha, sigma = self.process.path.alpha(t), self.process.path.sigma(t)
        return jax.vmap(self.mixture.posterior_sample)(jax.random.split(key, len(x_t)), x_t, alpha, sigma)


def _check_alphabet(num_symbols: int, process: AbstractTokenProcess, what: str) -> None:
    if process.num_symbols != num_symbols:
        raise ValueError(f"the {what} has {num_symbols} symbols, the process {process.num_symbols}: make them agree")
