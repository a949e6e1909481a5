"""Ensemble averages over all rule tables, by listing every one of them: plain NumPy and dictionaries, tiny sizes only.

A rule table deals v*m distinct s-tuples to v parents, m each; every ordered choice is equally likely.
"""

import itertools
from collections import defaultdict

import numpy as np


def rule_tables(num_symbols, num_synonyms, branching):
    """Every table, as a list over parents of tuples of rules."""
    tuples = list(itertools.product(range(num_symbols), repeat=branching))
    for chosen in itertools.permutations(tuples, num_symbols * num_synonyms):
        yield [chosen[y * num_synonyms : (y + 1) * num_synonyms] for y in range(num_symbols)]


def annealed_up(p, num_symbols, num_synonyms, branching):
    """Belief in a parent's truth when its unnormalised message is averaged over all tables and true rules."""
    weight = np.zeros(2)  # on the truth, on everything
    for table in rule_tables(num_symbols, num_synonyms, branching):
        for true_rule in table[0]:
            for y, rules in enumerate(table):
                for rule in rules:
                    w = np.prod(
                        [p if x == t else (1 - p) / (num_symbols - 1) for x, t in zip(rule, true_rule, strict=True)]
                    )
                    weight += [w * (y == 0), w]
    return weight[0] / weight[1]


def annealed_down(q, p, num_symbols, num_synonyms, branching):
    """Belief sent to the first child when its unnormalised message is averaged over all tables and true rules."""
    weight = np.zeros(2)
    for table in rule_tables(num_symbols, num_synonyms, branching):
        for true_rule in table[0]:
            for y, rules in enumerate(table):
                above = q if y == 0 else (1 - q) / (num_symbols - 1)
                for rule in rules:
                    siblings = zip(rule[1:], true_rule[1:], strict=True)
                    w = above * np.prod([p if x == t else (1 - p) / (num_symbols - 1) for x, t in siblings])
                    weight += [w * (rule[0] == true_rule[0]), w]
    return weight[0] / weight[1]


def mask_leaves(num_symbols, t):
    """Law of a leaf's message for each true symbol: {message: probability}."""
    uniform = (1 / num_symbols,) * num_symbols
    return [{tuple(np.eye(num_symbols)[x]): 1 - t, uniform: t} for x in range(num_symbols)]


def replaced_leaves(num_symbols, t):
    """The same when a fraction t of the leaves is replaced by a uniform symbol."""
    laws = []
    for x in range(num_symbols):
        law = {}
        for seen in range(num_symbols):
            likelihood = tuple(np.round((1 - t) * np.eye(num_symbols)[seen] + t / num_symbols, 12))
            law[likelihood] = likelihood[x]
        laws.append(law)
    return laws


def parent_laws(laws, num_symbols, num_synonyms, branching):
    """Law of the message one level up, for each true symbol, fresh rules at every node."""
    tables = list(rule_tables(num_symbols, num_synonyms, branching))
    parents = []
    for truth in range(num_symbols):
        law = defaultdict(float)
        for table in tables:
            for true_rule in table[truth]:
                for children in itertools.product(*(laws[x].items() for x in true_rule)):
                    messages = [message for message, _ in children]
                    chance = np.prod([probability for _, probability in children])
                    u = [sum(np.prod([messages[i][x] for i, x in enumerate(rule)]) for rule in y) for y in table]
                    law[tuple(np.round(np.array(u) / sum(u), 12))] += chance / (len(tables) * num_synonyms)
        parents.append(dict(law))
    return parents


def overlap(laws):
    """Mean belief in the truth, each true symbol equally likely."""
    return np.mean([sum(message[x] * w for message, w in law.items()) for x, law in enumerate(laws)])
