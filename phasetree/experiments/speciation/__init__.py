"""When does a diffusion decide between two clusters? Class retention and clones against noise, trained, exact, theory.

Data are of two Gaussian clusters at +-m in d dimensions, |m|^2 = d, of standard deviation s within. A datum is noised
to t and taken back (a U-turn): is it in its cluster still? Two clones of one noised datum are taken back: do they
agree? Theory says that both happen with one probability, phi, a function of the signal S(t) alone: curves of all d fall
onto one, and cross phi(1) = .775 at the speciation time S = 1. Under the probability flow instead of the reverse SDE
the probability is Phi(S^(1/2)).
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 6
SUMMARY = "when a diffusion decides between two Gaussian clusters: trained, exact, theory"
