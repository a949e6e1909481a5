"""Numbers of strings: where a curve that rises with the logarithm of their number crosses 1/2, grammar by grammar."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion.measure import Estimate, mean_estimate

HALF = 0.5
NONE = Estimate(jnp.asarray(np.nan), jnp.asarray(np.nan))


def crossing(samples: np.ndarray, index: Float[np.ndarray, " samples"]) -> float:
    """ln P at which the index first reaches 1/2, linear in ln P between; NaN if it begins above or stays below."""
    above = np.flatnonzero(index >= HALF)
    if not len(above) or above[0] == 0:
        return np.nan
    j, logs = above[0], np.log(samples)
    share = (HALF - index[j - 1]) / (index[j] - index[j - 1])
    return float(logs[j - 1] + share * (logs[j] - logs[j - 1]))


def geometric_mean(logs: Float[np.ndarray, " grammars"]) -> Estimate:
    """exp of the mean of logarithms; not resolved if one of them is not."""
    if np.isnan(logs).any():
        return NONE
    mean = mean_estimate(logs)
    value = np.exp(float(mean.value))
    return Estimate(jnp.asarray(value), jnp.asarray(value * float(mean.stderr)))


def geometric_ratio(logs: Float[np.ndarray, " grammars"], over: Float[np.ndarray, " grammars"]) -> Estimate:
    """The ratio of two geometric means over independent grammars."""
    first, second = geometric_mean(logs), geometric_mean(over)
    value = float(first.value) / float(second.value)
    error = np.hypot(float(first.stderr) / float(first.value), float(second.stderr) / float(second.value))
    return Estimate(jnp.asarray(value), jnp.asarray(value * error))
