"""Population dynamics of upward messages, written plainly: explicit true symbols, its own rule table for every node.

Pairs of children only (s = 2), tables drawn by sorting random numbers over all v^2 tuples: for small v.
"""

import numpy as np


def gaussian_leaves(rng, truth, num_symbols, snr):
    """Beliefs of leaves seen as sqrt(abar) e_x + sqrt(1 - abar) z, where snr = abar / (1 - abar)."""
    abar = snr / (1 + snr)
    seen = np.sqrt(abar) * np.eye(num_symbols)[truth] + np.sqrt(1 - abar) * rng.normal(size=(len(truth), num_symbols))
    weight = np.exp(seen * np.sqrt(abar) / (1 - abar))
    return weight / weight.sum(1, keepdims=True)


def masked_leaves(rng, truth, num_symbols, t):
    """Beliefs of leaves that are hidden with probability t."""
    hidden = rng.random(len(truth)) < t
    return np.where(hidden[:, None], 1 / num_symbols, np.eye(num_symbols)[truth])


def overlaps(rng, num_symbols, num_synonyms, leaves, noise, population, depth):
    """Mean belief in the truth after 0 .. depth levels; `leaves` is one of the functions above."""
    everyone = np.arange(population)
    truth = rng.integers(num_symbols, size=population)
    beliefs = leaves(rng, truth, num_symbols, noise)
    curve = [beliefs[everyone, truth].mean()]

    for _ in range(depth):
        table = rng.random((population, num_symbols**2)).argsort(1)[:, : num_symbols * num_synonyms]
        pair = np.stack([table // num_symbols, table % num_symbols])
        rule = rng.integers(num_symbols * num_synonyms, size=population)

        weight = 1.0
        for position in pair:
            child = _with_truth(rng, truth, position[everyone, rule])
            weight = weight * np.take_along_axis(beliefs[child], position, 1)
        weight = weight.reshape(population, num_symbols, num_synonyms).sum(2)

        beliefs, truth = weight / weight.sum(1, keepdims=True), rule // num_synonyms
        curve.append(beliefs[everyone, truth].mean())
    return np.array(curve)


def _with_truth(rng, truth, wanted):
    """For every wanted symbol, a random member of which it is the truth."""
    child = np.empty(len(wanted), int)
    for symbol in np.unique(wanted):
        members = np.flatnonzero(wanted == symbol)
        child[members] = rng.choice(np.flatnonzero(truth == symbol), len(members))
    return child
