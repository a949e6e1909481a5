"""The laws of the data: grammars, Markov chains, Gaussian mixtures, real text as tokens, and real images.

What is here stands in `__init__.pyi`; each part is imported when first used, as in `diffusion`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
