"""Diffusion: noise a datum, learn to undo it, probe what was learned.

What is here stands in `__init__.pyi`; each part is imported when first used, because Flax, Optax and Orbax take longer
to import than a belief propagation run takes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
