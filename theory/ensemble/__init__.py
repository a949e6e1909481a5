"""Averages over random grammars: mean field, density evolution, correlations between sites.

`__init__.pyi` lists the contents; each part is imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
