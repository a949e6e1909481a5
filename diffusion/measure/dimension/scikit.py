"""The dimension of a user's own array as a scikit-learn estimator, `DiffusionDimension().fit(X).dimension_`.

It has scikit-learn's contract: parameters are attributes, `fit` computes, results end in an underscore. It computes
`from_data`, or, where a denoiser of such data is given, `automatic`.
"""

from typing import Any

import jax
import numpy as np

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError(
        "DiffusionDimension is an estimator of scikit-learn, which is not installed: pip install scikit-learn, or call "
        "diffusion.measure.dimension.from_data(key, X), which needs nothing more"
    ) from error

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import as_whole

from .from_data import LEAST, POINTS, from_data
from .noise_level import automatic

ASKED = 64  # data at which a denoiser is asked


class DiffusionDimension(BaseEstimator):
    """The intrinsic dimension of the rows of X.

    Args:
      denoiser: of such rows, trained for example; None: X itself is all that is known, as of `from_data`.
      num_points: around how many of the rows, drawn at random; None: 2500, or 64 of which a denoiser is asked.
      neighbours: None, or of how many neighbours `dimension_pw_` is an average; without a denoiser.
      random_state: a whole number, None, or a `numpy.random.RandomState`.

    Attributes (after `fit`):
      dimension_: the estimate; `stderr_`: its standard error.
      dimension_pw_: of each row, if `neighbours` is given; with a denoiser, of each row that was drawn.
      flags_: how many rows each flag marks.
      reason_: why a denoiser was asked at its noise level; "" without.
    """

    def __init__(
        self,
        denoiser: Any = None,
        num_points: Any = None,
        neighbours: Any = None,
        random_state: Any = None,
    ):  # scikit-learn's contract: nothing is checked before `fit`
        self.denoiser = denoiser
        self.num_points = num_points
        self.neighbours = neighbours
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "DiffusionDimension":
        """Estimate the dimension of the rows of X, (n, d); y is not read.

        Raises:
          ValueError: if X is no array of finite numbers, or has fewer than ten different rows.
        """
        rows = np.asarray(validate_data(self, X, dtype="numeric", ensure_min_samples=LEAST))
        key = jax.random.key(int(check_random_state(self.random_state).randint(2**31 - 1)))
        if self.denoiser is None:
            self._from_data(key, rows)
        else:
            self._from_denoiser(key, rows, self.denoiser)
        return self

    def _from_data(self, key: Any, rows: np.ndarray) -> None:
        whole_key, local_key = jax.random.split(key)
        found = from_data(whole_key, rows, num_points=POINTS if self.num_points is None else self.num_points)
        self.dimension_, self.stderr_, self.reason_ = float(found.value), float(found.stderr), ""
        self.flags_ = {name: int(marks) for name, marks in found.flags.items()}
        if self.neighbours is not None:
            self.dimension_pw_ = np.asarray(from_data(local_key, rows, neighbours=self.neighbours).value)

    def _from_denoiser(self, key: Any, rows: np.ndarray, denoiser: AbstractDenoiser) -> None:
        which_key, draws_key = jax.random.split(key)
        count = ASKED if self.num_points is None else as_whole("num_points", self.num_points, 2)
        chosen = np.asarray(jax.random.permutation(which_key, len(rows)))[:count]
        found = automatic(draws_key, denoiser, rows[chosen].reshape(-1, *denoiser.shape))
        self.dimension_, self.stderr_ = float(found.overall.value), float(found.overall.stderr)
        self.dimension_pw_, self.reason_ = np.asarray(found.value), found.reason
        self.flags_ = {name: int(marks.sum()) for name, marks in found.flags.items()}
