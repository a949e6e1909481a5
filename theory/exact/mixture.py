"""The exact denoiser of a Gaussian mixture: mean, score and exact draws of x_0 given x_t, in closed form."""

import jax

from diffusion import VectorProcess
from diffusion.denoise.denoiser import AbstractJointDenoiser
from hierarchical import GaussianMixture

from .law import AbstractLawDenoiser


class MixtureDenoiser(AbstractLawDenoiser, AbstractJointDenoiser):
    """Mean and score under a Gaussian mixture, for vectors of d numbers; exact draws from the posterior."""

    mixture: GaussianMixture
    process: VectorProcess = VectorProcess()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mixture.dimension,)

    def noised_law(self, alpha, sigma):
        return self.mixture.noised(alpha, sigma)

    def denoise_batch(self, x_t, t):
        alpha, sigma = self.process.path.alpha(t), self.process.path.sigma(t)
        return self.mixture.posterior_mean(x_t, alpha, sigma)

    def draw_batch(self, key, x_t, t):
        alpha, sigma = self.process.path.alpha(t), self.process.path.sigma(t)
        return jax.vmap(self.mixture.posterior_sample)(jax.random.split(key, len(x_t)), x_t, alpha, sigma)
