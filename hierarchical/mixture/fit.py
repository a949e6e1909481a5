r"""Fitting a Gaussian mixture to data: the largest likelihood, by scikit-learn's expectation maximisation.

The likelihood is equivariant: the best mixture for the points (x - c) / s has the means (mu_k - c) / s and covariances
S_k / s^2. The fit runs in float64 on points of mean 0 and mean squared coordinate 1, since scikit-learn works in the
precision of its input (float32 far from the origin leaves nothing of a variance) and adds 10^-6 to every variance so
that covariances stay invertible: here that is 10^-6 of the data's own variance, whatever their unit.
"""

import importlib
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Num, Shaped

from .gaussian import GaussianMixture

_KINDS = {"full": "full", "diagonal": "diag", "isotropic": "spherical"}  # scikit-learn's names
_REAL = (jnp.integer, jnp.floating)


def fit_mixture(
    points: Num[Array | np.ndarray, "..."],
    num_components: int,
    *,
    kind: Literal["full", "diagonal", "isotropic"] = "full",
    seed: int = 0,
) -> GaussianMixture:
    """The mixture of largest likelihood that scikit-learn's expectation maximisation reaches from five starts.

    Variances are at least 10^-6 of the variance of all coordinates together: a component of fewer points than
    dimensions is flat, and ends there.

    Args:
      points: (n, d), at least as many different points as components. The mixture has their dtype, or JAX's default
        float for integers.
      kind: covariances with all entries, diagonal, or proportional to the identity.
      seed: decides the starts.

    Raises:
      ImportError: if scikit-learn is not installed.
      ValueError: if the kind is unknown, the points are not an (n, d) array of finite real numbers, or too few of them
        are different.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind = {kind!r}: choose among {', '.join(_KINDS)}")
    given = np.asarray(points)
    data = _checked(given, num_components)
    try:
        mixture = importlib.import_module("sklearn.mixture")
    except ImportError as error:
        raise ImportError('fitting mixtures needs scikit-learn: pip install "phasetree[images]"') from error
    centre = data.mean(0)
    scale = math.sqrt(np.mean((data - centre) ** 2))
    model = mixture.GaussianMixture(num_components, covariance_type=_KINDS[kind], n_init=5, random_state=seed)
    fitted = model.fit((data - centre) / scale)
    parts = (fitted.weights_, centre + scale * fitted.means_, scale**2 * fitted.covariances_)
    dtype = given.dtype if jnp.issubdtype(given.dtype, jnp.floating) else float
    return GaussianMixture(*(jnp.asarray(part, jax.dtypes.canonicalize_dtype(dtype)) for part in parts))


def _checked(points: Shaped[np.ndarray, "..."], num_components: int) -> Float64[np.ndarray, "n d"]:
    """The points in float64."""
    if points.ndim != 2 or 0 in points.shape or not any(jnp.issubdtype(points.dtype, kind) for kind in _REAL):
        raise ValueError(f"points are {points.dtype} of shape {points.shape}: give real numbers of shape (n, d)")
    data = np.asarray(points, np.float64)
    bad = np.flatnonzero(~np.isfinite(data).all(1))
    if bad.size:
        raise ValueError(f"{bad.size} of {len(data)} points are NaN or infinite, first point {bad[0]}: remove them")
    different = len(np.unique(data, axis=0))
    if num_components < 1 or different < max(num_components, 2):
        raise ValueError(
            f"num_components = {num_components}, {len(data)} points, {different} of them different: give at least 1 "
            f"component, at least 2 different points, and no more components than different points"
        )
    return data
