"""Which sampler, where none is asked for: the most exact that a denoiser allows.

| denoiser                   | sampler       | error                                                                  |
|----------------------------|---------------|------------------------------------------------------------------------|
| joint (`AbstractJoint...`) | `OneShot`     | none                                                                   |
| masked strings             | `RandomOrder` | none beyond the denoiser's: the chain rule, a token at a time          |
| arrays                     | `ReverseSDE`  | second order in its 80 steps: below 1.5% of the variance of N(0, 1)    |
| ends of the flow           | `Renoised`    | none beyond the student's: one call                                    |
| other strings              | `Ancestral`   | second order in its 64 steps, for correlations between sites of a step |
"""

from ..denoise.denoiser import AbstractDenoiser, AbstractJointDenoiser, AbstractVectorDenoiser
from ..noise.strings import Masking
from .few_steps import Renoised
from .reverse import ReverseSDE
from .samplers import AbstractSampler, Ancestral, OneShot, RandomOrder


def default_sampler(denoiser: AbstractDenoiser) -> AbstractSampler:
    """The most exact sampler that a denoiser allows, see the table above."""
    if denoiser.gives_ends:
        return Renoised()
    if isinstance(denoiser, AbstractJointDenoiser):
        return OneShot()
    if isinstance(denoiser, AbstractVectorDenoiser):
        return ReverseSDE()
    return RandomOrder() if isinstance(denoiser.process, Masking) else Ancestral()
