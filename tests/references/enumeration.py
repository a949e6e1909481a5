"""The random hierarchy model as a finite list: every derivation with its probability, in plain NumPy.

Written from the definition; shares no code with the library. `derivations` expands the root into all rules, then every
node of the next level into all of its rules, and so on; `filtered` replaces the top by independent draws. Everything
else is a sum over that list.
"""

import itertools

import numpy as np


def derivations(rules, rule_probs):
    """All (probability, levels) of a grammar; levels are tuples of symbols, root first."""
    todo = [(1 / len(rules[0]), ((root,),)) for root in range(len(rules[0]))]
    for table, probs in zip(rules, rule_probs, strict=True):
        todo = [longer for datum in todo for longer in _expand(datum, table, probs)]
    return todo


def _expand(datum, table, probs):
    weight, levels = datum
    for choice in itertools.product(*(range(table.shape[1]) for _ in levels[-1])):
        factor = np.prod([probs[a, k] for a, k in zip(levels[-1], choice, strict=True)])
        children = tuple(int(x) for a, k in zip(levels[-1], choice, strict=True) for x in table[a, k])
        yield weight * factor, (*levels, children)


def filtered(rules, rule_probs, level):
    """All derivations of the grammar filtered at `level`: its nodes are independent given the root."""
    num_classes = len(rules[0])
    above = derivations(rules[:level], rule_probs[:level])
    num_nodes, num_symbols = (
        len(above[0][1][-1]),
        len(rules[level]) if level < len(rules) else 1 + max(max(levels[-1]) for _, levels in above),
    )
    law = np.zeros((num_nodes, num_classes, num_symbols))
    for weight, levels in above:
        for node, symbol in enumerate(levels[-1]):
            law[node, levels[0][0], symbol] += weight * num_classes
    todo = []
    for root in range(num_classes):
        for symbols in itertools.product(range(num_symbols), repeat=num_nodes):
            weight = np.prod([law[node, root, symbol] for node, symbol in enumerate(symbols)]) / num_classes
            if weight > 0:
                todo.append((weight, ((root,), *[()] * (level - 1), symbols)))
    for table, probs in zip(rules[level:], rule_probs[level:], strict=True):
        todo = [longer for datum in todo for longer in _expand(datum, table, probs)]
    return todo


def broken(rules, rule_probs, level, num_symbols, filter_level=0):
    """All (probability, node, levels) of a grammar with the rule of one node of `level` broken.

    The children that the node has in a derivation are replaced by each tuple that is nowhere in the table, all equally
    likely, and the derivation goes on below.
    """
    tables, probs = rules[: level + 1], rule_probs[: level + 1]
    whole = filtered(tables, probs, filter_level) if filter_level else derivations(tables, probs)
    table = rules[level]
    given = {tuple(x) for x in table.reshape(-1, table.shape[2]).tolist()}
    free = [x for x in itertools.product(range(num_symbols), repeat=table.shape[2]) if x not in given]
    todo = []
    for weight, levels in whole:
        for node, x in itertools.product(range(len(levels[level])), free):
            start = node * table.shape[2]
            children = (*levels[-1][:start], *x, *levels[-1][start + len(x) :])
            todo.append((weight / len(levels[level]) / len(free), node, (*levels[:-1], children)))
    for table, probs in zip(rules[level + 1 :], rule_probs[level + 1 :], strict=True):
        todo = [(longer[0], node, longer[1]) for weight, node, levels in todo
                for longer in _expand((weight, levels), table, probs)]  # fmt: skip
    return todo


def posterior(data, log_likelihoods):
    """ln p(y) and the normalised posterior weight of every derivation, in float64."""
    sites = np.arange(len(log_likelihoods))
    with np.errstate(divide="ignore"):
        logs = np.array([np.log(weight) + log_likelihoods[sites, levels[-1]].sum() for weight, levels in data])
    top = logs.max()
    if top == -np.inf:
        return -np.inf, np.zeros(len(data))
    weights = np.exp(logs - top)
    return top + np.log(weights.sum()), weights / weights.sum()


def marginals(data, weights, sizes):
    """Tables (nodes, symbols) of each level from the posterior weights of the derivations."""
    tables = [np.zeros((len(level), size)) for level, size in zip(data[0][1], sizes, strict=True)]
    for (_, levels), weight in zip(data, weights, strict=True):
        for table, level in zip(tables, levels, strict=True):
            table[np.arange(len(level)), np.array(level, int)] += weight
    return tables


def entropy(data):
    """Entropy of the derivations, nats."""
    weights = np.array([weight for weight, _ in data])
    return float(-(weights * np.log(weights)).sum())
