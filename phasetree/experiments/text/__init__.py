"""Which tokens of a real text change together, and how far apart? Susceptibility against noise, on one's own text.

A transformer learns to fill in masked tokens of a text (as in `text-demo`). Held-out passages are masked up to t and
regenerated many times over. If the text is built like a hierarchy, changes are correlated over a length that peaks at
some noise between 0 and T: where the passage's meaning is lost. Pairs of tokens within one word change together because
words are cut into tokens; these pairs are counted apart, and chi and xi are those of pairs across words.

The control, the same text with its tokens shuffled and a network of its own, has no correlations between tokens.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 6
SUMMARY = "which tokens of a real text change together, and how far apart; a shuffled control"
