"""At which noise is each level of a hierarchy lost? Trained, exact and empirical denoisers beside theory.

A grammar is drawn and a diffusion model trained on its strings. Then one experiment runs with three denoisers, the
trained network, exact belief propagation and the Bayes denoiser of a finite training set (which memorises): fresh data
are noised to time t, denoised, parsed, and each level of the tree compared with the original. Theory is laid beside:
the exact posterior's belief in the truth (no sampling), its average over grammars of the same sizes, this grammar's own
threshold by quenched density evolution, and the annealed threshold of an infinite hierarchy. Most strings are spent
where the class is lost, which is where network and posterior are compared, string by string. All transitions are read
at retention 1/2 by one locator.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 8
SUMMARY = "at which noise each level of a random hierarchy is lost: trained, exact, theory"
