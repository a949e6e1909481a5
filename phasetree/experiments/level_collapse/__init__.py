"""At which weight of the KL does an autoencoder lose each level of a tree? Trained networks against closed forms.

Data are the leaves of a tree of Gaussians: every node adds something of its own to all leaves below it. A variational
autoencoder weighs each nat that its latents hold by tau, against half the squared error. It keeps latent j only if the
j-th eigenvalue of the data's covariance exceeds tau, and the eigenvalues of the tree come in one group for each level.
So as tau grows the latents fall silent level by level, the leaves first and the root last.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .drawing import tell as tell
from .stages import collect as collect
from .stages import plan as plan

GENERATION = 1
SUMMARY = "at which weight of the KL a VAE loses each level of a tree of Gaussians: trained, exact"
