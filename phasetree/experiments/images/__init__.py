"""Which patches of a real image change together, and how far apart? Susceptibility against noise, and the class.

A small U-Net learns to denoise images. Held-out images are noised up to t and denoised, many times over. How much patch
i changed is sigma_i, the length of the displacement of its embedding: of a classifier trained here (an auto-encoder
where there are no classes), or of its raw pixels. Patches that change together are counted as symbols are in
`susceptibility`, and the classifier says whether the class was kept.

An embedding looks at the surroundings of a patch, so embeddings of neighbours change together even where patches do
not. The control shows by how much: every patch is taken from another trajectory of the same image, which leaves each
patch's own changes as they are and removes every correlation between patches, and is embedded anew.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 6
SUMMARY = "which patches of real images change together, and where the class is lost"
