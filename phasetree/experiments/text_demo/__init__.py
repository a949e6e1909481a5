r"""A real text: train on it by masking, bound its bits per character, regenerate held-out passages.

The text is cut into training passages and held-out blocks (`hierarchical.text`), tokenized by byte pairs, and cut into
windows of equal length. A transformer learns to fill in masked tokens of training windows. On held-out windows:

- the bound on bits per character (`diffusion.measure.masked_likelihood`) beside character n-gram models of the
  same training text on the same characters; all models see one window at a time;
- b(t), the bits per character of tokens masked at fraction t; the bound is its mean over t;
- forward-backward at several t: which tokens and words of a passage come back, and which change.

Windows of a held-out block resemble each other, so errors of bits are taken over blocks; errors of changes over
passages, which are spread evenly over the held-out text.
"""

from .analysis import analyse as analyse
from .config import PRESETS as PRESETS
from .config import Config as Config
from .drawing import draw as draw
from .stages import collect as collect
from .stages import plan as plan
from .telling import tell as tell

GENERATION = 6
SUMMARY = "train on a real text, noise and regenerate passages, bits per character"
