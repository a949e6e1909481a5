"""When does training generalise, and when does it memorise? Times of both against the number of training points.

A network is trained on n points of two Gaussian clusters, at a constant rate. Its score is compared, as training goes
on, with the exact score of the clusters, which it should find, and with the exact score of the n points, which it may
fall back to. Half of the way to the first is the generalisation time, half of the way from the first to the second, as
the training loss goes, the memorisation time. Theory of wide networks says that the second grows in proportion to n
while the first does not depend on it, so that more data leave more time to stop.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 6
SUMMARY = "how long training takes to generalise and to memorise, against the number of points"
