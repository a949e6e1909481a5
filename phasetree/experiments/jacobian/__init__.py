"""In which direction is a noised string still undecided, and by how much? The denoiser's Jacobian against the noise.

The Jacobian of the mean of x_0 by x_t is the posterior covariance of the symbols of all pairs of leaves, times alpha /
sigma^2. Strings of random hierarchies get Gaussian noise, and at each noise time its largest eigenvalue is computed, by
products with the exact denoiser, and the smallest subtree that holds the leading vector: the node that is being
decided. Beside it stands the exact posterior's belief in the class, whose loss is the transition. A tree U-Net trained
on the strings of one grammar is asked about the same noised strings.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 1
SUMMARY = "largest eigenvalue of a denoiser's Jacobian, and the subtree that holds its vector, against the noise"
