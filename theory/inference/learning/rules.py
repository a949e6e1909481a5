r"""Which rules of a grammar were learned, whatever names its symbols got.

From the leaves upward, whose symbols have their names, each learned symbol is given the name of a true one: that
assignment under which most probability lies on true rules (Hungarian algorithm). With these names the tuples of the
next level are read. Of each symbol the m most likely tuples are its learned rules, m being that of the grammar.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from hierarchical import RandomHierarchyModel

from .soft_grammar import SoftGrammar


def rules_found(learned: SoftGrammar, rhm: RandomHierarchyModel) -> Float[np.ndarray, " levels"]:
    """The share of the grammar's rules of each level, root first, that are among the learned ones.

    A learned grammar of one class has no classes: at the root, the tuples of all classes are compared together.

    Raises:
      ValueError: if the sizes of the two differ.
    """
    have = [(len(rows), *table.shape[1:]) for rows, table in zip(learned.log_probs, learned.tuples, strict=True)]
    want = [(n, rules.shape[2]) for n, rules in zip(rhm.vocabulary, rhm.rules, strict=False)]
    fits = have[1:] == want[1:] and have[0] in ((1, want[0][1]), want[0])
    if not fits or learned.num_symbols != rhm.num_symbols:
        raise ValueError(f"the learned grammar has (symbols, children) {have}, the other one {want}: make them agree")
    names, shares = np.arange(rhm.num_symbols), []
    for level in reversed(range(rhm.depth)):
        rules = np.asarray(rhm.rules[level])
        if len(learned.log_probs[level]) != len(rules):
            rules = rules.reshape(1, -1, rules.shape[2])
        share, names = _of_level(np.exp(learned.log_probs[level]), names[np.asarray(learned.tuples[level])], rules)
        shares.append(share)
    return np.array(shares[::-1])


def _of_level(
    probs: Float[np.ndarray, "parents tuples"],
    tuples: Int[np.ndarray, "tuples branching"],
    rules: Int[np.ndarray, "parents synonyms branching"],
) -> tuple[float, Any]:
    """The share of rules found, and the true name of each learned symbol."""
    is_rule = np.all(tuples[:, None, None] == rules[None], -1).any(-1)  # (tuples, true parents)
    learned, true = linear_sum_assignment(-(probs @ is_rule))
    names = np.empty(len(probs), int)
    names[learned] = true
    likeliest = np.argsort(-probs, 1, kind="stable")[:, : rules.shape[1]]
    found = sum(is_rule[likeliest[a], b].sum() for a, b in zip(learned, true, strict=True))
    return float(found) / (rules.shape[0] * rules.shape[1]), names
