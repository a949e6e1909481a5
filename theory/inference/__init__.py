"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

`belief_propagation` is the public interface, `logarithmic` is right for any evidence, `fast` is for speed, `questions`
asks more of the messages, and `learning` finds the rules. What is public here stands in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
