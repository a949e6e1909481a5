"""Linear variational autoencoders: their exact optimum, and which latents of data survive a weight tau.

`optimum` has the derivation and the maps, `spectrum` what follows from eigenvalues alone, `noise` the tau of a loss
that averages over features or learns the decoder's noise, `symmetry` data whose eigenvalues a symmetry ties together.
"""

from .noise import averaged_loss_tau as averaged_loss_tau
from .noise import learned_noise as learned_noise
from .optimum import FreeEnergy as FreeEnergy
from .optimum import LinearOptimum as LinearOptimum
from .optimum import free_energy as free_energy
from .optimum import optimum as optimum
from .spectrum import CollapseLevels as CollapseLevels
from .spectrum import Multiplets as Multiplets
from .spectrum import active as active
from .spectrum import collapse_levels as collapse_levels
from .spectrum import divergence as divergence
from .spectrum import least_free_energy as least_free_energy
from .spectrum import multiplets as multiplets
from .spectrum import relevance as relevance
from .symmetry import critical_knob as critical_knob
from .symmetry import ring_eigenvalues as ring_eigenvalues
