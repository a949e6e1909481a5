"""How many dimensions do data have? Every estimator on sets whose dimension is known, exact, trained, from data alone.

Data of d numbers lie on a set of k dimensions. A denoiser knows k: its score points across the set, and the Jacobian of
its mean is 1 along it and 0 across. Five estimators read k off the exact denoiser of each set and off a network that
was trained on it, at the noise level where the dimension is on a plateau; one more needs the data alone. Estimators of
scikit-dimension, from nearest neighbours and principal components, stand beside it where that is installed.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 1
SUMMARY = "how many dimensions data have, read off exact and trained denoisers, and off data alone"
