"""Memorisation: what a model has copied from its training set.

`copies` judges generated data. The rest read it off a denoiser at given data: `p_laplace` tells how sharp a maximum of
the density a point is, `detectors` compares this and other scores on training and held-out data, by the rates of `roc`,
and `collapse` tells which coordinates of a datum are memorised. Every score is oriented: large means memorised.
"""

from .copies import is_copy as is_copy
from .p_laplace import p_laplace as p_laplace
from .p_laplace import p_laplacian as p_laplacian
