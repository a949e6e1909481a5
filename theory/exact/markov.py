r"""The exact denoiser of a Markov chain: the forward-backward recursion, in logarithms.

With e_i the evidence of site i,

    forward    a_i(x) = sum_y a_(i-1)(y) e_(i-1)(y) T_i(x|y),
    backward   b_i(y) = sum_x T_(i+1)(x|y) e_(i+1)(x) b_(i+1)(x),

the cavity of site i is a_i b_i, its posterior e_i a_i b_i, and a joint draw goes backwards: x_d from e_d a_d, x_i from
e_i(x) a_i(x) T_(i+1)(x_(i+1)|x).
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
        evidence = self.process.site_evidence(x_t, per_datum(t, x_t))
        return _normalised(evidence + jax.vmap(self._cavity)(evidence))

    @eqx.filter_jit
    def cavity_batch(self, x_t, t):
        """From the messages themselves, so that it is known of visible sites too; all `-inf`: impossible."""
        return _normalised(jax.vmap(self._cavity)(self.process.site_evidence(x_t, per_datum(t, x_t))))

    @eqx.filter_jit
    def draw_batch(self, key, x_t, t):
        def drawn(key, evidence):
            ahead, steps = self._forward(evidence)
            forward = evidence + ahead
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

    def _cavity(self, evidence: Float[Array, "sites v"]) -> Float[Array, "sites v"]:
        """ln (a b), up to a constant for each site."""
        ahead, steps = self._forward(evidence)

        def back(after, inputs):
            step, site = inputs
            before = log_sum(step + (site + after)[None], axis=1)
            return before, before

        end = jnp.zeros_like(evidence[-1])
        _, backward = jax.lax.scan(back, end, (steps, evidence[1:]), reverse=True)
        return ahead + jnp.concatenate([backward, end[None]])

    def _forward(self, evidence: Float[Array, "sites v"]) -> tuple[Float[Array, "sites v"], Float[Array, "steps v v"]]:
        """ln a of every site, up to a constant for each, and ln T."""
        steps = jnp.log(self.chain.transitions).astype(evidence.dtype)

        def to_next(before, inputs):
            step, site = inputs
            found = log_sum((before + site)[:, None] + step)
            found -= finite(jnp.max(found))
            return found, found

        first = jnp.log(self.chain.initial).astype(evidence.dtype)
        _, rest = jax.lax.scan(to_next, first, (steps, evidence[:-1]))
        return jnp.concatenate([first[None], rest]), steps


def _normalised(log_values: Float[Array, "batch sites v"]) -> Float[Array, "batch sites v"]:
    return log_values - finite(log_sum(log_values, axis=-1))[..., None]
