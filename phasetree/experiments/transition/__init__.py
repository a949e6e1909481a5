"""At which noise is each level of a hierarchy lost? Trained, exact and empirical denoisers beside theory.

A grammar is drawn and a diffusion model trained on its strings. Then one experiment runs with three denoisers, the
trained network, exact belief propagation and the Bayes denoiser of a finite training set (which memorises): fresh data
are noised to time t, denoised, parsed, and each level of the tree compared with the original. Theory is laid beside:
the exact posterior's belief in the truth (no sampling), its average over grammars of the same sizes, the infinite-depth
threshold by density evolution, or annealed mean field for the epsilon-process. One locator reads the transition off
every curve.
"""

from .config import PRESETS as PRESETS
from .config import Config as Config
from .figure import analyse as analyse
from .figure import draw as draw
from .figure import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 6
SUMMARY = "the noise at which each level of a random hierarchy is lost: trained, exact, theory"
