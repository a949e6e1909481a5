"""The workbench: experiments, results and the command line. `phasetree.run("transition", preset="quick")` runs one.

What is here stands in `__init__.pyi` and is imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
