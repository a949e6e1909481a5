"""Theory: what exact inference, mean field and density evolution say must be seen.

What is here stands in `__init__.pyi`; each part is imported when first used, because SciPy takes longer to import than
a belief propagation run takes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
