r"""Few steps: the end of the probability flow as what a network is taught, and the sampler of such a network.

The flow takes x_t to one datum F(x_t, t). A denoiser knows only where the flow goes next, so that following it takes
many calls; a *student* is trained on F itself, x_t being noised data, which are the flow's own points:

    train(key, student, data, config, teacher=FlowEnd(denoiser))                                                   (1)

and then one call takes noise to a datum. Its output can be noised again, to a smaller time, and denoised once more
(`Renoised`): if the student is exact, every such step keeps the law of the data, and it mends errors that the calls at
larger noise have made. F jumps where the flow divides, between symbols of a string, and jumps are what a network
learns worst: on a line with two modes +-mu of width w it is as steep as w exp(mu^2 / 2 w^2) (`theory.flow_map`).

Sources: Song, Dhariwal, Chen & Sutskever, arXiv:2303.01469 (consistency models; algorithm 1 is `Renoised`); Luhman &
Luhman, arXiv:2101.02388 (a student of the flow's ends).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..denoise.denoiser import AbstractDenoiser
from ..noise.gaussian import VectorProcess
from ..noise.process import Shape, per_datum
from ..noise.schedule import AbstractSchedule, LogSNRSchedule
from .reverse import ProbabilityFlow
from .samplers import AbstractSampler, check_positive

FLOW = ProbabilityFlow()


class FlowEnd(AbstractDenoiser):
    """Where the probability flow of a denoiser takes x_t, behind the interface of denoisers; see equation (1).

    It is no mean of x_0, so it has no score, and only `Renoised` samples with it or its students.
    """

    denoiser: AbstractDenoiser
    process: VectorProcess
    sampler: AbstractSampler

    def __init__(self, denoiser: AbstractDenoiser, sampler: AbstractSampler = FLOW):
        """A student inherits the errors of `sampler`: `DDIM`, `ProbabilityFlow`, `AdaptiveFlow` or one's own.

        From t = 4, N(0, 1) comes back with variance .998 by the default, with .984 by `ProbabilityFlow(24, 0.001)` and
        with .80 by `DDIM(16, 0.001)`.

        Raises:
          ValueError: if the denoiser is one of strings, or the sampler draws random numbers (`AbstractSampler.draws`).
        """
        if not isinstance(denoiser.process, VectorProcess):
            raise ValueError(
                f"{type(denoiser.process).__name__} has no flow: give a denoiser of arrays, of strings with Gaussian "
                f"noise OneHotDenoiser(denoiser)"
            )
        if sampler.draws:
            raise ValueError(f"{type(sampler).__name__} draws: give DDIM, ProbabilityFlow or AdaptiveFlow")
        self.denoiser, self.process, self.sampler = denoiser, denoiser.process, sampler

    @property
    def shape(self) -> Shape:
        return self.denoiser.shape

    @property
    def gives_ends(self) -> bool:
        return True

    @property
    def max_time(self) -> float:
        return self.denoiser.max_time

    @property
    def min_time(self) -> float:
        return self.denoiser.min_time

    @eqx.filter_jit
    def denoise_batch(self, x_t, t):
        """The end, and x_t itself where t = 0."""
        end = self.sampler.undo_batch(jax.random.key(0), self.denoiser, x_t, jnp.where(t == 0, 1.0, t))
        return jnp.where(per_datum(t, x_t) == 0, x_t, end)


class Renoised(AbstractSampler):
    """For `FlowEnd` and its students: ask for the end, noise it to a smaller time, and so on; `num_steps` calls."""

    takes_ends: ClassVar[bool] = True
    num_steps: int = eqx.field(static=True, default=1)
    schedule: AbstractSchedule = LogSNRSchedule()
    """Spreads the times: each row's own time times schedule(u) / schedule(1)."""

    def __check_init__(self):
        check_positive("num_steps", self.num_steps)

    def undo_batch(self, key, denoiser, x_t, t):
        fractions = self.schedule(jnp.linspace(1, 0, self.num_steps, endpoint=False, dtype=t.dtype))
        fractions = fractions / fractions[0]

        def step(end, step_input):
            key, fraction = step_input
            keys = jax.random.split(key, len(t))
            x = jax.vmap(denoiser.process.draw_noised)(keys, end, fraction * t)
            return denoiser.denoise_batch(x, fraction * t).astype(end.dtype), None

        first = denoiser.denoise_batch(x_t, t).astype(x_t.dtype)
        return jax.lax.scan(step, first, (jax.random.split(key, self.num_steps - 1), fractions[1:]))[0]
