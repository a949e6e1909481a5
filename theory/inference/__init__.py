"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

`belief_propagation` is the public interface, `logarithmic` is right for any evidence, and `fast` is for speed.
"""
