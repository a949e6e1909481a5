"""What does an autoencoder see of a symmetry? Latents by relevance, degrees of freedom by three instruments.

Data with an exact or approximate symmetry have fewer degrees of freedom than numbers, and a variational autoencoder
orders its latents by relevance and leaves the rest unused. A knob breaks each symmetry; the closed form of the linear
autoencoder predicts at which knob another latent switches on. Beside the autoencoder's count stand the dimension of the
set and the rotations of the law, read off scores.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 1
SUMMARY = "how many degrees of freedom a symmetry leaves, and when an autoencoder sees it broken"
