"""Which symbols change together, and how far apart? Susceptibility and correlation length against noise.

Data of a random hierarchy are noised to t and denoised many times over, by the trained network and by exact inference.
At fixed data, changes of symbols are correlated over a length xi. This length and chi, the number of symbols that
change with one symbol, peak where the class is lost. For the epsilon-process, exact posterior covariances and the
mean-field pair theory replace the trajectories. Three controls are measured alike: strings with the same neighbours but
no hierarchy (a Markov chain), strings with the same classes but no levels between class and leaves (the grammar
filtered at its leaves), and a Gaussian random field.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 7
SUMMARY = "which symbols change together, and how far apart: trained, exact, theory, controls"
