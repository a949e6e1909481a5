"""What does a network that was trained to denoise know of the grammar, in which layer, and as exact inference does?

Linear probes read the symbols of every level, and their exact posterior given the noised string, off the states of a
tree U-Net, a transformer and a causal transformer, layer by layer, beside the same networks with their initial weights.
CKA compares states with the messages of belief propagation, and sparse features are matched with true symbols. Then
states are moved toward symbols of hidden nodes, and what the network concludes is compared with exact inference.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 2
SUMMARY = "which layer of a trained network holds which level of the grammar, and the exact posterior of it"
