"""The exact denoisers of laws whose smoothed density is known: spheres, linear subspaces, unions, one's own."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from diffusion import VectorProcess
from diffusion.denoise.denoiser import AbstractVectorDenoiser
from hierarchical import AbstractNoisedLaw, Sphere
from hierarchical.law import over_rows


class AbstractLawDenoiser(AbstractVectorDenoiser):
    """The score of a smoothed law in closed form, so that no mean is subtracted from x_t; t > 0."""

    @abc.abstractmethod
    def noised_law(self, alpha: Float[Array, ""], sigma: Float[Array, ""]) -> AbstractNoisedLaw:
        """The law of alpha x_0 + sigma z."""

    def score_batch(self, x_t, t):
        return over_rows(self._score, x_t, self.process.path.alpha(t), self.process.path.sigma(t)).astype(x_t.dtype)

    def _score(self, x: Float[Array, " d"], alpha: Float[Array, ""], sigma: Float[Array, ""]) -> Float[Array, " d"]:
        return self.noised_law(alpha, sigma).score(x)


class LawDenoiser(AbstractLawDenoiser):
    """Mean, by Tweedie's formula, and score under any law of vectors of d numbers; t > 0."""

    law: AbstractNoisedLaw
    num_dimensions: int = eqx.field(static=True)
    """d, numbers of a datum."""
    process: VectorProcess = VectorProcess()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_dimensions,)

    def noised_law(self, alpha, sigma):
        return self.law.noised(alpha, sigma)

    def denoise_batch(self, x_t, t):
        alpha, sigma = self.process.path.alpha(t), self.process.path.sigma(t)
        return (x_t + sigma[:, None] ** 2 * self.score_batch(x_t, t)) / alpha[:, None]


class SphereDenoiser(AbstractLawDenoiser):
    """Mean and score under the uniform law on a sphere, both in closed form; t > 0."""

    law: Sphere
    process: VectorProcess = VectorProcess()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.law.ambient_dimension,)

    def noised_law(self, alpha, sigma):
        return self.law.noised(alpha, sigma)

    def denoise_batch(self, x_t, t):
        return over_rows(self._mean, x_t, self.process.path.alpha(t), self.process.path.sigma(t)).astype(x_t.dtype)

    def _mean(self, x: Float[Array, " d"], alpha: Float[Array, ""], sigma: Float[Array, ""]) -> Float[Array, " d"]:
        return self.noised_law(alpha, sigma).mean(x) / alpha
