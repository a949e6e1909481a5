"""Learn the rules of a grammar from its strings, its tree being known.

`soft_grammar` is what is learned, a probability for every tuple of every symbol; `expectation` learns it by expected
counts of rules, `gradient` by descent; `rules` compares what was learned with a grammar.
"""

from .expectation import Learned as Learned
from .expectation import learn as learn
from .gradient import descend_likelihood as descend_likelihood
from .rules import rules_found as rules_found
from .soft_grammar import SoftGrammar as SoftGrammar
