"""The minimum of the free energy of a linear autoencoder, from the eigenvalues of the covariance: plain NumPy.

Along each principal axis alone, error and information of a decoder column w and latent variance s are

    F(w, v, s) = 1/2 (1 - w v)^2 lambda + 1/2 s w^2 + tau/2 (v^2 lambda + s - ln s - 1),        mu = v x.

Its derivatives vanish at v = w / (w^2 + tau), s = tau / (w^2 + tau) and w = 0 or w^2 = lambda - tau, the latter less if
lambda > tau.
"""

import numpy as np


def optimum(eigenvalues, tau, num_latents):
    """Measures of each latent, by falling eigenvalue, and the free energy."""
    eigenvalues = np.asarray(eigenvalues, float)
    w2 = np.maximum(eigenvalues - tau, 0)
    w2[num_latents:] = 0
    v, s = np.sqrt(w2) / (w2 + tau), tau / (w2 + tau)
    signal = v**2 * eigenvalues
    kl = (signal + s - np.log(s) - 1) / 2
    error = (1 - np.sqrt(w2) * v) ** 2 * eigenvalues / 2
    latents = slice(num_latents)
    return {
        "snr": (signal / s)[latents],
        "kl": kl[latents],
        "mean_variance": signal[latents],
        "ablation": (eigenvalues / 2 - error)[latents],
        "columns": np.sqrt(w2)[latents],
        "free energy": np.sum(error + s * w2 / 2 + tau * kl),
    }


def learned_noise(eigenvalues, beta, num_latents):
    """eta^2 = (rest of the variance) / (d - active beta), where exactly the active eigenvalues are above beta eta^2."""
    d = len(eigenvalues)
    for active in range(min(num_latents, d - 1), -1, -1):
        rest = float(np.sum(eigenvalues[active:]))
        noise = rest / (d - active * beta) if d > active * beta else np.inf
        if np.sum(np.asarray(eigenvalues[:num_latents]) > beta * noise) == active:
            return noise
    raise AssertionError("no number of active latents fits")
