"""Is this sample drawn from that law?"""

import numpy as np
from scipy import stats


def assert_drawn_from(counts, probabilities, significance=1e-3):
    """Pearson's chi-square test of counts; cells that expect fewer than 5 are taken together, impossible ones empty."""
    counts, expected = np.ravel(counts), np.ravel(probabilities) * np.sum(counts)
    assert (counts[expected == 0] == 0).all(), "something impossible was drawn"
    few = expected < 5
    counts, expected = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    if len(counts) > 1:
        assert stats.chisquare(counts, expected).pvalue > significance


def count(rows, values):
    """How often each row of `values` occurs in `rows`; a row that does not is an error."""
    index = {tuple(row): i for i, row in enumerate(np.asarray(values).tolist())}
    return np.bincount([index[tuple(row)] for row in np.asarray(rows).tolist()], minlength=len(index))
