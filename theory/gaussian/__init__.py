"""Closed forms and limits of Gaussian laws: speciation, collapse, flows, outliers, random features, fields, VAEs.

What is here stands in `__init__.pyi`; each part is imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
