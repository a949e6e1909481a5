"""Fitting a Gaussian mixture to data: the likelihood's maximum by scikit-learn's expectation maximisation."""

import importlib
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .gaussian import GaussianMixture


def fit_mixture(
    points: Float[Array, "n d"],
    num_components: int,
    *,
    kind: Literal["full", "diagonal", "isotropic"] = "full",
    seed: int = 0,
) -> GaussianMixture:
    """The mixture of largest likelihood that scikit-learn's expectation maximisation finds, of five starts.

    Raises:
      ImportError: if scikit-learn is not installed.
      ValueError: if the kind is unknown.
    """
    names = {"full": "full", "diagonal": "diag", "isotropic": "spherical"}
    if kind not in names:
        raise ValueError(f"kind = {kind!r}: choose among {', '.join(names)}")
    try:
        mixture = importlib.import_module("sklearn.mixture")
    except ImportError as error:
        raise ImportError('fitting mixtures needs scikit-learn: pip install "phasetree[images]"') from error
    model = mixture.GaussianMixture(num_components, covariance_type=names[kind], n_init=5, random_state=seed)
    found = model.fit(np.asarray(points))
    parts = (found.weights_, found.means_, found.covariances_)
    return GaussianMixture(*(jnp.asarray(part, points.dtype) for part in parts))
