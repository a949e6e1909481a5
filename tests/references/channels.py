"""Discrete noise on a finite list of strings, in plain NumPy from the definitions: posteriors, kernels, reverse chains.

Shares no code with the library. A channel at time t is the matrix q[x, y] = q(x_t = y | x_0 = x), one row per symbol;
the mask, where there is one, is the last column. `strings` are (n, sites) with probabilities `prior`.
"""

import itertools

import numpy as np


def masking(num_symbols, t):
    return np.hstack([(1 - t) * np.eye(num_symbols), np.full((num_symbols, 1), t)])


def uniform(num_symbols, t):
    return (1 - t) * np.eye(num_symbols) + t / num_symbols


def masking_step(num_symbols, s, t):
    """q(x_t | x_s) on symbols and mask: what is shown at s is hidden by t with probability (t - s) / (1 - s)."""
    step = np.eye(num_symbols + 1)
    hidden = (t - s) / (1 - s)
    step[:-1, :-1] *= 1 - hidden
    step[:-1, -1] = hidden
    return step


def uniform_step(num_symbols, s, t):
    """q(x_t | x_s): the keep-probabilities multiply, 1 - t = (1 - s)(1 - r)."""
    return uniform(num_symbols, 1 - (1 - t) / (1 - s))


def all_strings(num_values, sites):
    return np.array(list(itertools.product(range(num_values), repeat=sites)))


def likelihoods(strings, noised, channel):
    """q(x_t | x_0) of whole strings, (strings, noised)."""
    table = np.ones((len(strings), len(noised)))
    for site in range(strings.shape[1]):
        table *= channel[strings[:, site][:, None], noised[:, site][None]]
    return table


def posteriors(strings, prior, noised, channel):
    """p(x_0 | x_t), (noised, strings), and p(x_t); rows of zeros where x_t is impossible."""
    joint = (prior[:, None] * likelihoods(strings, noised, channel)).T
    evidence = joint.sum(1)
    return joint / np.where(evidence > 0, evidence, 1)[:, None], evidence


def site_marginals(weights, strings, num_symbols):
    """Posterior of each site, (noised, sites, symbols), from weights of strings (noised, strings)."""
    return np.einsum("yn,nsv->ysv", weights, np.eye(num_symbols)[strings])


def site_reverse_kernel(strings, prior, noised, channel_s, step):
    """Exact p(x_s^i | x_t), (noised, sites, values): sum over strings of the law of (x_0, x_s^i, x_t)."""
    channel_t = channel_s @ step
    weights, _ = posteriors(strings, prior, noised, channel_t)
    kernel = np.zeros((*noised.shape, len(step)))
    for site in range(noised.shape[1]):
        x, y = strings[:, site][None], noised[:, site][:, None]  # (1, strings), (noised, 1)
        # q(x_s | x_0, x_t) = q(x_s | x_0) q(x_t | x_s) / q(x_t | x_0), (noised, strings, values)
        bridge = channel_s[x] * step.T[y] / channel_t[x, y][..., None]
        kernel[:, site] = np.einsum("yn,ynz->yz", weights, bridge)
    return kernel


def independent_product(kernel, noised):
    """The law of the next string if each site is drawn on its own: (noised, noised) from (noised, sites, values)."""
    law = np.ones((len(noised), len(noised)))
    for site in range(noised.shape[1]):
        law *= kernel[:, site][:, noised[:, site]]
    return law
