"""Laws with a symmetry: rings, mechanics, collisions of particles; each a differentiable map with its counts.

To add one, subclass `AbstractSymmetric` (`law`), and add a line to the list of laws in its tests.
"""
