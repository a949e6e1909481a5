"""Exact inference on a hierarchy: evidence at the leaves in, probabilities of every node of the tree out."""

from . import belief_propagation as belief_propagation
from . import learning as learning
