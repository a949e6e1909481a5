"""Small grammars, each with the list of all its derivations: the common ground of the exact tests."""

import functools

import jax
import numpy as np

from hierarchical import RandomHierarchyModel
from tests.references import enumeration

CASES = {
    "uniform": dict(num_symbols=3, num_synonyms=2, branching=2, depth=2),
    "classes": dict(num_symbols=4, num_synonyms=2, branching=2, depth=2, num_classes=3),
    "zipf": dict(num_symbols=4, num_synonyms=3, branching=2, depth=2, zipf_exponent=(0.5, None)),
    "per-level": dict(num_symbols=(4, 3), num_synonyms=(3, 2), branching=(2, 3), num_classes=2, zipf_exponent=1.0),
    "shared": dict(num_symbols=3, num_synonyms=2, branching=2, depth=2, shared_rules=True),
    "filtered-1": dict(num_symbols=3, num_synonyms=2, branching=2, depth=2, filter_level=1, zipf_exponent=1.0),
    "filtered-2": dict(num_symbols=3, num_synonyms=2, branching=2, depth=2, filter_level=2),
}


@functools.cache
def enumerated(name: str, seed: int = 0):
    """A grammar of `CASES` and all its derivations."""
    rhm = RandomHierarchyModel(**CASES[name], key=jax.random.key(seed))
    rules = [np.asarray(table) for table in rhm.rules]
    probs = [np.exp(np.asarray(rhm.log_prob_of_rules(level), np.float64)) for level in range(rhm.depth)]
    if rhm.filter_level:
        return rhm, enumeration.filtered(rules, probs, rhm.filter_level)
    return rhm, enumeration.derivations(rules, probs)
