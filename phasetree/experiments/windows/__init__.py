"""Which level of a hierarchy of clusters is decided when? Critical windows of a tree mixture, trained, exact, theory.

Data are Gaussian clusters whose means are the leaves of a binary tree, with offsets that shrink from level to level. A
datum is noised to t and taken back by the reverse equation: on which levels is it below the same node as before? Theory
says that level l is decided, once its parent is, by the two children alone: its retention is phi(S_l), a function of
that level's signal, and crosses phi(1) = .775 at t_l = 1/2 ln(m_l^2 + 1 - s^2). Within the window in which the children
are neither one nor two for the noised data (total variation between .05 and .95) the level is decided.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 6
SUMMARY = "which level of a tree of clusters is decided when: trained, exact, theory"
