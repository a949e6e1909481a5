r"""The exact denoiser of a Markov chain: the forward-backward recursion, in logarithms.

With e_i the evidence of site i,

    forward    f_i(x) = e_i(x) sum_y f_(i-1)(y) T_i(x|y),
    backward   b_i(y) = sum_x T_(i+1)(x|y) e_(i+1)(x) b_(i+1)(x),

the posterior of site i is f_i b_i, and a joint draw goes backwards: x_d from f_d, x_i from f_i(x) T_(i+1)(x_(i+1)|x).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion.denoise.denoiser import AbstractJointDenoiser, AbstractTokenDenoiser
from diffusion.noise.process import AbstractTokenProcess, per_datum
from hierarchical import MarkovChain
from hierarchical.arguments import NO_SYMBOL

from ..logspace import finite, log_sum
from .grammar import check_alphabet


class MarkovDenoiser(AbstractTokenDenoiser, AbstractJointDenoiser):
    """The posterior under a Markov chain, O(sites v^2) per row."""

    chain: MarkovChain
    process: AbstractTokenProcess

    def __check_init__(self):
        check_alphabet(self.chain.num_symbols, self.process, "chain")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.chain.num_sites,)

    @eqx.filter_jit
    def denoise_batch(self, x_t, t):
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

        return jax.vmap(posterior)(self.process.site_evidence(x_t, per_datum(t, x_t)))

    @eqx.filter_jit
    def draw_batch(self, key, x_t, t):
        def drawn(key, evidence):
            forward, steps = self._forward(evidence)
            noise = jax.random.gumbel(key, evidence.shape, evidence.dtype)  # the largest of logs + noise: a draw
            last = jnp.argmax(forward[-1] + noise[-1]).astype(jnp.int32)

            def back(after, inputs):
                noise, step, site = inputs
                symbol = jnp.argmax(site + step[:, after] + noise).astype(jnp.int32)
                return symbol, symbol

            _, rest = jax.lax.scan(back, last, (noise[:-1], steps, forward[:-1]), reverse=True)
            possible = jnp.isfinite(jnp.max(forward[-1]))
            return jnp.where(possible, jnp.concatenate([rest, last[None]]), NO_SYMBOL)

        evidence = self.process.site_evidence(x_t, per_datum(t, x_t))
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
