r"""Schedules: how noise times are spread, a map from progress u in [0, 1] to a time t of the process.

u = 1 is the most noise. Training draws u uniformly, `Ancestral` steps through u evenly; a schedule changes where effort
goes, never what the exact answer is.

    LinearSchedule     t = T u
    CosineSchedule     t = 1 - cos(pi u / 2)                     fractions: more steps where little is hidden
    LogSNRSchedule     ln SNR linear in u, SNR = 1 / (e^2t - 1)  Gaussian noise: even over orders of magnitude
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .gaussian import GaussianProcess, VectorProcess
from .process import AbstractProcess


class AbstractSchedule(eqx.Module):
    """Increasing map from progress u in [0, 1] to noise time."""

    @abc.abstractmethod
    def __call__(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]: ...


class LinearSchedule(AbstractSchedule):
    """t = max_time * u."""

    max_time: float = eqx.field(static=True, default=1.0)

    def __call__(self, u):
        return self.max_time * u


class CosineSchedule(AbstractSchedule):
    """t = 1 - cos(pi u / 2), for masked and replaced fractions."""

    def __call__(self, u):
        return 1 - jnp.cos(math.pi / 2 * u)


class LogSNRSchedule(AbstractSchedule):
    """OU times whose log signal-to-noise ratio falls linearly from that of `min_time` to that of `max_time`."""

    min_time: float = eqx.field(static=True, default=0.01)
    max_time: float = eqx.field(static=True, default=4.0)

    def __check_init__(self):
        if not 0 < self.min_time < self.max_time:
            raise ValueError(f"times {self.min_time} .. {self.max_time}: need 0 < min_time < max_time")

    def __call__(self, u):
        first, last = (-math.log(math.expm1(2 * t)) for t in (self.min_time, self.max_time))
        log_snr = first + (last - first) * u
        return jnp.logaddexp(0.0, -log_snr) / 2  # the inverse of SNR = 1 / (e^2t - 1)


def default_schedule(process: AbstractProcess) -> AbstractSchedule:
    """Fractions evenly, Gaussian times evenly in log signal-to-noise ratio."""
    return LogSNRSchedule() if isinstance(process, GaussianProcess | VectorProcess) else LinearSchedule()
