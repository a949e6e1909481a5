"""How many strings does a denoiser save that is trained on the latents, not on the leaves; and with an exact teacher?

Networks are trained on the symbols of each level of the same strings, so many of them, and what a network of level l
generates is expanded to leaves by the lower rules: the number of strings at which it has learned the topmost rules is
laid beside n m^l. On the leaves the same network learns from the exact posterior in the place of the data. On a tree of
clusters a student learns where the probability flow ends, and generates in a few steps.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 1
SUMMARY = "strings needed by a denoiser of each level, by one with an exact teacher, and a student of few steps"
