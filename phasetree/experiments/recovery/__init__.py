"""From how many strings can the hidden levels of a grammar be recovered? Statistics against each other, and the rules.

Synonyms, the tuples of one hidden symbol, stand beside the same things. Each statistic counts something else beside a
tuple: the class of the string, the tuples of its siblings, the leaves below them, or the hidden symbols of siblings,
which are recovered in the same step. Clusters of tuples are the symbols of the next level. With hidden symbols the
strings that are needed do not grow with the depth of the tree; with classes they grow as n m^L.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 1
SUMMARY = "from how many strings the hidden levels and rules of a grammar are recovered, by what is counted"
