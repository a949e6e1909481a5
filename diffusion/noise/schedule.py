r"""Schedules: how noise times are spread, a map from progress u in [0, 1] to a time t of the process.

u = 1 is the most noise. Training draws u uniformly, `Ancestral` steps through u evenly; a schedule changes where effort
goes, never what the exact answer is.

    LinearSchedule     t = T u
    CosineSchedule     t = 1 - cos(pi u / 2)                     fractions: more steps where little is hidden
    LogSNRSchedule     ln SNR linear in u, SNR = 1 / (e^2t - 1)  Gaussian noise: even over orders of magnitude
    LinearRateSchedule 2 t = b_0 u + (b_1 - b_0) u^2 / 2         Gaussian noise as DDPM's, rate beta linear in u
    CosineRateSchedule alpha = cos(pi/2 (u + c)/(1 + c)), scaled Gaussian noise as improved DDPM's

Of Gaussian noise with rate beta(u), alpha^2 = exp(-int beta) = e^-2t: on the clock of Ornstein-Uhlenbeck (OU) times
every variance-preserving process is the same, and the schedules of the literature, a constant rate (`LinearSchedule`)
among them, only say how u runs through t.
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .gaussian import AbstractGaussianProcess, time_of_log_ratio
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
        return time_of_log_ratio(log_snr / 2)


class LinearRateSchedule(AbstractSchedule):
    """OU times of the rate beta(u) = b_0 + (b_1 - b_0) u; u = 1 is t = (b_0 + b_1) / 4, 5.0 with the defaults.

    Source: Ho, Jain & Abbeel, arXiv:2006.11239, in the continuous time of Song et al., arXiv:2011.13456.
    """

    first: float = eqx.field(static=True, default=0.1)
    last: float = eqx.field(static=True, default=20.0)

    def __check_init__(self):
        if not 0 < self.first <= self.last:
            raise ValueError(f"rates {self.first} .. {self.last}: need 0 < first <= last")

    def __call__(self, u):
        return (self.first * u + (self.last - self.first) * u**2 / 2) / 2


class CosineRateSchedule(AbstractSchedule):
    """OU times at which alpha = cos(pi/2 (w + c) / (1 + c)) / cos(pi/2 c / (1 + c)), w = u w_1 up to t = `max_time`.

    Source: Nichol & Dhariwal, arXiv:2102.09672, c = .008, where w runs to 1 and t to infinity.
    """

    offset: float = eqx.field(static=True, default=0.008)
    max_time: float = eqx.field(static=True, default=4.0)

    def __check_init__(self):
        if not (self.offset >= 0 and 0 < self.max_time < math.inf):
            raise ValueError(f"offset = {self.offset}, max_time = {self.max_time}: need 0 <= offset, 0 < max_time")

    def __call__(self, u):
        start = math.pi / 2 * self.offset / (1 + self.offset)
        end = math.acos(math.exp(-self.max_time) * math.cos(start))
        angle = start + (end - start) * u
        # -ln(cos(angle) / cos(start)), without cancellation at small angles
        return -jnp.log1p(-2 * jnp.sin((angle - start) / 2) * jnp.sin((angle + start) / 2) / math.cos(start))


def default_schedule(process: AbstractProcess) -> AbstractSchedule:
    """Fractions evenly, Gaussian times evenly in log signal-to-noise ratio."""
    return LogSNRSchedule() if isinstance(process, AbstractGaussianProcess) else LinearSchedule()
