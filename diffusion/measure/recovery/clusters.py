r"""Who puts tuples with like counts into one group; scikit-learn does the work.

Rows of counts c (tuples x features) become what is clustered:

    KMeans, Mixture    relative frequencies c_tf / sum_f c_tf
    PMIEmbedding       ln of c_tf N / (c_t c_f), with half a count added, along its leading singular vectors
    Factors            p(t | f) = sum_a p(t | a) p(a | f): a non-negative factorisation of the counts themselves. A
                       feature is a domain in which the hidden symbols have another share, and each tuple goes to the
                       symbol that explains most of it (label shift)

Source of the last: Roberts et al., arXiv:2207.13179.
"""

import abc
import importlib
import warnings
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from .statistics import Clusters, Counts

MISSING = "recovery clusters with scikit-learn, which is not installed: pip install scikit-learn"
STARTS = 10  # of which the best is taken
ROUNDED = 12  # digits in which two points are the same


class AbstractClustering(eqx.Module):
    """Puts rows of counts into groups."""

    @abc.abstractmethod
    def groups(self, key: Key[Array, ""], counts: Counts, num_groups: int) -> Clusters:
        """The group of each row, 0 .. num_groups - 1; fewer groups where rows fall on fewer points."""


class KMeans(AbstractClustering):
    """Nearest means of frequencies, rows weighed by their counts."""

    def groups(self, key, counts, num_groups):
        return _k_means(key, frequencies(counts), counts.sum(1), num_groups)


class Mixture(AbstractClustering):
    """A mixture of round normal components of one width each, fitted to frequencies."""

    def groups(self, key, counts, num_groups):
        rows = frequencies(counts)
        spread = float(np.mean(np.var(rows, 0)))
        mixture = sklearn_part("mixture").GaussianMixture(
            num_groups, covariance_type="spherical", n_init=STARTS, reg_covar=1e-3 * spread + 1e-12,
            random_state=_seed(key), max_iter=500, tol=1e-2,
        )  # fmt: skip
        return mixture.fit_predict(rows)


class PMIEmbedding(AbstractClustering):
    """Nearest means of the pointwise mutual information, along as many singular vectors as there are groups."""

    def groups(self, key, counts, num_groups):
        smooth = counts + 0.5
        total = smooth.sum()
        pmi = np.log(smooth * total / (smooth.sum(1, keepdims=True) * smooth.sum(0, keepdims=True)))
        left, values, _ = np.linalg.svd(pmi, full_matrices=False)
        rank = min(num_groups, len(values))
        return _k_means(key, left[:, :rank] * values[:rank], counts.sum(1), num_groups)


class Factors(AbstractClustering):
    """Non-negative factors of the counts, with the divergence of Kullback and Leibler: label shift."""

    def groups(self, key, counts, num_groups):
        seen = counts[:, counts.sum(0) > 0]
        domains = seen / seen.sum(0)
        first = _seed(key)
        fits = [self._fit(seed, domains, num_groups) for seed in range(first, first + STARTS)]
        _, shares, common = min(fits, key=lambda fit: fit[0])
        return np.argmax(shares * common, 1)

    def _fit(
        self, seed: int, domains: Counts, num_groups: int
    ) -> tuple[float, Float[np.ndarray, "tuples groups"], Float[np.ndarray, " groups"]]:
        """The divergence that is left; p(t | a), times how common a is; and how common each a is."""
        model = sklearn_part("decomposition").NMF(
            num_groups, init="random", solver="mu", beta_loss="kullback-leibler", max_iter=1000, tol=1e-4,
            random_state=seed % 2**32,
        )  # fmt: skip
        with warnings.catch_warnings():  # starts that end unconverged are compared all the same
            warnings.simplefilter("ignore", sklearn_part("exceptions").ConvergenceWarning)
            shares = model.fit_transform(domains)
        return float(model.reconstruction_err_), shares, model.components_.sum(1)


def frequencies(counts: Counts) -> Counts:
    """Rows that sum to 1; a row without counts is that of all rows together, which says nothing of it."""
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), counts.sum(0) / counts.sum())


def _k_means(key: Key[Array, ""], rows: Counts, weights: Float[np.ndarray, " tuples"], num_groups: int) -> Clusters:
    points = len(np.unique(rows.round(ROUNDED), axis=0))
    model = sklearn_part("cluster").KMeans(min(num_groups, points), n_init=STARTS, random_state=_seed(key))
    return model.fit_predict(rows, sample_weight=weights).astype(np.int64)


def sklearn_part(part: str) -> Any:
    """A module of scikit-learn.

    Raises:
      ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise ImportError(MISSING) from error


def _seed(key: Key[Array, ""]) -> int:
    return int(jax.random.bits(key, (), np.uint32))
