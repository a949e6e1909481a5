"""A denoiser that memorises to a known degree: between the exact denoiser of a law and that of its training set."""

from jax.core import Tracer
from jaxtyping import Array, Float

from diffusion.denoise.denoiser import AbstractDenoiser, AbstractVectorDenoiser
from diffusion.noise.gaussian import VectorProcess
from hierarchical.arguments import Given, as_numbers


class BlendedDenoiser(AbstractVectorDenoiser):
    """score = (1 - share) of `law` + share of `empirical`, and so the means; both of one process and shape."""

    law: AbstractVectorDenoiser
    empirical: AbstractVectorDenoiser
    share: Float[Array, ""]
    """0: nothing is memorised; 1: everything."""
    process: VectorProcess

    def __init__(self, law: AbstractDenoiser, empirical: AbstractDenoiser, share: Given):
        """Raises ValueError if one is of strings, shapes or processes differ, or a known share is not in [0, 1]."""
        if not (isinstance(law, AbstractVectorDenoiser) and isinstance(empirical, AbstractVectorDenoiser)):
            raise ValueError(f"{type(law).__name__} and {type(empirical).__name__}: give denoisers of arrays")
        if law.shape != empirical.shape or law.process != empirical.process:
            raise ValueError(f"shapes {law.shape} and {empirical.shape}, or processes, differ: give two of the same")
        self.law, self.empirical, self.share, self.process = law, empirical, as_numbers(share), law.process
        if self.share.shape != () or not (isinstance(self.share, Tracer) or 0 <= self.share <= 1):
            raise ValueError(f"share = {share}: give one number from 0 to 1")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.law.shape

    def denoise_batch(self, x_t, t):
        share = self.share.astype(x_t.dtype)
        return (1 - share) * self.law.denoise_batch(x_t, t) + share * self.empirical.denoise_batch(x_t, t)
