"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out.

`belief_propagation` is the public interface, `logarithmic` is right for any evidence, `fast` is for speed, and
`questions` asks more of the messages.
"""
