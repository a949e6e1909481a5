"""The exact denoiser of a Gaussian mixture: the mean and exact draws of x_0 given x_t, in closed form."""

import jax

from diffusion import VectorProcess
from diffusion.denoise.denoiser import AbstractJointDenoiser
from hierarchical import GaussianMixture


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
