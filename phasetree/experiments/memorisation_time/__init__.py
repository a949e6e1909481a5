"""When does training generalise, and when does it memorise? Times of both against the number of training points.

A network is trained on n points of two Gaussian clusters, at a constant rate. Its score is compared, as training goes
on, with the exact score of the clusters, which it should find, and with the exact score of the n points, which it may
fall back to. Half of the way to the first is the generalisation time, half of the way from the first to the second, as
the training loss goes, the memorisation time. Theory of wide networks says that the second grows in proportion to n
while the first does not depend on it, so that more data leave more time to stop.
"""

from .config import PRESETS as PRESETS
from .config import MemorisationConfig as MemorisationConfig
from .figure import plot as plot
from .figure import report as report
from .stages import run as run
