"""Which data has a model memorised? Detectors that read it off the score, where the truth is known.

A training point of an over-trained model is a sharp maximum of its density: the score points inward from all sides,
which the 1-Laplace operator measures. It is compared with other detectors: on three Gaussian modes, where its landscape
is known; on scores that are part the law's and part the training set's; and on a network trained too long on a few
hundred real images, some of them planted several times, against images that it has not seen.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 1
SUMMARY = "which data a model has memorised: detectors on three modes, on mixed scores and on real images"
