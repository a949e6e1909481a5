"""The laws of the data: grammars, mixtures, and real text."""

from .grammar import Derivation as Derivation
from .grammar import RandomHierarchyModel as RandomHierarchyModel
from .grammar import draw_rules as draw_rules
