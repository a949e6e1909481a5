"""When does the exact score of a finite training set fall onto one of its points? Seed weights against exact theory.

n points of a Gaussian in d dimensions are the training set. One of them, the seed, is noised to t: what weight has it
still in the mean that the exact score of the set computes, and does undoing the noise lead back to it? As d grows with
ln n / d fixed, the weight jumps from 0 to 1 at the collapse time t_C, and the excess entropy -E ln w_seed / d falls to
0 there. At finite d both are smooth curves, known exactly; those of different d cross near t_C.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 6
SUMMARY = "when the exact score of a finite training set falls onto its points: measured, exact, limit"
