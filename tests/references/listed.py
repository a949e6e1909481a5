"""What every operation of inference answers, read off the list of all trees of a grammar: plain NumPy, no recursion.

Evidence is a list of arrays (nodes, symbols), one for each level, root first.
"""

import numpy as np

from . import enumeration


class Listed:
    """All trees of a grammar, in the order of its rules, with their probabilities."""

    def __init__(self, rules, probs, filter_level=0):
        trees = (
            enumeration.filtered(rules, probs, filter_level) if filter_level else enumeration.derivations(rules, probs)
        )
        trees = [(weight, levels) for weight, levels in trees if weight > 0]
        self.rules, self.probs, self.filter_level = rules, probs, filter_level
        self.log_prior = np.log([weight for weight, _ in trees])
        self.levels = [np.array([levels[level] for _, levels in trees], int) for level in range(len(rules) + 1)]

    def sizes(self, evidence):
        return [table.shape[1] for table in evidence]

    def log_likelihood(self, evidence, of=lambda level, node: True):
        """The evidence of each tree, of the nodes that are asked for."""
        total = np.zeros(len(self.log_prior))
        for level, (table, symbols) in enumerate(zip(evidence, self.levels, strict=True)):
            for node in range(symbols.shape[1]):
                if of(level, node):
                    total = total + table[node, symbols[:, node]]
        return total

    def below(self, level, node):
        """Whether a node is `node` of `level` or below it."""

        def of(other, at):
            for rules in reversed(self.rules[level:other]):
                at //= rules.shape[2]
            return other >= level and at == node

        return of

    def weights(self, log_likelihood):
        """ln p(y), and the posterior of every tree; zeros where the evidence is impossible."""
        logs = self.log_prior + log_likelihood
        top = logs.max()
        if top == -np.inf:
            return -np.inf, np.zeros(len(logs))
        weights = np.exp(logs - top)
        return top + np.log(weights.sum()), weights / weights.sum()

    def table(self, weights, level, node, symbols):
        return np.bincount(self.levels[level][:, node], weights, symbols)

    def tables(self, evidence, weights_of_node, start=0):
        """A table for each level from `start` on, from weights of the trees that depend on the node."""
        return [
            np.array([self.table(weights_of_node(level, node), level, node, v) for node in range(len(evidence[level]))])
            .reshape(-1, v)
            for level, v in enumerate(self.sizes(evidence))
            if level >= start
        ]  # fmt: skip

    def log_evidence(self, evidence):
        return self.weights(self.log_likelihood(evidence))[0]

    def marginals(self, evidence):
        _, weights = self.weights(self.log_likelihood(evidence))
        return self.tables(evidence, lambda level, node: weights)

    def cavity_marginals(self, evidence):
        def outside(level, node):
            inside = self.below(level, node)
            return self.weights(self.log_likelihood(evidence, lambda *at: not inside(*at)))[1]

        return self.tables(evidence, outside)

    def local_marginals(self, evidence, top):
        def window(level, node):
            for rules in reversed(self.rules[top:level]):
                node //= rules.shape[2]
            return self.weights(self.log_likelihood(evidence, self.below(top, node)))[1]

        return self.tables(evidence, window, top)

    def upward_messages(self, evidence):
        """ln E exp(evidence of the subtree), of the trees with a symbol at its root; NaN where no tree has it."""

        def below(level, node):
            return np.exp(self.log_prior + self.log_likelihood(evidence, self.below(level, node)))

        prior = self.tables(evidence, lambda level, node: np.exp(self.log_prior))
        with np.errstate(divide="ignore", invalid="ignore"):
            return [np.log(x / p) for x, p in zip(self.tables(evidence, below), prior, strict=True)]

    def posterior_entropy(self, evidence):
        log_sum, weights = self.weights(self.log_likelihood(evidence))
        return -np.inf if log_sum == -np.inf else -(weights[weights > 0] * np.log(weights[weights > 0])).sum()

    def top_k(self, evidence, k):
        """ln p of the k most likely trees, and their levels; -inf and -1 where there are fewer."""
        logs = self.log_prior + self.log_likelihood(evidence)
        order = np.argsort(-logs, kind="stable")[:k]
        possible = logs[order] > -np.inf
        return logs[order], [np.where(possible[:, None], level[order], -1) for level in self.levels]

    def most_likely(self, evidence):
        log_prob, levels = self.top_k(evidence, 1)
        return log_prob[0], [level[0] for level in levels]

    def rule_counts(self, evidence):
        _, weights = self.weights(self.log_likelihood(evidence))
        counts = [np.zeros(rules.shape[:2]) for rules in self.rules]
        for level in range(self.filter_level, len(self.rules)):
            rules, parents = self.rules[level], self.levels[level]
            children = self.levels[level + 1].reshape(*parents.shape, -1)
            for a, k in np.ndindex(counts[level].shape):
                used = (parents == a) & (children == rules[a, k]).all(-1)
                counts[level][a, k] = weights @ used.sum(1)
        return counts

    def count_derivations(self, evidence):
        left = np.isfinite(self.log_likelihood(evidence)).sum()
        return np.log(left) if left else -np.inf
