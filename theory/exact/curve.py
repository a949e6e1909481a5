r"""The exact denoiser of data on a curve, by the midpoint rule.

Of x_0 = f(u), u uniform in [0, 1), the mean is a quotient of integrals over u,

    E[x_0 | x_t] = int f(u) q(x_t | f(u)) du / int q(x_t | f(u)) du,                                               (1)

and n midpoints u_k = (k + 1/2) / n make of it the mean under a training set of the n data f(u_k). Where neighbours are
closer than the noise s = sigma / alpha the error is that of a sum over a Gaussian, exp(-2 pi^2 s^2 / h^2) at distance
h, 3e-9 at h = s; what the ends of an open curve leave is of second order in h, and only seen near the ends.
"""

import equinox as eqx
import jax.numpy as jnp

from diffusion import VectorProcess
from diffusion.denoise.denoiser import AbstractVectorDenoiser
from diffusion.noise.gaussian import time_of_noise
from hierarchical import Curve
from hierarchical.arguments import Whole

from .empirical import EmpiricalVectorDenoiser


class CurveDenoiser(AbstractVectorDenoiser):
    """Mean and score under a law on a curve, equation (1).

    Both are NaN before `min_time`, where midpoints are too far apart; so give a sampler a `min_time` no smaller.
    """

    midpoints: EmpiricalVectorDenoiser
    process: VectorProcess
    spacing: float = eqx.field(static=True)
    """The largest distance h of neighbours, in units of the data."""

    def __init__(self, curve: Curve, process: VectorProcess | None = None, points: Whole = 4096):
        """Costs O(points d) per datum; made outside jit, for how close neighbours are must be known.

        Raises:
          ValueError: if there are fewer than two points.
        """
        data, self.spacing = curve.midpoints(points)
        self.process = VectorProcess() if process is None else process
        self.midpoints = EmpiricalVectorDenoiser(data=data, process=self.process)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.midpoints.shape

    @property
    def min_time(self) -> float:
        """Where the noise is as large as the distance of neighbours."""
        return time_of_noise(self.spacing)

    def denoise_batch(self, x_t, t):
        known = t >= self.min_time * (1 - 1e-6)  # t may be `min_time` in single precision
        return jnp.where(known[:, None], self.midpoints.denoise_batch(x_t, t).astype(x_t.dtype), jnp.nan)
