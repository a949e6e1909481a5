r"""When a direction of the data shows in the spectrum of finitely many samples: the BBP transition.

n data in d dimensions, of variance s^2 across one direction u and s^2 (1 + theta) along it, have a sample covariance
whose eigenvalues fill, for d / n = gamma and d large, the interval

    s^2 (1 - gamma^(1/2))^2  ..  s^2 (1 + gamma^(1/2))^2                               (Marchenko & Pastur).         (1)

The direction has an eigenvalue of its own if and only if

    theta > gamma^(1/2),            at      s^2 (1 + theta) (1 + gamma / theta),                                    (2)

and the eigenvector then points along u with

    (v . u)^2 = (1 - gamma / theta^2) / (1 + gamma / theta),                                                        (3)

which is 0 at the threshold and below. Two equally likely modes +-m of variance s^2 in all coordinates have
theta = |m|^2 / s^2: with fewer than d / theta^2 data no direction of the covariance says that there are two modes.

Source: Baik, Ben Arous & Peche, arXiv:math/0403022 (2); Paul, Statistica Sinica 17, 2007 (3).
"""

import math

from ..domain import Number, positive


def outlier_threshold(aspect: Number) -> float:
    """theta above which the direction has an eigenvalue of its own: gamma^(1/2), for gamma = d / n.

    Raises:
      ValueError: as all functions of this file, if a number is not positive and finite.
    """
    return math.sqrt(positive("aspect", aspect))


def top_eigenvalue(spike: Number, aspect: Number, variance: Number = 1.0) -> float:
    """The largest eigenvalue of the sample covariance: (2) above the threshold, the upper edge of (1) below it.

    Args:
      spike: theta, the direction's excess variance over s^2.
      aspect: gamma, dimensions over data.
      variance: s^2.
    """
    theta, gamma, scale = positive("spike", spike), positive("aspect", aspect), positive("variance", variance)
    if theta <= outlier_threshold(gamma):
        return scale * (1 + math.sqrt(gamma)) ** 2
    return scale * (1 + theta) * (1 + gamma / theta)


def overlap(spike: Number, aspect: Number) -> float:
    """(v . u)^2 of the leading eigenvector, equation (3), from 0 below the threshold to 1. Arguments as above."""
    theta, gamma = positive("spike", spike), positive("aspect", aspect)
    return max(0.0, (1 - gamma / theta**2) / (1 + gamma / theta)) if theta > outlier_threshold(gamma) else 0.0
