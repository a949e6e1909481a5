r"""The probability flow by an adaptive solver: data without a number of steps to choose, and what densities follow.

With l = ln(alpha / sigma) and a, s on the variance-preserving path, a^2 = 1 / (1 + e^-2l), the flow of
`reverse.py`, equation (1) at eta = 0, is

    dx/dl = a (D(x, l) - a x),                                                                                     (1)

D the mean of x_0. It is smooth at both ends, and every path is this one with its x_t scaled. Densities follow by
the change of variables (Chen et al., arXiv:1806.07366; Song et al., arXiv:2011.13456): along a solution

    ln p_t(x_t) = ln p_T(x_T) - int_{l_T}^{l_t} a (tr dD/dx - a d) dl,      p_T = N(0, 1).                        (2)

The trace is exact, by d derivatives of the denoiser, or estimated without bias from random signs v as the mean of
v (dD/dx) v (Hutchinson). The solver is Tsitouras' fifth-order method with an adaptive step, row by row.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ..denoise.denoiser import AbstractDenoiser, Times
from ..noise.gaussian import VariancePreserving, VectorProcess, log_ratio, time_of_log_ratio
from ..noise.process import beside
from .samplers import AbstractSampler

PRESERVING = VariancePreserving()


class AdaptiveFlow(AbstractSampler):
    """`ProbabilityFlow` with steps that the solver chooses. Its key decides nothing."""

    draws: ClassVar[bool] = False
    tolerance: float = eqx.field(static=True, default=1e-4)
    """Bounds what one step is estimated to add to the error: the root mean square over the numbers of x, each in units
    of tolerance (1 + |x|). Steps add up and the flow stretches their errors, so that the result's is not bounded. From
    t = 3 to clusters of spread 1/2 at +-1 in all d numbers (512 rows), 1e-4 left .001 in the root mean square for d = 2
    and 32 and .017 and .012 at most; 1e-6 left 2e-6, and 2e-5 and 4e-5 at most."""
    min_time: float = eqx.field(static=True, default=0.002)
    """Where the mean of x_0 is taken."""

    def __check_init__(self):
        if not (0 < self.tolerance < math.inf and 0 < self.min_time < math.inf):
            raise ValueError(f"tolerance = {self.tolerance}, min_time = {self.min_time}: both must be positive, finite")

    def undo_batch(self, key, denoiser, x_t, t):
        last = jnp.minimum(t, self.min_time)
        scaled = x_t / beside(path_scale(denoiser, t), x_t)
        (x, _) = flown(denoiser, (scaled, jnp.zeros_like(t)), t, last, self.tolerance, None)
        return denoiser.denoise_batch(beside(path_scale(denoiser, last), x) * x, last).astype(x.dtype)


def path_scale(denoiser: AbstractDenoiser, t: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """What a row of the denoiser's path is larger by than of the variance-preserving one."""
    if not isinstance(denoiser.process, VectorProcess):
        raise ValueError(f"{type(denoiser.process).__name__} is a process of strings, which have no flow")
    return denoiser.process.path.alpha(t) / PRESERVING.alpha(t)


def flown(
    denoiser: AbstractDenoiser,
    start: tuple[Shaped[Array, "batch *datum"], Times],
    first: Times,
    last: Times,
    tolerance: float,
    probes: Float[Array, "batch probes size"] | None,
    traced: bool = False,
) -> tuple[Shaped[Array, "batch *datum"], Times]:
    """x on the preserving path, from times `first` to `last`; the integral of (2) along the way if `traced`."""
    no_end = (
        f"the flow found no end in 4096 steps at tolerance = {tolerance}: raise it if the denoiser's output and "
        "e^2t of all times are finite"
    )

    def one(x: Array, total: Array, begin: Array, stop: Array, signs: Array | None) -> tuple[Array, Array]:
        known = jnp.isfinite(x).all() & jnp.isfinite(begin) & jnp.isfinite(stop)
        x = jnp.where(known, x, 0)  # a row that is not known is NaN in the end, and takes no steps
        begin, stop = jnp.where(known, begin, 1), jnp.where(known, stop, 1)
        # the solver mixes dtypes and ranks of its own
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(_velocity(denoiser, signs, traced)),
                diffrax.Tsit5(),
                log_ratio(begin),
                log_ratio(stop),
                None,
                (x, total),
                stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
                saveat=diffrax.SaveAt(t1=True),
                throw=False,
            )
        failed = solution.result != diffrax.RESULTS.successful
        x, total = eqx.error_if(jax.tree.map(lambda values: values[0], solution.ys), failed, no_end)
        return jnp.where(known, x, jnp.nan), jnp.where(known, total, jnp.nan)

    return jax.vmap(one, in_axes=(0, 0, 0, 0, None if probes is None else 0))(*start, first, last, probes)


def _velocity(
    denoiser: AbstractDenoiser, signs: Float[Array, "probes size"] | None, traced: bool
) -> Callable[..., tuple[Array, Array]]:
    """The right side of (1) for one datum, and the trace of its derivative by x, which is 0 unless `traced`."""

    def velocity(ratio, state, _):
        x, total = state
        t = time_of_log_ratio(ratio)
        alpha = PRESERVING.alpha(t)

        def drift(x):
            scaled = path_scale(denoiser, t) * x
            mean = denoiser.denoise_batch(scaled[None], t[None])[0].astype(x.dtype)
            return alpha * (mean - alpha * x)

        if not traced:
            return drift(x), jnp.zeros_like(total)
        basis = jnp.eye(x.size, dtype=x.dtype) if signs is None else signs
        _, along = jax.linearize(drift, x)
        products = jax.vmap(lambda v: jnp.vdot(v, along(v.reshape(x.shape)).ravel()))(basis)
        return drift(x), jnp.sum(products) if signs is None else jnp.mean(products)

    return velocity
