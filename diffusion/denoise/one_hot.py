r"""Strings with Gaussian noise as arrays: a denoiser of strings that is asked for the mean of one-hot vectors.

`GaussianProcess` noises a string as the array of its one-hot vectors, x_t = alpha e_x + sigma z, (sites, v). The mean
of that array given x_t is the posterior of every site,

    E[e_x | x_t]_ix  =  p(x_0^i = x | x_t),                                                                        (1)

and all that is defined for denoisers of arrays follows: the score by Tweedie's formula, the Jacobian, which is the
posterior covariance of the symbols times alpha / sigma^2, dimensions, flows and likelihoods.
"""

import jax.numpy as jnp

from ..noise.gaussian import GaussianProcess, VectorProcess
from .denoiser import AbstractDenoiser, AbstractTokenDenoiser, AbstractVectorDenoiser


class OneHotDenoiser(AbstractVectorDenoiser):
    """A denoiser of strings as one of arrays (sites, v), equation (1)."""

    strings: AbstractTokenDenoiser
    process: VectorProcess

    def __init__(self, strings: AbstractDenoiser):
        """Raises ValueError if the denoiser is not one of strings with `GaussianProcess`."""
        if not (isinstance(strings, AbstractTokenDenoiser) and isinstance(strings.process, GaussianProcess)):
            raise ValueError(
                f"{type(strings).__name__} of {type(strings.process).__name__} noises no one-hot vectors: give a "
                f"denoiser of strings whose process is GaussianProcess"
            )
        self.strings, self.process = strings, VectorProcess(strings.process.path)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.strings.shape, self.strings.process.num_symbols)

    @property
    def max_time(self) -> float:
        return self.strings.max_time

    @property
    def min_time(self) -> float:
        return self.strings.min_time

    def denoise_batch(self, x_t, t):
        return jnp.exp(self.strings.denoise_batch(x_t, t))
