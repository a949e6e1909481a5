r"""Samplers: from x_t back to clean data, with any denoiser.

| sampler       | steps                                     | exact when the denoiser is                            |
|---------------|-------------------------------------------|-------------------------------------------------------|
| OneShot       | one joint draw from p(x_0 | x_t)          | always (needs an `AbstractJointDenoiser`)             |
| Ancestral     | `num_steps` kernels, spread by a schedule | for one step: each site; in the limit of many: all    |
| RandomOrder   | reveal k masked sites, look again, repeat | for k = 1: the chain rule in a random order           |

All three have the same law for the exact denoiser (RandomOrder and Ancestral in their limits), which the tests use.
Times may differ from row to row, and must be positive for `Ancestral`.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from hierarchical.arguments import AnyKey, Given, as_key

from ..denoise.denoiser import AbstractDenoiser, AbstractJointDenoiser, BatchCorrupted, BatchData, Times
from ..noise.process import AbstractChannel, draw_symbols, per_datum
from ..noise.schedule import AbstractSchedule, LinearSchedule
from ..noise.strings import Masking


class AbstractSampler(eqx.Module):
    """How to undo noise. To make one, write `undo_batch`."""

    takes_ends: ClassVar[bool] = False
    """Whether it is for denoisers that give the end of the flow, `gives_ends`, and for no others."""
    draws: ClassVar[bool] = True
    """Whether its key decides anything; a sampler that follows a flow may say no."""

    def __call__(self, key: AnyKey, denoiser: AbstractDenoiser, x_t: Given, t: Given) -> Shaped[Array, "..."]:
        """One clean datum for each noised one; what was not noised (t = 0) is returned as it is.

        A datum whose posterior is NaN, infinite or nowhere positive is not made up: its symbols become `NO_SYMBOL`,
        -1, its numbers NaN.

        Args:
          x_t: noised data, (..., *denoiser.shape), with one axis more for Gaussian noise on strings.
          t: noise times, one for all or an array whose axes are the first of those of x_t.

        Raises:
          ValueError: if the sampler is not for such a denoiser, a shape does not fit, or a known symbol or time is
            out of range.
        """
        if denoiser.gives_ends != self.takes_ends:
            kind = "gives ends of the flow: use Renoised" if denoiser.gives_ends else "gives means: use another sampler"
            raise ValueError(f"{type(self).__name__} with a denoiser that {kind}")
        rows, times, batch = denoiser.rows(x_t, t)
        return _undone(as_key(key), self, denoiser, rows, times).reshape(*batch, *denoiser.shape)

    @abc.abstractmethod
    def undo_batch(self, key: Key[Array, ""], denoiser: AbstractDenoiser, x_t: BatchCorrupted, t: Times) -> BatchData:
        """One clean datum for each row of checked data, from times of their own."""


@eqx.filter_jit
def _undone(key: Key[Array, ""], sampler: AbstractSampler, denoiser: AbstractDenoiser, x_t, t) -> BatchData:
    """`undo_batch`, numbers that are not finite as NaN, and what was not noised as it is."""
    clean, process = sampler.undo_batch(key, denoiser, x_t, t), denoiser.process
    if jnp.issubdtype(clean.dtype, jnp.floating):
        clean = jnp.where(jnp.isfinite(clean), clean, jnp.nan)
    if not isinstance(process, AbstractChannel):
        return clean
    as_it_is = process.decode(x_t).astype(clean.dtype)
    return jnp.where(per_datum(t, clean) == 0, as_it_is, clean)


class OneShot(AbstractSampler):
    """Exact, in one draw of the whole datum."""

    def undo_batch(self, key, denoiser, x_t, t):
        if not isinstance(denoiser, AbstractJointDenoiser):
            raise ValueError(f"{type(denoiser).__name__} knows only the posterior of each part: use Ancestral")
        return denoiser.draw_batch(key, x_t, t)


class Ancestral(AbstractSampler):
    """Run the process backwards in `num_steps` steps, from each row's time to 0.

    Sites are drawn independently within a step. Under masking, two of them may contradict each other in a way that an
    exact denoiser calls impossible; then its rows are all `-inf`, and what is still masked becomes `NO_SYMBOL`, -1. The
    same holds for `RandomOrder` with several tokens per step. `parse` calls such strings invalid.
    """

    num_steps: int = eqx.field(static=True, default=64)
    schedule: AbstractSchedule = LinearSchedule()
    """Spreads the steps: each row runs through its own time times schedule(u) / schedule(1)."""

    def __check_init__(self):
        check_positive("num_steps", self.num_steps)

    def undo_batch(self, key, denoiser, x_t, t):
        process = denoiser.process
        if not isinstance(process, AbstractChannel):
            raise ValueError(f"{type(process).__name__} is not a channel and has no reverse: use OneShot")
        fractions = self.schedule(jnp.linspace(1, 0, self.num_steps + 1, dtype=t.dtype))
        fractions = (fractions / fractions[0]).at[-1].set(0.0)

        def step(x, step_input):
            key, now, then = step_input
            row_keys = jax.random.split(key, len(t))
            return jax.vmap(process.reverse_step)(
                row_keys, denoiser.denoise_batch(x, now * t), x, now * t, then * t
            ), None

        keys = jax.random.split(key, self.num_steps)
        x, _ = jax.lax.scan(step, x_t, (keys, fractions[:-1], fractions[1:]))
        return process.decode(x)


class RandomOrder(AbstractSampler):
    """For masking: reveal `tokens_per_step` masked sites at a time, in a random order.

    The denoiser is given the masked fraction of the moment as its time, whatever `t` was: the posterior is the same,
    and at t = 1, where every site is masked, a string that is partly revealed would be impossible. A batch is worked
    off in groups of rows with similar numbers of masks: a group stops when its fullest row is done, and memory is
    bounded.
    """

    tokens_per_step: int = eqx.field(static=True, default=1)
    rows_per_group: int = eqx.field(static=True, default=512)

    def __check_init__(self):
        check_positive("tokens_per_step", self.tokens_per_step)
        check_positive("rows_per_group", self.rows_per_group)

    def undo_batch(self, key, denoiser, x_t, t):
        if not isinstance(denoiser.process, Masking):
            raise ValueError(f"RandomOrder reveals masks; {type(denoiser.process).__name__} has none: use Ancestral")
        (rows, sites), size = x_t.shape, min(self.rows_per_group, len(x_t))
        order = jnp.argsort(jnp.sum(x_t == denoiser.process.num_symbols, -1))
        groups = jnp.pad(x_t[order], ((0, -rows % size), (0, 0)), mode="edge").reshape(-1, size, sites)
        keys = jax.random.split(key, len(groups))
        revealed = jax.lax.map(lambda group: self._reveal(group[0], group[1], denoiser, t.dtype), (keys, groups))
        return jnp.zeros_like(x_t).at[order].set(revealed.reshape(-1, sites)[:rows])

    def _reveal(self, key: Key[Array, ""], x_t: BatchCorrupted, denoiser: AbstractDenoiser, dtype):
        order_key, draw_key = jax.random.split(key)
        is_masked = x_t == denoiser.process.num_symbols
        most = jnp.max(jnp.sum(is_masked, -1))  # steps that the fullest row needs: none beyond are computed
        num_steps = (most + self.tokens_per_step - 1) // self.tokens_per_step
        # each row's order, masked sites first; sites of a last, shorter step are beyond the string and are not written
        order = jnp.argsort(jax.random.uniform(order_key, x_t.shape, dtype) - is_masked.astype(dtype), -1)
        padding = -x_t.shape[1] % self.tokens_per_step
        order = jnp.pad(order, ((0, 0), (0, padding)), constant_values=x_t.shape[1])
        rows = jnp.arange(len(x_t))[:, None]

        def step(number, x):
            masked_fraction = jnp.mean((x == denoiser.process.num_symbols).astype(dtype), -1)
            sites = jax.lax.dynamic_slice_in_dim(order, number * self.tokens_per_step, self.tokens_per_step, 1)
            posterior = denoiser.denoise_batch(x, masked_fraction)
            log_probs = jnp.take_along_axis(posterior, sites[:, :, None], 1, mode="clip")
            drawn = draw_symbols(jax.random.fold_in(draw_key, number), log_probs)
            shown = jnp.take_along_axis(x, sites, 1, mode="clip")
            revealed = jnp.where(shown == denoiser.process.num_symbols, drawn, shown)
            return x.at[rows, sites].set(revealed, mode="drop")

        return jax.lax.fori_loop(0, num_steps, step, x_t)


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
      ValueError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | jnp.integer) or value < 1:
        raise ValueError(f"{name} = {value}: at least 1 needed, a whole number")
